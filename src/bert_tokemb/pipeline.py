"""From lines to arrays: all of the tool but its files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np

from .batching import Shelf, cut_into_batches, read_ahead
from .errors import OddWordError, StrategyError
from .strategies import WordFunction, load_strategy
from .types import Counts, Embedded, Encoded, Encoder, FloatArray, P, Remarks, Strategy

__all__ = ["LOOK_AHEAD", "Pipeline", "Stretch", "embed"]

LOOK_AHEAD = 32 << 20
"""Bytes of results for which the text is read ahead."""


def embed(
    sentences: Iterable[str],
    encoder: Encoder[P],
    strategy: str | Strategy | WordFunction = "avg",
    *,
    blank_lines: Literal["keep", "skip"] = "keep",
    strict: bool = False,
    counts: Counts | None = None,
    look_ahead: int = LOOK_AHEAD,
) -> Iterator[FloatArray]:
    """Yield an ``(n, c)`` array for each sentence, in order: one row for each of its n words.

    A generator: nothing is read or checked before the first array is asked for. Arrays of
    sentences that were encoded together share memory, which is freed with the last of them:
    copy one that is to be kept alone.

    Args:
        sentences: Lines of text; words are what ``str.split()`` gives.
        encoder: Gives the vectors of word pieces, ``c`` wide.
        strategy: Merges the pieces of a word: a name, ``package.module:function``, a function
            ``(k, c) -> (c,)``, or a :class:`bert_tokemb.types.Strategy`.
        blank_lines: ``keep`` yields ``(0, c)`` for a line without words, ``skip`` nothing.
        strict: Refuse words that are unknown to the model, and words without pieces.
        counts: Counts up what has been yielded, for the caller to look at.
        look_ahead: About how many bytes of results may wait while sentences are sorted by
            length. Memory is bounded by it, whatever the length of the text.

    Yields:
        Arrays of the encoder's type (float32, or float16), contiguous and writable. A word
        without pieces gives a row of zeros, an unknown one the vector of its ``[UNK]``.

    Raises:
        OddWordError: under ``strict``, at the first such word of a stretch of lines.
        TokembError: whatever the encoder, the strategy or the reader of ``sentences`` meets.
    """
    if isinstance(sentences, str):
        raise TypeError("sentences is a string: give an iterable of lines")
    if blank_lines not in ("keep", "skip"):
        raise ValueError(f"blank_lines is {blank_lines!r}: give 'keep' or 'skip'")
    pipeline = Pipeline(
        encoder,
        load_strategy(strategy),
        keep_blank_lines=blank_lines == "keep",
        strict=strict,
        look_ahead=look_ahead,
    )
    for stretch in pipeline.stretches(sentences, Counts() if counts is None else counts):
        for one in stretch.sentences:
            yield one.array


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive lines that were read ahead together.

    What is embedded of them, and what is written, does not depend on what came before.
    """

    sentences: Iterator[Embedded]
    """To be looked at before the next stretch is asked for."""
    mark: Any
    """What was to be known of the text's state behind the last line."""


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[P]):
    """From lines to arrays; see :func:`embed`."""

    encoder: Encoder[P]
    strategy: Strategy
    keep_blank_lines: bool = True
    strict: bool = False
    look_ahead: int = LOOK_AHEAD

    def stretches(
        self,
        lines: Iterable[str],
        counts: Counts,
        *,
        first_line: int = 1,
        mark: Callable[[], Any] = lambda: None,
    ) -> Iterator[Stretch]:
        """Yield the sentences of the text, a stretch at a time.

        Args:
            lines: Of the text.
            counts: Counts up what has been yielded.
            first_line: The number of the first one.
            mark: Called each time a stretch of lines has been read.
        """
        shelves: deque[Shelf] = deque()

        def batches() -> Iterator[Sequence[P]]:
            bytes_per_word = self.encoder.width * self.encoder.dtype.itemsize
            numbered = enumerate(lines, first_line)
            for shelf, prepared in read_ahead(
                numbered, self.encoder.prepare, bytes_per_word, self.look_ahead, mark
            ):
                shelves.append(shelf)
                yield from cut_into_batches(prepared, self.encoder.budget)

        def finished() -> Iterator[Stretch]:
            while shelves and shelves[0].complete:
                shelf = shelves.popleft()
                if self.strict:
                    _refuse_odd_words(shelf)
                yield Stretch(self._clear(shelf, counts), shelf.mark)

        for encoded in self.encoder.encode(batches()):
            merged = self.strategy.merge(encoded.vectors, encoded.starts, encoded.counts)
            _check(merged, encoded)
            _put(shelves[0], encoded, merged)
            del encoded, merged  # before the next are made
            yield from finished()
        yield from finished()

    def _clear(self, shelf: Shelf, counts: Counts) -> Iterator[Embedded]:
        """Yield the sentences of a complete shelf, and the blank lines among them if wanted."""
        blank = np.zeros((0, self.encoder.width), self.encoder.dtype)
        for line in range(shelf.first_line, shelf.last_line + 1):
            one = shelf.take(line)
            if one is None and not self.keep_blank_lines:
                counts.lines += 1
                counts.blank_lines += 1
                continue
            one = one or Embedded(line, (), blank)
            counts.see(one)
            yield one


def _check(merged: FloatArray, encoded: Encoded) -> None:
    """Rows equal words, whoever wrote the strategy."""
    expected = (len(encoded.counts), encoded.vectors.shape[1])
    if getattr(merged, "shape", None) != expected or merged.dtype != encoded.vectors.dtype:
        raise StrategyError(
            f"the strategy must return {encoded.vectors.dtype} of shape {expected}, and returned "
            f"{getattr(merged, 'dtype', merged)} of shape {getattr(merged, 'shape', None)}"
        )


def _put(shelf: Shelf, encoded: Encoded, merged: FloatArray) -> None:
    """Cut a batch's words into sentences."""
    empty = encoded.counts == 0
    odd = encoded.unknown | empty
    start = 0
    for sentence in encoded.sentences:
        end = start + len(sentence.words)
        remarks = None
        inexact = sentence.line in encoded.inexact
        if inexact or encoded.windowed or odd[start:end].any():
            remarks = Remarks(
                encoded.unknown[start:end].nonzero()[0].tolist(),
                empty[start:end].nonzero()[0].tolist(),
                inexact,
                encoded.windowed,
            )
        one = Embedded(sentence.line, sentence.words, merged[start:end], remarks)
        shelf.done[sentence.line] = one
        start = end


def _refuse_odd_words(shelf: Shelf) -> None:
    for line, one in sorted(shelf.done.items()):
        if one.remarks and (odd := [*one.remarks.unknown, *one.remarks.empty]):
            word = min(odd)
            empty = word in one.remarks.empty
            what = "has no word pieces, BERT deletes all its characters" if empty else "is unknown"
            raise OddWordError(
                f"line {line}: the word {one.words[word]!r} {what}; change it, or run without "
                "--strict"
            )
