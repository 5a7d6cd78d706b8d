"""The whole tool in one function."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np

from .batching import Shelf, cut_into_batches, read_ahead
from .errors import OddWordError, StrategyError
from .strategies import WordFunction, load_strategy
from .types import Counts, Embedded, Encoded, Encoder, FloatArray, P, Strategy

__all__ = ["LOOK_AHEAD", "embed", "embed_lines"]

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
    for one in embed_lines(
        sentences,
        encoder,
        strategy,
        blank_lines=blank_lines,
        strict=strict,
        counts=counts,
        look_ahead=look_ahead,
    ):
        yield one.array


def embed_lines(
    sentences: Iterable[str],
    encoder: Encoder[P],
    strategy: str | Strategy | WordFunction = "avg",
    *,
    blank_lines: Literal["keep", "skip"] = "keep",
    strict: bool = False,
    counts: Counts | None = None,
    look_ahead: int = LOOK_AHEAD,
) -> Iterator[Embedded]:
    """Yield what :func:`embed` yields, together with lines and words."""
    if isinstance(sentences, str):
        raise TypeError("sentences is a string: give an iterable of lines")
    if blank_lines not in ("keep", "skip"):
        raise ValueError(f"blank_lines is {blank_lines!r}: give 'keep' or 'skip'")
    merging = load_strategy(strategy)
    counts = Counts() if counts is None else counts
    blank = np.zeros((0, encoder.width), encoder.dtype) if blank_lines == "keep" else None
    shelves: deque[Shelf] = deque()

    def batches() -> Iterator[Sequence[P]]:
        bytes_per_word = encoder.width * encoder.dtype.itemsize
        for shelf, prepared in read_ahead(sentences, encoder.prepare, bytes_per_word, look_ahead):
            shelves.append(shelf)
            yield from cut_into_batches(prepared, encoder.budget)

    def finished() -> Iterator[Embedded]:
        while shelves and shelves[0].complete:
            if strict:
                _refuse_odd_words(shelves[0])
            yield from _clear(shelves.popleft(), counts, blank)

    for encoded in encoder.encode(batches()):
        merged = merging.merge(encoded.vectors, encoded.starts, encoded.counts)
        _check(merged, encoded)
        _put(shelves[0], encoded, merged)
        del encoded, merged  # before the next are made
        yield from finished()
    yield from finished()


def _check(merged: FloatArray, encoded: Encoded) -> None:
    """Rows equal words, whoever wrote the strategy."""
    expected = (len(encoded.counts), encoded.vectors.shape[1])
    if getattr(merged, "shape", None) != expected or merged.dtype != encoded.vectors.dtype:
        raise StrategyError(
            f"the strategy must return {encoded.vectors.dtype} of shape {expected}, and returned "
            f"{getattr(merged, 'dtype', merged)} of shape {getattr(merged, 'shape', None)}"
        )


def _put(shelf: Shelf, encoded: Encoded, merged: FloatArray) -> None:
    """Cut a batch's words into sentences, and count what is worth telling."""
    empty = encoded.counts == 0
    odd = encoded.unknown | empty
    start = 0
    for sentence in encoded.sentences:
        end = start + len(sentence.words)
        shelf.arrays[sentence.line] = merged[start:end]
        shelf.words[sentence.line] = sentence.words
        if odd[start:end].any():
            j = int(odd[start:end].argmax())
            shelf.odd_words[sentence.line] = (sentence.words[j], bool(empty[start + j]))
        start = end
    shelf.counts.add(
        Counts(
            words=start,
            unknown_words=int(encoded.unknown.sum()),
            empty_words=int(empty.sum()),
            inexact_sentences=encoded.inexact,
            windowed_sentences=encoded.windowed,
        )
    )


def _clear(shelf: Shelf, counts: Counts, blank: FloatArray | None) -> Iterator[Embedded]:
    """Yield the sentences of a complete shelf, and ``blank`` for each blank line unless None."""
    counts.add(shelf.counts)
    for line in range(shelf.first_line, shelf.last_line + 1):
        array = shelf.arrays.pop(line, None)
        counts.lines += 1
        if array is None:
            counts.blank_lines += 1
            if blank is None:
                continue
            array = blank.copy()
        counts.sentences += 1
        yield Embedded(line, shelf.words.pop(line, ()), array)


def _refuse_odd_words(shelf: Shelf) -> None:
    if shelf.odd_words:
        line, (word, empty) = min(shelf.odd_words.items())
        what = "has no word pieces, BERT deletes all its characters" if empty else "is unknown"
        raise OddWordError(
            f"line {line}: the word {word!r} {what}; change it, or run without --strict"
        )
