"""What the command line tells on standard error while it works, and at the end."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType

from tqdm import tqdm

from .reading import TextInput
from .types import Counts

__all__ = ["Progress", "summary"]

_EVERY = 0.2  # seconds between two looks of the bar


class Progress:
    """Yields the lines of a text, and draws how many of them have come out as arrays.

    The text is read ahead, so that the bytes read say little: a line counts when its array is
    there. Nothing is drawn when standard error is no terminal.
    """

    def __init__(self, text: TextInput, counts: Counts, *, quiet: bool) -> None:
        self._text = text
        self._counts = counts
        # Where in the text some of the lines end, as (line, byte): few, so that a text that is
        # mostly blank lines takes no memory here either.
        self._marks: deque[tuple[int, int]] = deque()
        self._step = (text.size or 0) // 500
        self._begin = self._drawn = time.monotonic()
        self._bar = tqdm(
            total=text.size,
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            file=sys.stderr,
            disable=True if quiet or sys.stderr is None else None,
            bar_format=None if text.size is None else "{l_bar}{bar}| {remaining} left{postfix}",
        )

    def __iter__(self) -> Iterator[str]:
        marked = 0
        for number, line in enumerate(self._text, 1):
            if self._text.bytes_read - marked > self._step and not self._bar.disable:
                marked = self._text.bytes_read
                self._marks.append((number, marked))
            yield line

    def update(self) -> None:
        """Draw how far the lines reach that have come out."""
        if self._bar.disable:
            return
        while self._marks and self._marks[0][0] <= self._counts.lines:
            _, done = self._marks.popleft()
            self._bar.update(done - self._bar.n)
        now = time.monotonic()
        if now - self._drawn >= _EVERY:
            self._drawn = now
            rate = self._counts.words / (now - self._begin)
            self._bar.set_postfix_str(
                f"{self._counts.sentences:,} sentences, {rate:,.0f} words/s", refresh=False
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.close()


def summary(text: TextInput, counts: Counts, output: str, size: int, seconds: float) -> str:
    """Return the line that is told at the end."""
    if not counts.lines:
        return f"{text.name} is empty: wrote an empty list to {output}"
    told = (
        f"{_count(counts.sentences, 'sentence')}, {_count(counts.words, 'word')} -> {output} "
        f"({_bytes(size)}) in {seconds:.1f} s, {counts.words / seconds:,.0f} words/s"
    )
    noted = [
        _count(number, what)
        for number, what in (
            (counts.blank_lines, "blank line"),
            (counts.unknown_words, "unknown word"),
            (counts.empty_words, "word without pieces|words without pieces"),
            (counts.inexact_sentences, "sentence aligned inexactly|sentences aligned inexactly"),
        )
        if number
    ]
    return "; ".join([told, ", ".join(noted)]) if noted else told


def _count(number: int, what: str) -> str:
    """Name a number of things.

    >>> _count(1, "word"), _count(2000, "word"), _count(2, "man|men")
    ('1 word', '2,000 words', '2 men')
    """
    one, _, many = what.partition("|")
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _bytes(size: int) -> str:
    """Write a size in powers of 1000.

    >>> _bytes(999), _bytes(77_300_000)
    ('999 B', '77.3 MB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
