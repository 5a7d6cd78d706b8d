"""A request from its arrival to its reply."""

from __future__ import annotations

import math
import mmap
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..humanize import format_bytes
from ..types import FloatArray
from .features import FeatureMaker, Features, RequestError
from .pooling import Pooling, pool
from .protocol import Request, Text, data_info, error_info
from .settings import DEFAULT_LIMITS, Limits, Settings

__all__ = ["NO_MEMORY", "ModelShape", "PendingRequest", "Row"]

NO_MEMORY = "there is not enough memory"
_MAPPED_BYTES = 1 << 20
_CHARACTERS_PER_PIECE = 4  # a rough guess


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the size of a reply depends on, apart from the request."""

    width: int
    """``c``"""
    dtype: np.dtype[Any]
    max_length: int
    """The most pieces that the model accepts."""


@dataclass(frozen=True, slots=True)
class Row:
    """A sentence of a request, ready to be computed."""

    request: PendingRequest
    index: int
    """The position of the sentence in the request."""
    features: Features

    @property
    def length(self) -> int:
        """The number of pieces, special tokens included."""
        return len(self.features.ids)


class PendingRequest:
    """A request that has not been answered, and as much of its reply as there is.

    Several threads work on a request. :class:`bert_tokemb.serve.schedule.Schedule` sees to it that
    only one of them prepares it at a time, and that each row is computed by one.

    Args:
        request: The sentences.
        settings: What to return for them.
        shape: The shape of the model.
        limits: Bounds the size of the reply.
    """

    def __init__(
        self,
        request: Request,
        settings: Settings,
        shape: ModelShape,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.sender = request.sender
        self.size = request.size
        self.estimate = sum(map(_estimate, request.texts))
        """The approximate number of pieces."""
        self.rows: dict[int, list[Row]] = defaultdict(list)
        """By length: the prepared rows that no thread has taken."""
        self.error: str | None = None
        """Why the request failed."""
        self._texts = request.texts
        self._settings = settings
        self._shape = shape
        self._limits = limits
        self._prepared = 0
        self._missing = len(request.texts)
        self._longest = 0
        self._tokens: list[list[str]] = []
        self._vectors: FloatArray = np.empty(0)

    @property
    def sentences(self) -> int:
        """The number of sentences."""
        return len(self._texts)

    @property
    def is_prepared(self) -> bool:
        """Whether all texts have become rows."""
        return self._prepared == len(self._texts)

    @property
    def is_complete(self) -> bool:
        """Whether all sentences have their vectors."""
        return self._missing == 0

    @property
    def is_too_large(self) -> bool:
        """Whether the reply would exceed the limit even if all sentences were empty."""
        least = len(self._texts) * self._shape.width * self._shape.dtype.itemsize
        return least > self._limits.reply_bytes

    @property
    def reply_bytes(self) -> int:
        """The size of the vectors; valid once the request is prepared."""
        return math.prod(self._reply_shape()) * self._shape.dtype.itemsize

    @property
    def pieces(self) -> int:
        """The number of pieces of the rows that no thread has taken."""
        return sum(length * len(rows) for length, rows in self.rows.items())

    def prepare(self, maker: FeatureMaker) -> list[Row]:
        """Return the rows of the next part, and allocate the vectors after the last part.

        Raises:
            RequestError: if one of the texts cannot be encoded or the vectors are too large.
        """
        start = self._prepared
        texts = self._texts[start : start + self._settings.max_batch_size]
        features, length = maker.make(texts)
        if self._settings.show_tokens_to_client:
            self._tokens += map(maker.tokens, features)
        self._longest = max(self._longest, length)
        self._prepared += len(texts)
        if self.is_prepared:
            self._allocate()
        return [Row(self, start + i, one) for i, one in enumerate(features)]

    def store(self, row: Row, vectors: FloatArray) -> None:
        """Pool and store the ``(p, c)`` vectors of a row."""
        pooled = pool(self._settings.pooling_strategy, vectors, row.features.mask)
        if self._settings.pooling_strategy is Pooling.NONE:
            self._vectors[row.index, : len(pooled)] = pooled
        else:
            self._vectors[row.index] = pooled

    def count(self, rows: int) -> None:
        """Record that the vectors of so many more rows are stored."""
        self._missing -= rows

    def reply(self) -> tuple[bytes, FloatArray | bytes]:
        """Return the info frame and the data of the reply."""
        if self.error is None:
            try:
                tokens = self._tokens if self._settings.show_tokens_to_client else None
                info = data_info(str(self._vectors.dtype), self._vectors.shape, tokens)
            except MemoryError:  # the JSON of many tokens is large
                self.error = NO_MEMORY
            else:
                return info, self._vectors
        return error_info(self.error), b""

    def _allocate(self) -> None:
        with suppress(MemoryError):
            if self.reply_bytes <= self._limits.reply_bytes:
                self._vectors = _zeros(self._reply_shape(), self._shape.dtype)
                return
        size = format_bytes(self.reply_bytes)
        raise RequestError(f"the reply would take {size}: send fewer sentences at a time")

    def _reply_shape(self) -> tuple[int, ...]:
        n, c = len(self._texts), self._shape.width
        strategy = self._settings.pooling_strategy
        if strategy is Pooling.NONE:
            fixed = self._settings.fixed_embed_length and self._settings.max_seq_len is None
            return n, self._shape.max_length if fixed else self._longest, c
        return n, 2 * c if strategy is Pooling.REDUCE_MEAN_MAX else c


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> FloatArray:
    """Return an array of zeros, in memory of its own if it is large.

    The system provides such memory page by page when it is written to, so that padding takes none,
    and takes it back as soon as it is freed, which ``malloc`` would not do.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _MAPPED_BYTES:
        return np.zeros(shape, dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    return np.frombuffer(memory, dtype).reshape(shape)


def _estimate(text: Text) -> int:
    return 2 + (len(text) // _CHARACTERS_PER_PIECE if isinstance(text, str) else len(text))
