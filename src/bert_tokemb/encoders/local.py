"""Piece vectors from the embedded engine, in this process."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np

from ..errors import LongSentenceError, ThreadLimitError, UsageError
from ..models.engine import Device, Engine, Precision
from ..models.loading import DEFAULT_MODEL, load_model
from ..tokenization.alignment import first_rows
from ..tokenization.windows import Window, windows_of
from ..tokenization.wordpiece import PieceTokenizer
from ..types import (
    BatchLimits,
    EncodedBatch,
    FloatArray,
    IntArray,
    LongSentences,
    PreparedSentence,
    Sentence,
)
from .likeness import some_numbers
from .windowed import joined

__all__ = ["LocalEncoder", "open_local"]

Q = TypeVar("Q")
R = TypeVar("R")

_SPECIAL = 2
"""``[CLS]`` and ``[SEP]``."""


def open_local(
    model: str | None = None,
    *,
    layers: Sequence[int] = (-2,),
    max_seq_len: int | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    cased: bool | None = None,
    long_sentences: LongSentences = "window",
) -> LocalEncoder:
    """Load a model, and return an encoder that computes with it.

    Args:
        model: A directory, or an id on the hub; by default
            :data:`bert_tokemb.models.loading.DEFAULT_MODEL`.
        layers: See :class:`bert_tokemb.models.engine.Engine`, as for the next but one.
        max_seq_len: See :class:`LocalEncoder`.
        device: See :class:`bert_tokemb.models.engine.Engine`, as for the next two.
        precision: The same.
        threads: The same.
        cased: See :func:`bert_tokemb.models.loading.load_model`.
        long_sentences: See :class:`LocalEncoder`.

    Raises:
        UsageError: the model has no such layer, or the like.
        ModelError: there is no such model, or it cannot be used.
    """
    loaded = load_model(DEFAULT_MODEL if model is None else model, cased=cased)
    if len({layer % loaded.config.layers for layer in layers}) < len(layers):
        raise UsageError(f"give each layer once, not {list(layers)}")
    engine = Engine(loaded, layers, device=device, precision=precision, threads=threads)
    return LocalEncoder(engine, max_seq_len=max_seq_len, long_sentences=long_sentences)


@dataclass(frozen=True, slots=True)
class LocalPrepared(PreparedSentence):
    """A sentence with the ids of the pieces of its words."""

    pieces: Sequence[tuple[int, ...]]
    windows: Sequence[Window] = ()
    """None for a sentence that fits."""


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """Something whose vectors are being computed."""

    futures: Collection[Future[Any]]
    result: Callable[[], EncodedBatch]
    """Waits for all of them."""


class LocalEncoder:
    """An encoder that computes by itself; use it as a context manager.

    Args:
        engine: Computes. As many batches are computed at a time as it has threads.
        max_seq_len: The most pieces of a sentence, ``[CLS]`` and ``[SEP]`` included; by default
            what the model takes.
        long_sentences: What becomes of one that has more: ``window`` or ``error``.

    Raises:
        UsageError: the model does not take as many pieces, or not even one would be left.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_seq_len: int | None = None,
        long_sentences: LongSentences = "window",
    ) -> None:
        most = engine.model.config.positions
        self._limit = most if max_seq_len is None else max_seq_len
        if not _SPECIAL < self._limit <= most:
            raise UsageError(
                f"max_seq_len must be from {_SPECIAL + 1} to {most}, the limit of the model, not "
                f"{self._limit}"
            )
        self._in_windows = long_sentences == "window"
        self._engine = engine
        self._tokenizer = PieceTokenizer(engine.model.vocabulary)
        self._pool = ThreadPoolExecutor(engine.threads, thread_name_prefix="engine")

    @property
    def width(self) -> int:
        """``c``: the model's width, times the number of layers."""
        return self._engine.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 with that precision."""
        return self._engine.dtype

    @property
    def batch_limits(self) -> BatchLimits:
        """What was measured to suit the device."""
        return self._engine.batch_limits

    @property
    def settings(self) -> Mapping[str, Any]:
        """The engine's settings that determine the vectors."""
        engine = self._engine
        vocabulary = engine.model.vocabulary
        return {
            "encoder": "local",
            "layers": [layer - engine.model.config.layers for layer in engine.layers],
            "max_seq_len": self._limit,
            "device": engine.device,
            "precision": engine.precision,
            "do_lower_case": vocabulary.do_lower_case,
            "strip_accents": vocabulary.strip_accents,
        }

    def fingerprint(self) -> Mapping[str, Any]:
        """Run the model on a few pieces, and return digests of its vocabulary and weights too."""
        vocabulary = self._engine.model.vocabulary
        pieces = "\n".join(vocabulary.ids).encode()
        row = list(range(0, len(vocabulary.ids), len(vocabulary.ids) // 8 + 1))
        return {
            "vocabulary": hashlib.blake2b(pieces, digest_size=16).hexdigest(),
            "weights": self._engine.checksum,
            "vectors": some_numbers(self._compute([row[: self._limit - _SPECIAL]])),
        }

    @property
    def source(self) -> Mapping[str, Any]:
        """The name of the model, and where it was found."""
        return {"model": self._engine.model.name, "model_from": self._engine.model.origin}

    def prepare(self, sentence: Sentence) -> LocalPrepared:
        """Split the words into pieces, and these into windows where they are too many.

        Raises:
            LongSentenceError: there are too many, and windows are not wanted.
        """
        pieces = list(map(self._tokenizer.split, sentence.words))
        length = sum(map(len, pieces)) + _SPECIAL
        if length <= self._limit:
            return LocalPrepared(sentence, length, pieces)
        if not self._in_windows:
            raise self._too_long(sentence, length)
        windows = windows_of([len(own) for own in pieces], self._limit - _SPECIAL)
        return LocalPrepared(sentence, length, pieces, windows)

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Return the pieces of each word."""
        return [
            [self._tokenizer.piece(i) for i in self._tokenizer.split(word)]
            for word in sentence.words
        ]

    def encode(self, batches: Iterable[Sequence[LocalPrepared]]) -> Iterator[EncodedBatch]:
        """Yield the vectors of each batch, while the next are computed by other threads.

        Raises:
            ModelError: there is not enough memory, or no thread can be started.
        """
        # Enough that no thread waits while the caller reads a stretch of the text.
        ahead = 2 * self._engine.threads + 8
        under_way: deque[_UnderWay] = deque()
        try:
            for batch in batches:
                under_way.extend(self._begin(batch))
                while sum(len(one.futures) for one in under_way) > ahead:
                    # No name here holds a result while the caller works.
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for one in under_way:
                for future in one.futures:
                    future.cancel()

    def __str__(self) -> str:
        engine = self._engine
        layers = ", ".join(str(layer - engine.model.config.layers) for layer in engine.layers)
        where = engine.device if engine.device == "cuda" else f"{engine.threads} threads"
        return (
            f"{engine.model.name} (from {engine.model.origin}), layer {layers}, "
            f"{engine.precision}, {where}"
        )

    def close(self) -> None:
        """Wait until the threads have ended."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> LocalEncoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _begin(self, batch: Sequence[LocalPrepared]) -> Iterator[_UnderWay]:
        if short := [prepared for prepared in batch if not prepared.windows]:
            future = self._submit(self._encode, short)
            yield _UnderWay([future], future.result)
        for prepared in batch:
            if prepared.windows:
                yield self._begin_long(prepared)

    def _begin_long(self, prepared: LocalPrepared) -> _UnderWay:
        """Compute windows, as many at a time as the engine likes."""
        ids = list(chain.from_iterable(prepared.pieces))
        rows = [ids[window.start : window.end] for window in prepared.windows]
        together = max(1, self.batch_limits.pieces // self._limit)
        futures = deque(
            self._submit(self._compute, rows[i : i + together])
            for i in range(0, len(rows), together)
        )
        return _UnderWay(futures, partial(self._join, prepared, futures))

    def _submit(self, work: Callable[[Q], R], argument: Q) -> Future[R]:
        try:
            return self._pool.submit(work, argument)
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            raise ThreadLimitError(
                "the system does not allow another thread, or has no memory for one"
            ) from error

    def _encode(self, batch: Sequence[LocalPrepared]) -> EncodedBatch:
        vectors = self._compute([list(chain.from_iterable(one.pieces)) for one in batch])
        b, t, c = vectors.shape
        words = [w for prepared in batch for w in prepared.pieces]
        counts = _lengths(words)
        return EncodedBatch(
            sentences=[prepared.sentence for prepared in batch],
            vectors=vectors.reshape(b * t, c),
            starts=first_rows(counts, [len(prepared.pieces) for prepared in batch], t),
            counts=counts,
            unknown=np.asarray(self._unknown(words), np.bool_),
        )

    def _join(self, prepared: LocalPrepared, futures: deque[Future[FloatArray]]) -> EncodedBatch:
        def computed() -> Iterator[FloatArray]:
            while futures:  # none is kept: together they are twice the size of what is joined
                yield from futures.popleft().result()

        return joined(
            prepared.sentence,
            _lengths(prepared.pieces),
            self._unknown(prepared.pieces),
            prepared.windows,
            computed(),
            np.empty((prepared.length - _SPECIAL, self.width), self.dtype),
        )

    def _compute(self, rows: Sequence[Sequence[int]]) -> FloatArray:
        """Return ``(b, t, c)`` vectors for ``b`` rows of ids, with special pieces around them."""
        b, t = len(rows), max(map(len, rows)) + _SPECIAL
        ids, mask = np.zeros((2, b, t), np.int32)
        for i, row in enumerate(rows):
            end = len(row) + 1
            ids[i, 0] = self._tokenizer.cls
            ids[i, 1:end] = row
            ids[i, end] = self._tokenizer.sep
            mask[i, : end + 1] = 1
        return self._engine.run(ids, np.zeros_like(ids), mask)

    def _unknown(self, words: Iterable[Sequence[int]]) -> list[bool]:
        return [self._tokenizer.unknown in word for word in words]

    def _too_long(self, sentence: Sentence, length: int) -> LongSentenceError:
        model_limit = self._engine.model.config.positions
        return LongSentenceError(
            sentence.line,
            len(sentence.words),
            limit=self._limit - _SPECIAL,
            limit_of="model" if self._limit == model_limit else "max_seq_len",
            pieces=length - _SPECIAL,
            model_limit=model_limit,
        )


def _lengths(words: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, words), np.intp, len(words))
