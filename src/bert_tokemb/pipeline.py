"""From lines to word vectors: the whole tool except its files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal

import numpy as np

from .batching import ReorderBuffer, make_batches, read_chunks
from .errors import NonFiniteError, RefusedWordError, StrategyError
from .strategies import WordFunction, load_strategy
from .types import (
    BoolArray,
    Diagnostics,
    EmbeddedSentence,
    EncodedBatch,
    Encoder,
    FloatArray,
    P,
    Strategy,
    Tally,
)

__all__ = ["LOOK_AHEAD", "Chunk", "Pipeline", "embed"]

LOOK_AHEAD = 32 << 20
"""Bytes of results for which the text is read ahead."""


def embed(
    sentences: Iterable[str],
    encoder: Encoder[P],
    strategy: str | Strategy | WordFunction = "avg",
    *,
    blank_lines: Literal["keep", "skip"] = "keep",
    strict: bool = False,
    allow_nonfinite: bool = False,
    tally: Tally | None = None,
    look_ahead: int = LOOK_AHEAD,
) -> Iterator[FloatArray]:
    """Yield an ``(n, c)`` array for each sentence, in order: one row for each of its ``n`` words.

    This is a generator: nothing is read or checked before the first array is requested. Arrays of
    sentences that were encoded together share memory until the last of them is freed, so copy an
    array that you keep alone.

    Args:
        sentences: Lines of text; words are what ``str.split()`` returns.
        encoder: Encodes the sentences; its vectors have width ``c``.
        strategy: Merges the pieces of a word: a name, ``package.module:function``, a function
            ``(k, c) -> (c,)``, or a :class:`bert_tokemb.types.Strategy`.
        blank_lines: ``keep`` yields a ``(0, c)`` array for a line without words, ``skip`` nothing.
        strict: Refuse words that are unknown to the model, and words without pieces.
        allow_nonfinite: Accept vectors that contain NaN or infinity.
        tally: Counts what has been yielded.
        look_ahead: Approximate number of bytes of results that may wait while sentences are
            sorted by length. It bounds the memory, whatever the length of the text.

    Yields:
        Arrays of the encoder's data type, contiguous and writable. A word without pieces has a
        row of zeros, an unknown word the vector of its unknown piece.

    Raises:
        RefusedWordError: in strict mode, at the first such word of a chunk of lines.
        NonFiniteError: if the vector of a word contains NaN or infinity.
        TokembError: if the encoder, the strategy or the reader of ``sentences`` fails.
    """
    if isinstance(sentences, str):
        raise TypeError("sentences is a string; pass an iterable of lines")
    if blank_lines not in ("keep", "skip"):
        raise ValueError(f"blank_lines must be 'keep' or 'skip', not {blank_lines!r}")
    pipeline = Pipeline(
        encoder,
        load_strategy(strategy),
        keep_blank_lines=blank_lines == "keep",
        strict=strict,
        allow_nonfinite=allow_nonfinite,
        look_ahead=look_ahead,
    )
    for chunk in pipeline.chunks(sentences, Tally() if tally is None else tally):
        for sentence in chunk.sentences:
            yield sentence.array


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive lines that were read ahead together.

    Their results do not depend on the chunks before, which is what makes resuming exact.
    """

    sentences: Iterator[EmbeddedSentence]
    """To be consumed before the next chunk is requested."""
    resume_point: Any
    """The state of the text after the last line, as the caller recorded it."""


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[P]):
    """Everything between lines and word vectors; see :func:`embed` for the fields."""

    encoder: Encoder[P]
    strategy: Strategy
    keep_blank_lines: bool = True
    strict: bool = False
    allow_nonfinite: bool = False
    look_ahead: int = LOOK_AHEAD

    def chunks(
        self,
        lines: Iterable[str],
        tally: Tally,
        *,
        record: Callable[[], Any] = lambda: None,
        progress: Callable[[int, int], object] = lambda sentences, words: None,
    ) -> Iterator[Chunk]:
        """Yield the sentences of the text, one chunk at a time.

        Args:
            lines: Lines of the text.
            tally: Counts what has been yielded; if it is not empty, the lines follow those that
                it has counted.
            record: Called whenever a chunk of lines has been read; returns its ``resume_point``.
            progress: Called with the number of sentences and words of each encoded batch, long
                before their chunk is complete.
        """
        buffers: deque[ReorderBuffer] = deque()

        def batches() -> Iterator[Sequence[P]]:
            bytes_per_word = self.encoder.width * self.encoder.dtype.itemsize
            numbered = enumerate(lines, tally.lines + 1)
            for buffer, prepared in read_chunks(
                numbered, self.encoder.prepare, bytes_per_word, self.look_ahead, record
            ):
                buffers.append(buffer)
                yield from make_batches(prepared, self.encoder.batch_limits)

        def complete() -> Iterator[Chunk]:
            while buffers and buffers[0].complete:
                buffer = buffers.popleft()
                if self.strict:
                    _refuse_words(buffer)
                if not self.allow_nonfinite:
                    _refuse_nonfinite(buffer, self.encoder.dtype)
                yield Chunk(self._in_order(buffer, tally), buffer.resume_point)

        for encoded in self.encoder.encode(batches()):
            merged = self.strategy.merge(encoded.vectors, encoded.starts, encoded.counts)
            _check_shape(merged, encoded)
            progress(len(encoded.sentences), len(encoded.counts))
            _store(encoded, merged, buffers[0])
            del encoded, merged  # frees the memory before the next batch arrives
            yield from complete()
        yield from complete()

    def _in_order(self, buffer: ReorderBuffer, tally: Tally) -> Iterator[EmbeddedSentence]:
        """Yield the sentences of a complete chunk, and its blank lines unless they are skipped."""
        blank = np.zeros((0, self.encoder.width), self.encoder.dtype)
        for line in range(buffer.first_line, buffer.last_line + 1):
            sentence = buffer.take(line)
            if sentence is None:
                if not self.keep_blank_lines:
                    tally.skip_blank_line()
                    continue
                sentence = EmbeddedSentence(line, (), blank)
            tally.add(sentence)
            yield sentence


def _check_shape(merged: FloatArray, encoded: EncodedBatch) -> None:
    """Raise StrategyError unless there is one row for each word."""
    expected = (len(encoded.counts), encoded.vectors.shape[1])
    if getattr(merged, "shape", None) != expected or merged.dtype != encoded.vectors.dtype:
        raise StrategyError(
            f"the strategy must return {encoded.vectors.dtype} of shape {expected}, but returned "
            f"{getattr(merged, 'dtype', merged)} of shape {getattr(merged, 'shape', None)}"
        )


def _store(encoded: EncodedBatch, merged: FloatArray, buffer: ReorderBuffer) -> None:
    """Cut the word vectors of a batch into sentences."""
    empty = encoded.counts == 0
    nonfinite = _nonfinite_rows(merged)
    notable = encoded.unknown | empty | nonfinite
    start = 0
    for sentence in encoded.sentences:
        end = start + len(sentence.words)
        diagnostics = Diagnostics()
        inexact = sentence.line in encoded.inexact
        shared = sentence.line in encoded.shared
        if inexact or shared or encoded.windowed or notable[start:end].any():
            diagnostics = Diagnostics(
                encoded.unknown[start:end].nonzero()[0].tolist(),
                empty[start:end].nonzero()[0].tolist(),
                nonfinite[start:end].nonzero()[0].tolist(),
                inexact,
                shared,
                encoded.windowed,
            )
        buffer.done[sentence.line] = EmbeddedSentence(
            sentence.line, sentence.words, merged[start:end], diagnostics
        )
        start = end


def _refuse_words(buffer: ReorderBuffer) -> None:
    for line, sentence in sorted(buffer.done.items()):
        found = sentence.diagnostics
        if refused := [*found.unknown, *found.empty]:
            j = min(refused)
            problem: Literal["unknown", "without pieces"] = (
                "without pieces" if j in found.empty else "unknown"
            )
            raise RefusedWordError(line, sentence.words[j], problem)


def _nonfinite_rows(merged: FloatArray) -> BoolArray:
    """Return which of ``(w, c)`` vectors contain NaN or infinity, ``(w,)``."""
    finite = np.isfinite(merged)
    if finite.all():  # seven times as fast as looking at each row
        return np.zeros(len(merged), np.bool_)
    nonfinite: BoolArray = np.logical_not(finite.all(axis=1))
    return nonfinite


def _refuse_nonfinite(buffer: ReorderBuffer, dtype: np.dtype[Any]) -> None:
    for line, sentence in sorted(buffer.done.items()):
        if found := sentence.diagnostics.nonfinite:
            raise NonFiniteError(line, sentence.words[found[0]], dtype.name)
