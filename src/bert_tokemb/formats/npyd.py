"""Arrays that need not fit in memory: a directory of ``.npy`` files.

``vectors.npy`` holds the rows of all sentences, ``(words, c)``; ``offsets.npy`` says where each
begins, ``(sentences + 1,)`` int64; ``meta.json`` is written last and tells what they are. The
format of ``.npy`` is that of NumPy Enhancement Proposal 1.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..storage.whole_directory import WholeDirectory
from ..storage.writer import Writer, telling
from ..types import EmbeddedSentence
from .base import Content, FinishedAtEnd, Position

__all__ = ["FORMAT", "META", "OFFSETS", "VECTORS", "NpydOutput"]

VECTORS, OFFSETS, META = "vectors.npy", "offsets.npy", "meta.json"

FORMAT = "bert-tokemb npyd 1"
"""What the meta data call it."""

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 128
"""Bytes, whatever the shape: it is known at the end only."""


class NpydOutput(FinishedAtEnd):
    """Writes a directory; use it as a context manager.

    Raises:
        OutputError: it cannot be written, or something else has its name.
    """

    bytes_per_sentence = 8

    def __init__(self, name: str) -> None:
        self.name = name
        self._words = self._sentences = self._meta_size = 0
        with ExitStack() as closing:
            self._directory = closing.enter_context(WholeDirectory(name, _may_be_replaced))
            self._vectors = _NpyFile(name, self._directory.path / VECTORS)
            closing.callback(self._vectors.close)
            self._offsets = _NpyFile(name, self._directory.path / OFFSETS)
            closing.callback(self._offsets.close)
            self._closing = closing.pop_all()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._vectors.size + self._offsets.size + self._meta_size

    @property
    def left(self) -> int:
        """Bytes that an interrupted run has left."""
        return self._vectors.left + self._offsets.left

    @property
    def is_file(self) -> bool:
        """It always is, or several."""
        return True

    @property
    def can_go_on(self) -> bool:
        """It can."""
        return True

    def begin(self, content: Content, position: Position | None = None) -> bool:
        """Learn what will come, and where to go on."""
        self._content = content
        begun = position or {"words": 0, "sentences": 0}
        self._words, self._sentences = begun["words"], begun["sentences"]
        offsets = self._sentences + 1 if position else 0
        if not self._vectors.begin(content.dtype, (content.width,), self._words):
            return False
        if not self._offsets.begin(np.dtype(np.int64), (), offsets):
            return False
        if not offsets:
            self._offsets.append(np.zeros(1, np.int64))
        return True

    def position(self) -> Position:
        """Tell how many rows are written."""
        self._vectors.flush()
        self._offsets.flush()
        return {"words": self._words, "sentences": self._sentences}

    def sync(self) -> None:
        """Put on disk what was written; in any thread."""
        self._vectors.sync()
        self._offsets.sync()

    def keep(self, kept: bool) -> None:
        """Say whether an incomplete directory stays."""
        self._directory.keep = kept

    def write(self, one: EmbeddedSentence) -> None:
        """Append a sentence."""
        self._vectors.append(one.array)
        self._words += len(one.array)
        self._sentences += 1
        self._offsets.append(np.array([self._words], np.int64))

    def _finish(self) -> None:
        self._vectors.end()
        self._offsets.end()
        self._write_meta()

    def _write_meta(self) -> None:
        counted = {"sentences": self._sentences, "words": self._words}
        meta = {**self._content.meta(FORMAT), **counted}
        with telling(self.name), (self._directory.path / META).open("w", encoding="utf-8") as file:
            self._meta_size = file.write(json.dumps(meta, indent=1))  # it is ASCII
            file.flush()
            os.fsync(file.fileno())


def _may_be_replaced(directory: Path) -> bool:
    """Tell whether a directory is such a result, and holds nothing else."""
    if any(path.name not in (VECTORS, OFFSETS, META) for path in directory.iterdir()):
        return False
    try:
        meta = json.loads((directory / META).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return isinstance(meta, dict) and meta.get("format") == FORMAT


class _NpyFile(Writer):
    """One ``.npy`` file that is written as a stream."""

    def __init__(self, name: str, path: Path) -> None:
        with telling(name):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = FileIO(os.open(path, flags, 0o666), "r+")
        super().__init__(name, self._file.fileno())
        self._rows = 0

    @property
    def left(self) -> int:
        """Bytes that are in it, whoever wrote them."""
        return os.fstat(self._descriptor).st_size

    def begin(self, dtype: np.dtype[Any], row: tuple[int, ...], rows: int) -> bool:
        """Learn of what type it is, how wide each row, and behind how many of them to go on.

        Returns:
            False when there are not as many.
        """
        self.dtype, self.row, self._rows = dtype.newbyteorder("<"), row, rows
        size = _HEADER + rows * math.prod(row) * dtype.itemsize
        with telling(self.name):
            if rows and self._file.seek(0, os.SEEK_END) < size:
                return False
            self._file.truncate(size)  # the header, of zeros as yet, is made so too
            self._file.seek(size)
        self.size = size
        return True

    def sync(self) -> None:
        """Put on disk what was written; in any thread."""
        with telling(self.name):
            os.fdatasync(self._file.fileno())

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append rows, ``(n, *row)``."""
        values = np.ascontiguousarray(rows, self.dtype)
        if values.size:
            self.write(values.data)
        self._rows += len(values)

    def end(self) -> None:
        """Write what was kept back, and what it is."""
        self.flush()
        with telling(self.name):
            os.pwrite(self._file.fileno(), self._header(), 0)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close it as it is."""
        self._file.close()

    def _header(self) -> bytes:
        shape = (self._rows, *self.row)
        told = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        size = _HEADER - len(_MAGIC) - 2
        return _MAGIC + size.to_bytes(2, "little") + told.ljust(size - 1).encode() + b"\n"
