"""A directory of ``.npy`` files, for results that need not fit in memory.

``vectors.npy`` contains the rows of all sentences, ``(words, c)``. ``offsets.npy`` contains their
limits, ``(sentences + 1,)`` int64: sentence ``i`` has the rows ``offsets[i] : offsets[i + 1]``.
``meta.json`` contains the metadata and is written last. ``.npy`` is the format of NumPy Enhancement
Proposal 1.
"""

from __future__ import annotations

import json
import math
import os
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError
from ..storage.whole_directory import WholeDirectory
from ..storage.writer import Writer, telling
from ..types import EmbeddedSentence, FloatArray
from .base import Content, FinishedAtEnd, Position, Reader, about_of

__all__ = ["EmbeddedText", "NpydOutput"]

_VECTORS, _OFFSETS, _METADATA = "vectors.npy", "offsets.npy", "meta.json"

_FORMAT = "bert-tokemb npyd 1"

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 128
"""Bytes of a header, whatever the shape, which is known only at the end."""

_MAX_HEADER = 1 << 16
"""Bytes of the headers that other programs write, at most."""


class NpydOutput(FinishedAtEnd):
    """Writes a directory; a context manager.

    Raises:
        OutputError: if it cannot be written, or something else has its name.
    """

    bytes_per_sentence = 8

    def __init__(self, name: str) -> None:
        self.name = name
        self._words = self._sentences = self._meta_size = 0
        with ExitStack() as closing:
            self._directory = closing.enter_context(WholeDirectory(name, _may_be_replaced))
            self._vectors = _NpyFile(name, self._directory.path / _VECTORS)
            closing.callback(self._vectors.close)
            self._offsets = _NpyFile(name, self._directory.path / _OFFSETS)
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
        counts = {"sentences": self._sentences, "words": self._words}
        meta = {**self._content.metadata(_FORMAT), **counts}
        with (
            telling(self.name),
            (self._directory.path / _METADATA).open("w", encoding="utf-8") as file,
        ):
            self._meta_size = file.write(json.dumps(meta, indent=1))  # it is ASCII
            file.flush()
            os.fsync(file.fileno())


def _may_be_replaced(directory: Path) -> bool:
    """Tell whether a directory is such a result, and holds nothing else."""
    if any(path.name not in (_VECTORS, _OFFSETS, _METADATA) for path in directory.iterdir()):
        return False
    try:
        meta = json.loads((directory / _METADATA).read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return False
    return isinstance(meta, dict) and meta.get("format") == _FORMAT


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


class EmbeddedText(Reader, Sequence[FloatArray]):
    """The arrays of a ``.npyd`` directory, each of which is read from the disk on access.

    ``bert_tokemb.open`` is another name for it: ``bert_tokemb.open(path)[i]`` is the array of the
    ``i``-th sentence.

    Attributes:
        vectors: ``(words, c)``, read-only, mapped into memory.
        offsets: ``(sentences + 1,)`` int64, mapped as well: sentence ``i`` has the rows
            ``offsets[i] : offsets[i + 1]``.
        meta: The metadata in ``meta.json``.

    Raises:
        InputError: if there is no such directory, or it is damaged; on access, if the offsets of
            the array are invalid.
    """

    description = "a directory of arrays"
    # NumPy tokenizes headers that it takes for those of Python 2.
    damage = (*PARSER_ERRORS, tokenize.TokenError)

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        directory = Path(path)
        with self._parsing():
            if directory.is_dir() and not (directory / _METADATA).exists():
                raise InputError(
                    f"cannot read {path}: a directory without {_METADATA} is not a .npyd"
                )
            self.meta: Mapping[str, Any] = json.loads((directory / _METADATA).read_bytes())
            if self.meta.get("format") != _FORMAT:
                raise ValueError(f"{_METADATA} does not say {_FORMAT!r}")
            self.offsets = _map(directory / _OFFSETS)
            # A file without rows cannot be mapped.
            read = _map if self.meta["words"] else _read_empty
            self.vectors: FloatArray = read(directory / _VECTORS)
            self._check()

    def _check(self) -> None:
        """Check the files as far as that takes no time: of the offsets, only the ends.

        Raises:
            ValueError: if the files do not fit together.
        """
        shapes = (self.meta["sentences"] + 1,), (self.meta["words"], self.meta["width"])
        if (self.offsets.shape, self.vectors.shape) != shapes:
            raise ValueError(f"its files do not have the shapes {shapes}")
        if self.offsets.dtype.newbyteorder("=") != np.int64 or self.vectors.dtype.kind != "f":
            raise ValueError("its files do not contain int64 and floats")
        if (self.offsets[0], self.offsets[-1]) != (0, len(self.vectors)):
            raise ValueError(f"{_OFFSETS} does not start at 0 and end at {len(self.vectors)}")

    @property
    def about(self) -> Mapping[str, Any]:
        return about_of(self.meta, _FORMAT)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, i: int) -> FloatArray: ...
    @overload
    def __getitem__(self, i: slice) -> list[FloatArray]: ...

    def __getitem__(self, i: int | slice) -> FloatArray | list[FloatArray]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"sentence {i} of {len(self)}")
        start, end = map(int, self.offsets[i % len(self) :][:2])
        if not 0 <= start <= end <= len(self.vectors):
            raise InputError(
                f"{self.path} is damaged: array {i % len(self)} has the impossible rows {start} to "
                f"{end}"
            )
        # A copy, which is writable and stays valid when the file is removed.
        return np.array(self.vectors[start:end])

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))


# Unlike numpy.load, these read nothing but .npy files.
def _map(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    return array


def _read_empty(path: Path) -> npt.NDArray[Any]:
    if path.stat().st_size > _MAX_HEADER:
        raise ValueError(f"{path.name} is not empty")
    with path.open("rb") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
