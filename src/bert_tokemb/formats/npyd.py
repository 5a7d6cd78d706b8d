"""A directory of ``.npy`` files, for results that need not fit in memory.

``vectors.npy`` contains the rows of all sentences, ``(words, c)``. ``offsets.npy`` contains their
limits, ``(sentences + 1,)`` int64: sentence ``i`` has the rows ``offsets[i] : offsets[i + 1]``.
``meta.json`` contains the metadata and is written last. ``.npy`` is the format of NumPy Enhancement
Proposal 1.
"""

from __future__ import annotations

import json
import math
import stat
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError
from ..storage.byte_writer import ByteWriter
from ..types import EmbeddedSentence, FloatArray
from .base import Content, OpenFile, Position, Reader, Writer, about_of

__all__ = ["EmbeddedText", "NpydWriter"]

_VECTORS, _OFFSETS, _METADATA = "vectors.npy", "offsets.npy", "meta.json"

_FORMAT = "bert-tokemb npyd 1"

_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = 128
"""Bytes of a header. Its size is fixed, because the shape is known only at the end."""

_MAX_HEADER = 1 << 16
_MAX_METADATA = 1 << 20  # bytes
"""Bytes of a header that another program wrote, at most."""


class NpydWriter(Writer):
    """Writes the files of the directory."""

    is_directory = True
    is_resumable = True
    bytes_per_sentence = 8

    def __init__(
        self, name: str, open_file: OpenFile, content: Content, position: Position | None = None
    ) -> None:
        self._name = name
        self._open_file = open_file
        self._content = content
        kept = position or {}
        self._words, self._sentences = kept.get("words", 0), kept.get("sentences", 0)
        offsets = self._sentences + 1 if position else 0
        crcs = kept.get("vectors_crc32", 0), kept.get("offsets_crc32", 0)
        open_npy = partial(_NpyWriter, name, open_file)
        self._vectors = open_npy(_VECTORS, content.dtype, (content.width,), self._words, crcs[0])
        self._offsets = open_npy(_OFFSETS, np.dtype(np.int64), (), offsets, crcs[1])
        self._metadata_size = 0
        if not offsets:
            self._offsets.append(np.zeros(1, np.int64))

    @classmethod
    def may_replace(cls, directory: Path) -> bool:
        """Whether a directory is a ``.npyd`` and contains nothing else."""
        if any(path.name not in (_VECTORS, _OFFSETS, _METADATA) for path in directory.iterdir()):
            return False
        try:
            metadata = json.loads((directory / _METADATA).read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return False
        return isinstance(metadata, dict) and metadata.get("format") == _FORMAT

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._vectors.size + self._offsets.size + self._metadata_size

    def write(self, sentence: EmbeddedSentence) -> None:
        """Append the rows of a sentence."""
        self._vectors.append(sentence.array)
        self._words += len(sentence.array)
        self._sentences += 1
        self._offsets.append(np.array([self._words], np.int64))

    def position(self) -> Position:
        """Return the numbers of words and sentences, and checksums."""
        self._vectors.flush()
        self._offsets.flush()
        return {
            "words": self._words,
            "sentences": self._sentences,
            "vectors_crc32": self._vectors.crc32,
            "offsets_crc32": self._offsets.crc32,
        }

    def finish(self) -> None:
        """Write the headers and the metadata."""
        self._vectors.finish()
        self._offsets.finish()
        counts = {"sentences": self._sentences, "words": self._words}
        metadata = json.dumps({**self._content.metadata(_FORMAT), **counts}, indent=1)
        file = ByteWriter(self._name, self._open_file(_METADATA))
        file.write(metadata.encode())
        file.flush()
        self._metadata_size = file.size


class _NpyWriter(ByteWriter):
    """Writes one ``.npy`` file, whose header is written last.

    Args:
        dtype: The data type.
        row: The shape of a row.
        rows: The number of rows to keep, of an interrupted run.
        crc32: Their checksum.
    """

    def __init__(
        self,
        name: str,
        open_file: OpenFile,
        file: str,
        dtype: np.dtype[Any],
        row: tuple[int, ...],
        rows: int,
        crc32: int,
    ) -> None:
        self._dtype, self._row, self._rows = dtype.newbyteorder("<"), row, rows
        kept = _HEADER + rows * math.prod(row) * dtype.itemsize if rows else 0
        descriptor = open_file(file, keep=kept, skip=min(kept, _HEADER), crc32=crc32)
        super().__init__(name, descriptor, kept, crc32)
        if not kept:
            self.write(bytes(_HEADER))
            self.flush()
            self.crc32 = 0  # the header will be overwritten

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Append rows, ``(n, *row)``."""
        values = np.ascontiguousarray(rows, self._dtype)
        if values.size:
            self.write(values.data)
        self._rows += len(values)

    def finish(self) -> None:
        """Flush the buffer and write the header."""
        self.flush()
        shape = (self._rows, *self._row)
        header = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
        size = _HEADER - len(_MAGIC) - 2
        self.overwrite(
            0, _MAGIC + size.to_bytes(2, "little") + header.ljust(size - 1).encode() + b"\n"
        )


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
        InputError: if the directory does not exist or is damaged. Access to an array raises it if
            its offsets are invalid.
    """

    description = "a directory of arrays"
    # NumPy tokenizes headers that it takes for those of Python 2.
    damage = (*PARSER_ERRORS, tokenize.TokenError)

    def __init__(self, path: str | Path) -> None:
        super().__init__(str(path))
        directory = Path(path)
        with self._parsing():
            if directory.is_dir() and not (directory / _METADATA).exists():
                raise InputError(
                    f"cannot read {path}: a directory without {_METADATA} is not a .npyd"
                )
            for name in (_METADATA, _OFFSETS, _VECTORS):
                # A result of unknown origin may contain pipes and devices.
                if not stat.S_ISREG((directory / name).stat().st_mode):
                    raise ValueError(f"{name} is not a regular file")
            with (directory / _METADATA).open("rb") as file:
                self.meta: Mapping[str, Any] = json.loads(file.read(_MAX_METADATA))
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
