"""What the command line tells on standard error while it works, and at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic

import numpy as np
from tqdm import tqdm

from .types import Budget, Counts, Encoded, Encoder, P, Sentence
from .wording import bytes_of, count_of

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

    def watch(self, encoder: Encoder[P]) -> Encoder[P]:
        """Return the encoder with an eye on it.

        Arrays leave the pipeline a stretch of lines at a time; here a batch is seen as soon as
        it has been encoded.
        """
        return encoder if self._bar.disable else _Watched(encoder, self)

    def reach(self, counts: Counts) -> None:
        """Show that so much is done: by an earlier run, or since it was known already."""
        self._bar.update(max(0, counts.words - self._bar.n))
        self._sentences = max(self._sentences, counts.sentences)

    def see(self, encoded: Encoded) -> Encoded:
        """Count a batch, and pass it on."""
        self._bar.update(len(encoded.counts))
        self._sentences += len(encoded.sentences)
        self._words += len(encoded.counts)
        if time.monotonic() - self._drawn >= _EVERY:
            self._tell()
        return encoded

    def _tell(self) -> None:
        self._drawn = time.monotonic()
        rate = self._words / (self._drawn - self._begin)
        told = f"{count_of(self._sentences, 'sentence')}, {rate:,.0f} words/s"
        self._bar.set_postfix_str(told, refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._tell()
        self._bar.close()


class _Watched(Generic[P]):
    """An encoder whose results are seen as they pass."""

    def __init__(self, encoder: Encoder[P], progress: Progress) -> None:
        self._encoder = encoder
        self._progress = progress

    @property
    def width(self) -> int:
        return self._encoder.width

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._encoder.dtype

    @property
    def budget(self) -> Budget:
        return self._encoder.budget

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._encoder.identity

    @property
    def origin(self) -> Mapping[str, Any]:
        return self._encoder.origin

    def prepare(self, sentence: Sentence) -> P:
        return self._encoder.prepare(sentence)

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        return self._encoder.pieces(sentence)

    def encode(self, batches: Iterable[Sequence[P]]) -> Iterator[Encoded]:
        return map(self._progress.see, self._encoder.encode(batches))


def summary(
    text: str,
    counts: Counts,
    output: str,
    size: int,
    seconds: float,
    *,
    before: Counts | None = None,
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
    before = before or Counts()
    if not counts.lines:
        return f"{text} is empty: wrote an empty result to {output}"
    told = (
        f"{count_of(counts.sentences, 'sentence')}, {count_of(counts.words, 'word')} -> {output} "
        f"({bytes_of(size)}) in {seconds:.1f} s, "
        f"{(counts.words - before.words) / seconds:,.0f} words/s"
    )
    noted = [
        count_of(number, what)
        for number, what in (
            (before.sentences, "sentence taken over|sentences taken over"),
            (counts.blank_lines, "blank line"),
            (counts.unknown_words, "unknown word"),
            (counts.empty_words, "word without pieces|words without pieces"),
            (counts.windowed_sentences, "sentence in windows|sentences in windows"),
            (counts.inexact_sentences, "sentence aligned inexactly|sentences aligned inexactly"),
        )
        if number
    ]
    return "; ".join([told, ", ".join(noted)]) if noted else told
