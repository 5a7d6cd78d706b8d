"""A request on its way through the engine."""

from __future__ import annotations

import math
import mmap
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..types import FloatArray
from .features import FeatureMaker, Features, UnfitError
from .pooling import Pooling, pool
from .protocol import Request, Sender, data_info, error_info
from .settings import Settings

__all__ = ["LARGEST_REPLY", "NO_MEMORY", "Job", "Row", "Shape"]

# Bytes. The replies of several clients are in memory at a time.
LARGEST_REPLY = 2 << 30
NO_MEMORY = "there is not enough memory"
_LARGE = 1 << 20
_CHARACTERS_PER_PIECE = 4  # a rough guess for text; for pieces it is better


@dataclass(frozen=True, slots=True)
class Shape:
    """What the model and the settings make of a request of ``n`` sentences."""

    width: int
    dtype: np.dtype[Any]
    positions: int


@dataclass(frozen=True, slots=True)
class Row:
    """One sentence of a job, ready to be computed."""

    job: Job
    place: int
    """Which of the job's sentences it is."""
    features: Features

    @property
    def length(self) -> int:
        """Pieces, special ones included."""
        return len(self.features.ids)


class Job:
    """What is known of a request, and the reply as far as it has come.

    Only :mod:`bert_tokemb.serve.schedule` decides who works on it, and when; its threads never
    work on the same row, nor prepare the same job, at a time.

    Args:
        request: The sentences.
        settings: What is to be given for them.
        shape: What the model makes of them.
    """

    def __init__(self, request: Request, settings: Settings, shape: Shape) -> None:
        self.sender: Sender = request.sender
        self.size = request.size
        self.estimate = sum(_estimate(text) for text in request.texts)
        """Pieces, before they are counted."""
        self.rows: dict[int, list[Row]] = defaultdict(list)
        """Those that nobody has taken to compute yet, by length."""
        self.error: str | None = None
        self._texts = request.texts
        self._settings = settings
        self._shape = shape
        self._prepared = 0
        self._left = len(request.texts)
        self._longest = 0
        self._tokens: list[list[str]] = []
        self._result: FloatArray = np.empty(0)

    @property
    def sentences(self) -> int:
        """How many were asked for."""
        return len(self._texts)

    @property
    def is_prepared(self) -> bool:
        """Whether all its texts have become rows."""
        return self._prepared == len(self._texts)

    @property
    def is_done(self) -> bool:
        """Whether every sentence has its vector."""
        return self._left == 0

    @property
    def result_bytes(self) -> int:
        """The size of the vectors; known when all is prepared."""
        return math.prod(self._result_shape()) * self._shape.dtype.itemsize

    @property
    def least_result_bytes(self) -> int:
        """What the vectors take at least; known from the beginning."""
        return len(self._texts) * self._shape.width * self._shape.dtype.itemsize

    @property
    def pieces(self) -> int:
        """Those of the rows that nobody has taken."""
        return sum(length * len(rows) for length, rows in self.rows.items())

    def prepare(self, maker: FeatureMaker) -> list[Row]:
        """Return the rows of the next part of the texts; behind the last, make room for vectors.

        Raises:
            UnfitError: one of the texts cannot be computed, or there is no room.
        """
        begin = self._prepared
        texts = self._texts[begin : begin + self._settings.max_batch_size]
        features, t = maker.make(texts)
        if self._settings.show_tokens_to_client:
            self._tokens += map(maker.tokens, features)
        self._longest = max(self._longest, t)
        self._prepared += len(texts)
        if self.is_prepared:
            self._make_room()
        return [Row(self, begin + i, one) for i, one in enumerate(features)]

    def put(self, row: Row, vectors: FloatArray) -> None:
        """Take in the vectors of a row, ``(n, c)`` without padding."""
        pooled = pool(self._settings.pooling_strategy, vectors, row.features.mask)
        if self._settings.pooling_strategy is Pooling.NONE:
            self._result[row.place, : len(pooled)] = pooled
        else:
            self._result[row.place] = pooled

    def count(self, rows: int) -> None:
        """Note that so many rows have their vectors."""
        self._left -= rows

    def reply(self) -> tuple[bytes, FloatArray | bytes]:
        """Return the info and the data of the reply."""
        if self.error is not None:
            return error_info(self.error), b""
        result = self._result
        tokens = self._tokens if self._settings.show_tokens_to_client else None
        return data_info(str(result.dtype), result.shape, tokens), result

    def _make_room(self) -> None:
        with suppress(MemoryError):
            if self.result_bytes <= LARGEST_REPLY:
                self._result = _zeros(self._result_shape(), self._shape.dtype)
                return
        raise UnfitError(
            f"the vectors would take {self.result_bytes / 1e9:.1f} GB: ask for fewer sentences at "
            "a time"
        )

    def _result_shape(self) -> tuple[int, ...]:
        n, c = len(self._texts), self._shape.width
        strategy = self._settings.pooling_strategy
        if strategy is Pooling.NONE:
            fixed = self._settings.fixed_embed_length and self._settings.max_seq_len is None
            return n, self._shape.positions if fixed else self._longest, c
        return n, 2 * c if strategy is Pooling.REDUCE_MEAN_MAX else c


def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> FloatArray:
    """Return an array whose memory is the system's own business when it is large.

    It is given page by page when it is written to, so that padding takes none, and is taken back
    as soon as it is free: ``malloc`` would keep it.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _LARGE:
        return np.zeros(shape, dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from error
    return np.frombuffer(memory, dtype).reshape(shape)


def _estimate(text: str | Sequence[str]) -> int:
    return 2 + (len(text) // _CHARACTERS_PER_PIECE if isinstance(text, str) else len(text))
