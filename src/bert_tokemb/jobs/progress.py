"""What the command line tells on standard error while it works, and at the end."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from ..humanize import format_bytes, format_count
from ..types import Tally

__all__ = ["Progress", "summary"]

_EVERY = 0.2  # seconds between two looks of the bar
_TEXT = "{l_bar}{bar}| {remaining} left{postfix}"
_STREAM = "{n_fmt}{unit} [{elapsed}{postfix}]"


class Progress:
    """Draws how many words have been encoded; a context manager.

    Nothing is drawn when standard error is no terminal.

    Args:
        words: How many there are, if that is known.
        quiet: Whether to draw nothing in any case.
    """

    def __init__(self, words: int | None, *, quiet: bool) -> None:
        self._sentences = self._words = 0
        self._begin = self._drawn = time.monotonic()
        self._bar = tqdm(
            total=words,
            unit=" words",
            unit_scale=True,
            file=sys.stderr,
            disable=True if quiet or sys.stderr is None else None,
            bar_format=_STREAM if words is None else _TEXT,
        )

    def reach(self, counts: Tally) -> None:
        """Show that so much is done: by an earlier run, or since it was known already."""
        self._bar.update(max(0, counts.words - self._bar.n))
        self._sentences = max(self._sentences, counts.sentences)

    def advance(self, sentences: int, words: int) -> None:
        """Show that a batch has been encoded."""
        self._bar.update(words)
        self._sentences += sentences
        self._words += words
        if time.monotonic() - self._drawn >= _EVERY:
            self._tell()

    def _tell(self) -> None:
        self._drawn = time.monotonic()
        rate = self._words / (self._drawn - self._begin)
        told = f"{format_count(self._sentences, 'sentence')}, {rate:,.0f} words/s"
        self._bar.set_postfix_str(told, refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tell()
        self._bar.close()


def summary(
    text: str,
    counts: Tally,
    output: str,
    size: int,
    seconds: float,
    *,
    before: Tally | None = None,
) -> str:
    """Return the line that is told at the end.

    Args:
        text: The name of what was embedded.
        counts: Of all of it.
        output: Where it went.
        size: Bytes of the result.
        seconds: What it took.
        before: What of it an earlier run had done.
    """
    before = before or Tally()
    if not counts.lines:
        return f"{text} is empty: wrote an empty result to {output}"
    told = (
        f"{format_count(counts.sentences, 'sentence')}, {format_count(counts.words, 'word')} "
        f"-> {output} ({format_bytes(size)}) in {seconds:.1f} s, "
        f"{(counts.words - before.words) / seconds:,.0f} words/s"
    )
    noted = [
        format_count(number, *nouns)
        for number, *nouns in (
            (before.sentences, "sentence taken over", "sentences taken over"),
            (counts.blank_lines, "blank line"),
            (counts.unknown_words, "unknown word"),
            (counts.empty_words, "word without pieces", "words without pieces"),
            (counts.windowed_sentences, "sentence in windows", "sentences in windows"),
            (counts.inexact_sentences, "sentence aligned inexactly", "sentences aligned inexactly"),
        )
        if number
    ]
    return "; ".join([told, ", ".join(noted)]) if noted else told
