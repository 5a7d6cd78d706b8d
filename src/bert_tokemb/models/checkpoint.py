"""Weights out of a TensorFlow checkpoint, without TensorFlow.

A checkpoint of format V2 is ``PREFIX.index``, which tells where every variable lies, and
``PREFIX.data-00000-of-00001`` (or several such shards), which hold the values. The index is a
table as LevelDB writes it (:mod:`bert_tokemb.models.sstable`) from names to
``BundleEntryProto``; the empty name has a ``BundleHeaderProto`` (TensorFlow's
``core/protobuf/tensor_bundle.proto``).

Every variable carries a CRC-32C, which is checked. No length that a file tells is believed before
it was compared with what is there.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..types import FloatArray
from .sstable import FileError, damaged, masked, number, pairs_of_table, take, varint

__all__ = ["Checkpoint"]

# BERT-large with its optimizer's variables needs less than 100 KB.
_LARGEST_INDEX = 1 << 20
# Read, checked and copied while it lies in the processor's cache.
_CHUNK = 1 << 20
# What numpy 1 takes; TensorFlow takes more.
_MOST_DIMENSIONS = 32

# A protobuf field's tag is its number, and in the last three bits how it is stored.
_VARINT, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}
_SHARDS, _ENDIANNESS, _VERSION = 0x08, 0x10, 0x1A  # BundleHeaderProto
_OLDEST_READER = 0x10  # VersionDef
_DTYPE, _SHAPE, _SHARD, _OFFSET = 0x08, 0x12, 0x18, 0x20  # BundleEntryProto
_SIZE, _CRC, _SLICES = 0x28, 0x35, 0x3A
_DIM, _UNKNOWN_RANK, _DIM_SIZE = 0x12, 0x18, 0x08  # TensorShapeProto, and Dim in it

# TensorFlow's types.proto. A bfloat16 is the upper half of a float32; numpy does not know it.
_BFLOAT16 = 14
_STORED = {1: "<f4", 2: "<f8", _BFLOAT16: "<u2", 19: "<f2"}
_NO_WEIGHTS = {3: "int32", 7: "text", 9: "int64", 10: "bool"}


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except FileError as error:
        raise ModelError(f"{path} {error}") from error


class Checkpoint:
    """The variables of a checkpoint; see :class:`bert_tokemb.models.weights.TensorFile`.

    Only the index is read at first. Data files are open while they are read.

    Args:
        prefix: What the names of its files begin with, such as ``DIR/bert_model.ckpt``.

    Raises:
        ModelError: the index cannot be read, or is damaged.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._index = Path(f"{prefix}.index")
        with _telling(self._index):
            self._shards, self._entries = _read_index(self._index)
        self.shapes: Mapping[str, tuple[int, ...]] = {
            name: entry.shape for name, entry in self._entries.items()
        }
        """Of every variable by its name, also of those that hold no weights."""

    def read(self, name: str) -> FloatArray:
        """Return a variable's values as float32, in memory of their own.

        Raises:
            ModelError: there is no such variable, it holds no floating-point numbers, or its
                data file is missing or damaged.
        """
        with _telling(self._index):
            entry = self._find(name)
        path = Path(f"{self._prefix}.data-{entry.shard:05d}-of-{self._shards:05d}")
        with _telling(path), FileIO(path) as file:
            values = _read_values(file, name, entry)
        return _as_float32(values, entry.dtype).reshape(entry.shape)

    def _find(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise FileError(f"has no variable {name}")
        if entry.partitioned:
            raise FileError(f"holds {name} in parts; save it again without a partitioner")
        if entry.dtype not in _STORED:
            kind = _NO_WEIGHTS.get(entry.dtype, f"TensorFlow's type {entry.dtype}")
            raise FileError(f"holds {name} as {kind}, which is no type of weights")
        if not entry.size:
            raise FileError(f"holds {name} without a single value")
        return entry


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a variable lies: TensorFlow's BundleEntryProto."""

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
        table = file.read(_LARGEST_INDEX + 1)
    if len(table) > _LARGEST_INDEX:
        raise FileError("is too large for the index of a TensorFlow checkpoint")
    pairs = pairs_of_table(table)
    key, header = next(pairs, (None, b""))
    if key != b"":
        raise damaged("it has no header")
    shards = _parse_header(header)
    entries = {}
    for key, message in pairs:
        # So begins a part of a partitioned variable, which has an entry as a whole too.
        if not key.startswith(b"\0"):
            name = key.decode("utf-8", "backslashreplace")
            entries[name] = _parse_entry(name, message, shards)
    return shards, entries


def _parse_header(message: bytes) -> int:
    """Return the number of shards."""
    numbers, parts = _fields(message)
    if numbers[_ENDIANNESS] != 0:
        raise FileError("was written on a big-endian machine; save it again on another one")
    # So far there has been version 1 only.
    if _fields(b"".join(parts[_VERSION]))[0][_OLDEST_READER] > 1:
        raise FileError("is of a format newer than this program")
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
        raise damaged(f"{name} lies in a data file that there is not")
    if entry.dtype in _STORED and not entry.partitioned:
        itemsize = np.dtype(_STORED[entry.dtype]).itemsize
        if entry.size != math.prod(entry.shape) * itemsize:
            raise damaged(f"the shape and the size of {name} disagree")
    return entry


def _parse_shape(message: bytes) -> tuple[int, ...]:
    numbers, parts = _fields(message)
    shape = tuple(_fields(dim)[0][_DIM_SIZE] for dim in parts[_DIM])
    # A negative number is stored as its two's complement of 64 bits.
    if numbers[_UNKNOWN_RANK] or len(shape) > _MOST_DIMENSIONS or any(n >> 63 for n in shape):
        raise damaged("the shape of a variable cannot be")
    return shape


def _fields(message: bytes) -> tuple[Mapping[int, int], Mapping[int, list[bytes]]]:
    """Split a protobuf message into its numbers and its parts, by tag.

    A field that is absent is 0, or empty. The last of several numbers counts. Parts that are
    one message merge by being joined.
    """
    numbers: defaultdict[int, int] = defaultdict(int)
    parts: defaultdict[int, list[bytes]] = defaultdict(list)
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            numbers[tag], at = varint(message, at)
        elif kind == _BYTES:
            size, at = varint(message, at)
            parts[tag].append(take(message, at, size))
            at += size
        elif kind in _FIXED:
            numbers[tag] = number(take(message, at, _FIXED[kind]))
            at += _FIXED[kind]
        else:
            raise damaged("it holds a field of no known kind")
    return numbers, parts


def _read_values(file: FileIO, name: str, entry: _Entry) -> npt.NDArray[np.uint8]:
    """Return the bytes of a variable, none before the file was seen to hold them all."""
    if entry.offset + entry.size > os.fstat(file.fileno()).st_size:
        raise FileError(f"is cut short: it ends before the values of {name}; download it again")
    values = np.empty(entry.size, np.uint8)
    file.seek(entry.offset)
    crc = at = 0
    while chunk := file.read(min(_CHUNK, entry.size - at)):
        crc = google_crc32c.extend(crc, chunk)
        values[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    if masked(crc) != entry.crc:
        raise damaged(f"the checksum of {name} is wrong")
    return values


def _as_float32(values: npt.NDArray[np.uint8], dtype: int) -> npt.NDArray[np.float32]:
    stored = values.view(_STORED[dtype])
    if dtype == _BFLOAT16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    # A float64 may be too large, or be no number: what it becomes, infinity or NaN, tells so.
    with np.errstate(over="ignore", invalid="ignore"):
        return stored.astype(np.float32, copy=False)
