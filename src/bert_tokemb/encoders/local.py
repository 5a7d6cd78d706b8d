"""Piece vectors from an engine in this process."""

from __future__ import annotations

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
from ..tokenization.tokenizer import TokenizedWords
from ..tokenization.windows import Window, windows_of
from ..types import (
    BatchLimits,
    EncodedBatch,
    FloatArray,
    IntArray,
    Layer,
    LayerPooling,
    Layers,
    LongSentences,
    PreparedSentence,
    Sentence,
)
from .vectors import join_windows, sample_components

__all__ = ["LocalEncoder", "LocalSentence", "open_local"]

Q = TypeVar("Q")
R = TypeVar("R")


def open_local(
    model: str | None = None,
    *,
    layers: Layers = (-2,),
    layer_pooling: LayerPooling = "concat",
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
        layers: See :class:`bert_tokemb.models.engine.Engine`.
        layer_pooling: See :class:`bert_tokemb.models.engine.Engine`.
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
    if layers != "all":
        distinct = {layer if layer == "embeddings" else layer % n for layer in layers}
        if len(distinct) < len(layers):
            raise UsageError(f"give each layer once, not {list(layers)}")
    engine = Engine(
        loaded,
        layers,
        layer_pooling=layer_pooling,
        device=device,
        precision=precision,
        threads=threads,
    )
    return LocalEncoder(engine, max_seq_len=max_seq_len, long_sentences=long_sentences)


@dataclass(frozen=True, slots=True)
class LocalSentence(PreparedSentence):
    """A sentence with the piece ids of its words."""

    tokens: TokenizedWords
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
        max_seq_len: The most pieces of a sentence, special tokens included; by default as
            many as the model accepts.
        long_sentences: What to do with a sentence that has more: ``window`` or ``error``.

    Raises:
        UsageError: if ``max_seq_len`` is more than the model accepts, or leaves no room next to
            the special tokens.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_seq_len: int | None = None,
        long_sentences: LongSentences = "window",
    ) -> None:
        model_limit = engine.model.config.max_pieces
        self._tokenizer = engine.model.tokenizer
        self._special = len(self._tokenizer.prefix) + len(self._tokenizer.suffix)
        self._max_seq_len = model_limit if max_seq_len is None else max_seq_len
        if not self._special < self._max_seq_len <= model_limit:
            raise UsageError(
                f"max_seq_len must be from {self._special + 1} to {model_limit}, the limit of the "
                f"model, not {self._max_seq_len}"
            )
        self._in_windows = long_sentences == "window"
        self._engine = engine
        self._pool = ThreadPoolExecutor(engine.threads, thread_name_prefix="engine")

    @property
    def width(self) -> int:
        """``c``: hidden_size × the number of layers that are side by side."""
        return self._engine.width

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that make up its vectors; a hidden layer by its number, -1 for the last."""
        return self._engine.layers_from_last

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
        pooling = engine.layer_pooling
        return {
            "encoder": "local",
            "layers": self.layers,
            **({"layer_pooling": pooling} if pooling != "concat" else {}),
            "max_seq_len": self._max_seq_len,
            "device": engine.device,
            "precision": engine.precision,
            **self._tokenizer.settings,
        }

    def fingerprint(self) -> Mapping[str, Any]:
        """Run the model on a few pieces; return the result, and digests of tokenizer and weights.

        See :meth:`bert_tokemb.types.Encoder.fingerprint`.
        """
        size = self._tokenizer.size
        ids = list(range(0, size, size // 8 + 1))
        return {
            **self._tokenizer.fingerprint,
            "weights": self._engine.checksum,
            "vectors": sample_components(self._compute([ids[: self._max_seq_len - self._special]])),
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
        tokens = self._tokenizer.tokenize(sentence.words)
        length = sum(map(len, tokens.pieces)) - sum(tokens.shared) + self._special
        if length <= self._max_seq_len:
            return LocalSentence(sentence, length, tokens)
        if not self._in_windows:
            raise self._too_long(sentence, length)
        windows = windows_of(_units(tokens), self._max_seq_len - self._special)
        return LocalSentence(sentence, length, tokens, windows)

    @property
    def unknown_piece(self) -> str | None:
        """The piece that replaces what the vocabulary cannot spell, if there is one."""
        unknown = self._tokenizer.unknown
        return None if unknown is None else self._tokenizer.piece(unknown)

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Return the pieces of each word."""
        return [
            [self._tokenizer.piece(i) for i in own]
            for own in self._tokenizer.tokenize(sentence.words).pieces
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
        ids = _ids(sentence.tokens)
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
        vectors = self._compute([_ids(one.tokens) for one in batch])
        b, t, c = vectors.shape
        words = [word for sentence in batch for word in sentence.tokens.pieces]
        counts = _lengths(words)
        special = len(self._tokenizer.prefix)
        numbers = [len(sentence.tokens.pieces) for sentence in batch]
        if has_shared := any(sentence.tokens.shared for sentence in batch):
            shared = np.concatenate([_shared(sentence.tokens) for sentence in batch])
            starts = first_rows(counts - shared, numbers, t, special) - shared
        else:
            starts = first_rows(counts, numbers, t, special)
        return EncodedBatch(
            sentences=[prepared.sentence for prepared in batch],
            vectors=vectors.reshape(b * t, c),
            starts=starts,
            counts=counts,
            unknown=np.asarray(self._unknown(words), np.bool_),
            inexact=[one.sentence.line for one in batch if one.tokens.inexact],
            shared=[one.sentence.line for one in batch if one.tokens.shared] if has_shared else (),
        )

    def _join(self, prepared: LocalSentence, futures: deque[Future[FloatArray]]) -> EncodedBatch:
        def computed() -> Iterator[FloatArray]:
            # Each result is dropped once it is joined: together they are twice as large.
            while futures:
                yield from futures.popleft().result()

        tokens = prepared.tokens
        return join_windows(
            prepared.sentence,
            _lengths(tokens.pieces),
            self._unknown(tokens.pieces),
            prepared.windows,
            computed(),
            np.empty((prepared.length - self._special, self.width), self.dtype),
            shared=_shared(tokens) if tokens.shared else None,
            special=len(self._tokenizer.prefix),
            inexact=tokens.inexact,
        )

    def _compute(self, rows: Sequence[Sequence[int]]) -> FloatArray:
        """Return ``(b, t, c)`` vectors for ``b`` rows of piece ids, special tokens added."""
        prefix, suffix = self._tokenizer.prefix, self._tokenizer.suffix
        b, t = len(rows), max(map(len, rows)) + self._special
        ids = np.full((b, t), self._engine.model.config.pad_token_id, np.int32)
        mask = np.zeros((b, t), np.int32)
        for i, row in enumerate(rows):
            start, end = len(prefix), len(prefix) + len(row)
            ids[i, :start] = prefix
            ids[i, start:end] = row
            ids[i, end : end + len(suffix)] = suffix
            mask[i, : end + len(suffix)] = 1
        return self._engine.run(ids, np.zeros_like(ids), mask)

    def _unknown(self, words: Iterable[Sequence[int]]) -> list[bool]:
        return [self._tokenizer.unknown in word for word in words]

    def _too_long(self, sentence: Sentence, length: int) -> LongSentenceError:
        model_limit = self._engine.model.config.max_pieces
        return LongSentenceError(
            sentence.line,
            len(sentence.words),
            limit=self._max_seq_len - self._special,
            limit_of="model" if self._max_seq_len == model_limit else "max_seq_len",
            pieces=length - self._special,
            model_limit=model_limit,
            special_tokens=[
                self._tokenizer.piece(i) for i in self._tokenizer.prefix + self._tokenizer.suffix
            ],
        )


def _lengths(words: Sequence[Sequence[int]]) -> IntArray:
    return np.fromiter(map(len, words), np.intp, len(words))


def _ids(tokens: TokenizedWords) -> list[int]:
    """Return the ids of the pieces of a sentence, each once."""
    if not tokens.shared:
        return list(chain.from_iterable(tokens.pieces))
    return [
        i for own, shared in zip(tokens.pieces, tokens.shared, strict=True) for i in own[shared:]
    ]


def _shared(tokens: TokenizedWords) -> IntArray:
    """Return ``(w,)``: how many pieces of each word also belong to a word before it."""
    return np.array(tokens.shared or [0] * len(tokens.pieces), np.intp)


def _units(tokens: TokenizedWords) -> list[int]:
    """Return the numbers of pieces that windows keep together: of words, or words that share."""
    if not tokens.shared:
        return list(map(len, tokens.pieces))
    units: list[int] = []
    for own, shared in zip(tokens.pieces, tokens.shared, strict=True):
        if shared:
            units[-1] += len(own) - shared
        elif own:
            units.append(len(own))
    return units
