"""Piece vectors from an engine in this process."""

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
from ..humanize import format_count
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
    Layer,
    LongSentences,
    PreparedSentence,
    Sentence,
)
from .vectors import join_windows, sample_components

__all__ = ["LocalEncoder", "LocalSentence", "open_local"]

Q = TypeVar("Q")
R = TypeVar("R")

_SPECIAL = 2
"""``[CLS]`` and ``[SEP]``."""


def open_local(
    model: str | None = None,
    *,
    layers: Sequence[Layer] = (-2,),
    max_seq_len: int | None = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    cased: bool | None = None,
    long_sentences: LongSentences = "window",
) -> LocalEncoder:
    """Load a model and return an encoder that runs it in this process.

    Args:
        model: A directory, or the id of a model on the Hugging Face hub; by default
            :data:`bert_tokemb.models.loading.DEFAULT_MODEL`.
        layers: The layers to concatenate; see :class:`bert_tokemb.models.engine.Engine`.
        max_seq_len: See :class:`LocalEncoder`.
        device: See :class:`bert_tokemb.models.engine.Engine`.
        precision: See :class:`bert_tokemb.models.engine.Engine`.
        threads: See :class:`bert_tokemb.models.engine.Engine`.
        cased: See :func:`bert_tokemb.models.loading.load_model`.
        long_sentences: See :class:`LocalEncoder`.

    Raises:
        UsageError: if the model has no such layer, or if another argument does not suit it.
        ModelError: if the model cannot be found, read or run.
    """
    loaded = load_model(DEFAULT_MODEL if model is None else model, cased=cased)
    n = loaded.config.num_hidden_layers
    distinct = {layer if layer == "embeddings" else layer % n for layer in layers}
    if len(distinct) < len(layers):
        raise UsageError(f"give each layer once, not {list(layers)}")
    engine = Engine(loaded, layers, device=device, precision=precision, threads=threads)
    return LocalEncoder(engine, max_seq_len=max_seq_len, long_sentences=long_sentences)


@dataclass(frozen=True, slots=True)
class LocalSentence(PreparedSentence):
    """A sentence with the piece ids of its words."""

    pieces: Sequence[tuple[int, ...]]
    windows: Sequence[Window] = ()
    """Empty if the sentence is not too long."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A result that other threads are computing."""

    futures: Collection[Future[Any]]
    result: Callable[[], EncodedBatch]
    """Waits for the futures."""


class LocalEncoder:
    """An encoder that runs a model in this process; a context manager.

    Args:
        engine: The model. As many batches are computed at the same time as it has threads.
        max_seq_len: The most pieces of a sentence, ``[CLS]`` and ``[SEP]`` included; by default
            as many as the model accepts.
        long_sentences: What to do with a sentence that has more: ``window`` or ``error``.

    Raises:
        UsageError: if ``max_seq_len`` is more than the model accepts, or less than 3.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_seq_len: int | None = None,
        long_sentences: LongSentences = "window",
    ) -> None:
        model_limit = engine.model.config.max_pieces
        self._max_seq_len = model_limit if max_seq_len is None else max_seq_len
        if not _SPECIAL < self._max_seq_len <= model_limit:
            raise UsageError(
                f"max_seq_len must be from {_SPECIAL + 1} to {model_limit}, the limit of the "
                f"model, not {self._max_seq_len}"
            )
        self._in_windows = long_sentences == "window"
        self._engine = engine
        self._tokenizer = PieceTokenizer(engine.model.vocabulary)
        self._pool = ThreadPoolExecutor(engine.threads, thread_name_prefix="engine")

    @property
    def width(self) -> int:
        """``c``: hidden_size × number of layers."""
        return self._engine.width

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 with the precision fp16."""
        return self._engine.dtype

    @property
    def batch_limits(self) -> BatchLimits:
        """The batches that were measured to be fast on the device."""
        return self._engine.batch_limits

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the engine that determine the vectors."""
        engine = self._engine
        vocabulary = engine.model.vocabulary
        return {
            "encoder": "local",
            "layers": engine.layers_from_last,
            "max_seq_len": self._max_seq_len,
            "device": engine.device,
            "precision": engine.precision,
            "do_lower_case": vocabulary.do_lower_case,
            "strip_accents": vocabulary.strip_accents,
        }

    def fingerprint(self) -> Mapping[str, Any]:
        """Run the model on a few pieces; return the result, and digests of vocabulary and weights.

        See :meth:`bert_tokemb.types.Encoder.fingerprint`.
        """
        vocabulary = self._engine.model.vocabulary
        pieces = "\n".join(vocabulary.ids).encode()
        ids = list(range(0, len(vocabulary.ids), len(vocabulary.ids) // 8 + 1))
        return {
            "vocabulary": hashlib.blake2b(pieces, digest_size=16).hexdigest(),
            "weights": self._engine.checksum,
            "vectors": sample_components(self._compute([ids[: self._max_seq_len - _SPECIAL]])),
        }

    @property
    def source(self) -> Mapping[str, Any]:
        """The name of the model, and where it was found."""
        return {"model": self._engine.model.name, "model_from": self._engine.model.origin}

    def prepare(self, sentence: Sentence) -> LocalSentence:
        """Split the words into pieces, and a sentence that is too long into windows.

        Raises:
            LongSentenceError: if the sentence is too long and windows are not wanted.
        """
        pieces = list(map(self._tokenizer.split, sentence.words))
        length = sum(map(len, pieces)) + _SPECIAL
        if length <= self._max_seq_len:
            return LocalSentence(sentence, length, pieces)
        if not self._in_windows:
            raise self._too_long(sentence, length)
        windows = windows_of([len(own) for own in pieces], self._max_seq_len - _SPECIAL)
        return LocalSentence(sentence, length, pieces, windows)

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Return the pieces of each word."""
        return [
            [self._tokenizer.piece(i) for i in self._tokenizer.split(word)]
            for word in sentence.words
        ]

    def encode(self, batches: Iterable[Sequence[LocalSentence]]) -> Iterator[EncodedBatch]:
        """Yield the vectors of each batch, in order, while other threads compute the next ones.

        Raises:
            MemoryShortageError: if the model needs more memory than is available.
            ThreadLimitError: if the system does not allow another thread.
        """
        # Enough that no thread is idle while the caller reads the next chunk of the text.
        most_futures = 2 * self._engine.threads + 8
        pending: deque[_Pending] = deque()
        try:
            for batch in batches:
                pending.extend(self._start(batch))
                while sum(len(one.futures) for one in pending) > most_futures:
                    # Not assigned to a variable, which would keep the result from being freed
                    # as soon as the caller has used it.
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                for future in one.futures:
                    future.cancel()

    def __str__(self) -> str:
        engine = self._engine
        layers = ", ".join(map(str, engine.layers_from_last))
        threads = format_count(engine.threads, "thread")
        where = engine.device if engine.device == "cuda" else threads
        return (
            f"{engine.model.name} (from {engine.model.origin}), layer {layers}, "
            f"{engine.precision}, {where}"
        )

    def close(self) -> None:
        """Wait for the threads to end."""
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> LocalEncoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self, batch: Sequence[LocalSentence]) -> Iterator[_Pending]:
        if short := [sentence for sentence in batch if not sentence.windows]:
            future = self._submit(self._encode, short)
            yield _Pending([future], future.result)
        for sentence in batch:
            if sentence.windows:
                yield self._start_windows(sentence)

    def _start_windows(self, sentence: LocalSentence) -> _Pending:
        """Compute the windows of a sentence, in batches of the size that suits the engine."""
        ids = list(chain.from_iterable(sentence.pieces))
        rows = [ids[window.start : window.end] for window in sentence.windows]
        batch = max(1, self.batch_limits.pieces // self._max_seq_len)
        futures = deque(
            self._submit(self._compute, rows[i : i + batch]) for i in range(0, len(rows), batch)
        )
        return _Pending(futures, partial(self._join, sentence, futures))

    def _submit(self, function: Callable[[Q], R], argument: Q) -> Future[R]:
        try:
            return self._pool.submit(function, argument)
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            raise ThreadLimitError from error

    def _encode(self, batch: Sequence[LocalSentence]) -> EncodedBatch:
        vectors = self._compute([list(chain.from_iterable(one.pieces)) for one in batch])
        b, t, c = vectors.shape
        words = [word for sentence in batch for word in sentence.pieces]
        counts = _lengths(words)
        return EncodedBatch(
            sentences=[prepared.sentence for prepared in batch],
            vectors=vectors.reshape(b * t, c),
            starts=first_rows(counts, [len(sentence.pieces) for sentence in batch], t),
            counts=counts,
            unknown=np.asarray(self._unknown(words), np.bool_),
        )

    def _join(self, prepared: LocalSentence, futures: deque[Future[FloatArray]]) -> EncodedBatch:
        def computed() -> Iterator[FloatArray]:
            # Each result is dropped once it is joined: together they are twice as large.
            while futures:
                yield from futures.popleft().result()

        return join_windows(
            prepared.sentence,
            _lengths(prepared.pieces),
            self._unknown(prepared.pieces),
            prepared.windows,
            computed(),
            np.empty((prepared.length - _SPECIAL, self.width), self.dtype),
        )

    def _compute(self, rows: Sequence[Sequence[int]]) -> FloatArray:
        """Return ``(b, t, c)`` vectors for ``b`` rows of piece ids, special tokens added."""
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
        model_limit = self._engine.model.config.max_pieces
        return LongSentenceError(
            sentence.line,
            len(sentence.words),
            limit=self._max_seq_len - _SPECIAL,
            limit_of="model" if self._max_seq_len == model_limit else "max_seq_len",
            pieces=length - _SPECIAL,
            model_limit=model_limit,
        )


def _lengths(words: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, words), np.intp, len(words))
