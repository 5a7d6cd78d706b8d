"""Reads weights from TensorFlow checkpoints, without TensorFlow.

A checkpoint of format V2 consists of ``PREFIX.index``, which says where each variable is stored,
and ``PREFIX.data-00000-of-00001`` (or several such shards), which hold the values. The index is a
LevelDB table (:mod:`bert_tokemb.models.sstable`) from names to ``BundleEntryProto`` messages; the
empty name has a ``BundleHeaderProto``. See TensorFlow's ``core/protobuf/tensor_bundle.proto``.

The CRC-32C of each variable is checked, and no length in the files is trusted before it has been
compared with their size.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import ModelError, translate
from ..types import FloatArray
from .sstable import FileError, damaged, little_endian, masked, read_table, take, varint

__all__ = ["Checkpoint"]

# BERT-large with the variables of its optimizer needs less than 100 KB.
_MAX_INDEX = 1 << 20
# Small enough that each block is read, checked and copied in the CPU's cache.
_BLOCK = 1 << 20
# The limit of NumPy 1; TensorFlow allows more.
_MAX_DIMENSIONS = 32

# The tag of a protobuf field is its number, and its encoding in the last three bits.
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}
_SHARDS, _ENDIANNESS, _VERSION = 0x08, 0x10, 0x1A  # BundleHeaderProto
_MIN_CONSUMER = 0x10  # VersionDef
_DTYPE, _SHAPE, _SHARD, _OFFSET = 0x08, 0x12, 0x18, 0x20  # BundleEntryProto
_SIZE, _CRC, _SLICES = 0x28, 0x35, 0x3A
_DIM, _UNKNOWN_RANK, _DIM_SIZE = 0x12, 0x18, 0x08  # TensorShapeProto, and its Dim

# The data types of TensorFlow's types.proto, and how NumPy reads them. A bfloat16, which NumPy
# lacks, is the upper half of a float32.
_BFLOAT16 = 14
_FLOATS = {1: "<f4", 2: "<f8", _BFLOAT16: "<u2", 19: "<f2"}
_OTHER_TYPES = {3: "int32", 7: "string", 9: "int64", 10: "bool"}


class Checkpoint:
    """The variables of a checkpoint; see :class:`bert_tokemb.models.weights.TensorFile`.

    Only the index is read at first. Data files are opened when a variable is read.

    Args:
        prefix: The path of the checkpoint without ``.index``, such as ``DIR/bert_model.ckpt``.

    Raises:
        ModelError: if the index cannot be read or is damaged.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._index = Path(f"{prefix}.index")
        with _translate(self._index):
            self._shards, self._entries = _read_index(self._index)
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: entry.shape for name, entry in self._entries.items()
        }
        """The shape of every variable, including those that are not weights."""

    def read(self, name: str) -> FloatArray:
        """Return a variable as a new float32 array.

        Raises:
            ModelError: if there is no such variable, it does not hold floating-point numbers, or
                its data file is missing or damaged.
        """
        with _translate(self._index):
            entry = self._find(name)
        path = Path(f"{self._prefix}.data-{entry.shard:05d}-of-{self._shards:05d}")
        with _translate(path), FileIO(path) as file:
            values = _read_values(file, name, entry)
        return _as_float32(values, entry.dtype).reshape(entry.shape)

    def _find(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise FileError(f"it has no variable {name}")
        if entry.partitioned:
            raise FileError(f"it stores {name} in parts; save it without a partitioner")
        if entry.dtype not in _FLOATS:
            dtype = _OTHER_TYPES.get(entry.dtype, f"TensorFlow's type {entry.dtype}")
            raise FileError(f"its variable {name} has type {dtype}, which is not supported")
        if not entry.size:
            raise FileError(f"its variable {name} is empty")
        return entry


def _translate(path: Path) -> AbstractContextManager[None]:
    prefix = f"cannot read {path}"
    return translate(ModelError, f"read {path}", damage=(FileError,), damaged=prefix)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a variable is stored: TensorFlow's BundleEntryProto."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    partitioned: bool


def _read_index(path: Path) -> tuple[int, dict[str, _Entry]]:
    """Return the number of shards, and the variables by name."""
    with path.open("rb") as file:
        table = file.read(_MAX_INDEX + 1)
    if len(table) > _MAX_INDEX:
        raise FileError("it is too large for the index of a TensorFlow checkpoint")
    pairs = read_table(table)
    key, header = next(pairs, (None, b""))
    if key != b"":
        raise damaged("it has no header")
    shards = _parse_header(header)
    entries = {}
    for key, message in pairs:
        # Keys of the parts of a partitioned variable, which also has an entry as a whole.
        if not key.startswith(b"\0"):
            name = key.decode("utf-8", "backslashreplace")
            entries[name] = _parse_entry(name, message, shards)
    return shards, entries


def _parse_header(message: bytes) -> int:
    """Return the number of shards."""
    numbers, parts = _fields(message)
    if numbers[_ENDIANNESS] != 0:
        raise FileError("it was written on a big-endian machine; save it on a little-endian one")
    if _fields(b"".join(parts[_VERSION]))[0][_MIN_CONSUMER] > 1:  # there is only version 1 so far
        raise FileError("it has a newer format than this program supports")
    return numbers[_SHARDS]


def _parse_entry(name: str, message: bytes, shards: int) -> _Entry:
    numbers, parts = _fields(message)
    entry = _Entry(
        dtype=numbers[_DTYPE],
        shape=_parse_shape(b"".join(parts[_SHAPE])),
        shard=numbers[_SHARD],
        offset=numbers[_OFFSET],
        size=numbers[_SIZE],
        crc=numbers[_CRC],
        partitioned=bool(parts[_SLICES]),
    )
    if entry.shard >= shards:
        raise damaged(f"{name} is stored in a data file that does not exist")
    if entry.dtype in _FLOATS and not entry.partitioned:
        itemsize = np.dtype(_FLOATS[entry.dtype]).itemsize
        if entry.size != math.prod(entry.shape) * itemsize:
            raise damaged(f"the shape and the size of {name} disagree")
    return entry


def _parse_shape(message: bytes) -> tuple[int, ...]:
    numbers, parts = _fields(message)
    shape = tuple(_fields(dim)[0][_DIM_SIZE] for dim in parts[_DIM])
    # A negative number is encoded as its two's complement of 64 bits.
    if numbers[_UNKNOWN_RANK] or len(shape) > _MAX_DIMENSIONS or any(n >> 63 for n in shape):
        raise damaged("a variable has an invalid shape")
    return shape


def _fields(message: bytes) -> tuple[Mapping[int, int], Mapping[int, list[bytes]]]:
    """Split a protobuf message into numbers, and strings or submessages, by tag.

    An absent field is 0 or empty. Of a repeated number the last one counts. The parts of a
    submessage are merged by concatenation.
    """
    numbers: defaultdict[int, int] = defaultdict(int)
    parts: defaultdict[int, list[bytes]] = defaultdict(list)
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        encoding = tag & 7
        if encoding == _VARINT:
            numbers[tag], at = varint(message, at)
        elif encoding == _BYTES:
            size, at = varint(message, at)
            parts[tag].append(take(message, at, size))
            at += size
        elif encoding in _FIXED:
            numbers[tag] = little_endian(take(message, at, _FIXED[encoding]))
            at += _FIXED[encoding]
        else:
            raise damaged("a field has an unknown encoding")
    return numbers, parts


def _read_values(file: FileIO, name: str, entry: _Entry) -> npt.NDArray[np.uint8]:
    """Return the bytes of a variable."""
    if entry.offset + entry.size > os.fstat(file.fileno()).st_size:
        raise FileError(f"it is cut short before the values of {name}; download it again")
    values = np.empty(entry.size, np.uint8)
    file.seek(entry.offset)
    crc = at = 0
    while block := file.read(min(_BLOCK, entry.size - at)):
        crc = google_crc32c.extend(crc, block)
        values[at : at + len(block)] = np.frombuffer(block, np.uint8)
        at += len(block)
    if masked(crc) != entry.crc:
        raise damaged(f"{name} has a wrong checksum")
    return values


def _as_float32(values: npt.NDArray[np.uint8], dtype: int) -> npt.NDArray[np.float32]:
    stored = values.view(_FLOATS[dtype])
    if dtype == _BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    # What is too large for float32 becomes infinity, which is refused where weights are read.
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float32, copy=False)
