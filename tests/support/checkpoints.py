"""Writes TensorFlow checkpoints without TensorFlow, including invalid ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from .models import TINY, as_tensorflow
from .tiny import VOCABULARY, WEIGHTS

__all__ = [
    "BFLOAT16",
    "DOUBLE",
    "FLOAT",
    "HALF",
    "INT32",
    "INT64",
    "MAGIC",
    "STRING",
    "block",
    "bytes_field",
    "entry",
    "footer",
    "handle",
    "header",
    "index_of",
    "index_path",
    "masked",
    "number_field",
    "pair",
    "pairs_of",
    "sealed",
    "shape_field",
    "shard_path",
    "table",
    "table_of_handles",
    "varint",
    "write",
    "write_google",
]

Array = np.ndarray[Any, Any]

MAGIC = bytes.fromhex("57fb808b247547db")
FLOAT, DOUBLE, INT32, STRING, INT64, BFLOAT16, HALF = 1, 2, 3, 7, 9, 14, 19


def varint(number: int) -> bytes:
    """Encode an unsigned integer as protobuf does."""
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def number_field(field: int, number: int) -> bytes:
    """Encode a field of a protobuf message that holds an integer."""
    return varint(field << 3) + varint(number % 2**64)


def bytes_field(field: int, content: bytes) -> bytes:
    """Encode a field that holds a string or a submessage."""
    return varint(field << 3 | 2) + varint(len(content)) + content


def shape_field(*sizes: int) -> bytes:
    """Encode the shape in an entry of an index."""
    dims = (bytes_field(2, number_field(1, size)) for size in sizes)
    return bytes_field(2, b"".join(dims))


def masked(crc: int) -> bytes:
    """Encode a checksum as LevelDB does."""
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return ((rotated + 0xA282EAD8) % 2**32).to_bytes(4, "little")


def header(shards: int = 1, *more: bytes) -> tuple[bytes, bytes]:
    """Return the key and the value of the header of an index; ``more`` are further fields."""
    return b"", number_field(1, shards) + bytes_field(3, number_field(1, 1)) + b"".join(more)


def entry(
    shape: Sequence[int] = (1,),
    *more: bytes,
    dtype: int = FLOAT,
    shard: int = 0,
    offset: int = 0,
    size: int | None = None,
    crc: bytes = masked(0x48674BC7),  # of four zero bytes
) -> bytes:
    """Return the entry of a variable, consistent by default; ``more`` are further fields."""
    numbers = (dtype, shard, offset, 4 * math.prod(shape) if size is None else size)
    fields = (number_field(i, n) for i, n in zip((1, 3, 4, 5), numbers, strict=True))
    return b"".join([*fields, shape_field(*shape), varint(6 << 3 | 5) + crc, *more])


def pair(key: bytes, value: bytes, shared: int = 0) -> bytes:
    """Encode a pair in a block; its key shares ``shared`` bytes with the previous key."""
    return varint(shared) + varint(len(key)) + varint(len(value)) + key + value


def pairs_of(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode pairs of complete keys and values."""
    return b"".join(pair(key, value) for key, value in pairs)


def handle(offset: int, size: int) -> bytes:
    """Encode a reference to a block."""
    return varint(offset) + varint(size)


def sealed(content: bytes, kind: int = 0) -> bytes:
    """Add the kind of compression and the checksum to the content of a block."""
    content += bytes([kind])
    return content + masked(google_crc32c.value(content))


def block(pairs: bytes) -> bytes:
    """Return a complete block."""
    return sealed(pairs + bytes(4) + b"\1\0\0\0")  # one restart, at 0


def table(*blocks: bytes) -> bytes:
    """Return a table of complete blocks."""
    handles, at = [], 0
    for content in blocks:
        handles.append(handle(at, len(content) - 5))
        at += len(content)
    return table_of_handles(b"".join(blocks), *handles)


def table_of_handles(blocks: bytes, *handles: bytes) -> bytes:
    """Return a table with these handles, which may be invalid."""
    filters, index = block(b""), block(b"".join(pair(b"", handle) for handle in handles))
    ends = handle(len(blocks), len(filters) - 5)
    ends += handle(len(blocks + filters), len(index) - 5)
    return blocks + filters + index + footer(ends)


def footer(handles: bytes) -> bytes:
    """Return the footer of a table."""
    return handles.ljust(40, b"\0") + MAGIC


def index_of(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return the index of a checkpoint: a table with a single block."""
    return table(block(pairs_of(pairs)))


def write(
    prefix: Path, variables: Mapping[str, tuple[int, np.ndarray[Any, Any]]], *, in_block: int = 100
) -> Path:
    """Write variables, each with the number of its data type, into one shard.

    Args:
        in_block: The number of variables in each block of the index.
    """
    pairs, data = [header()], b""
    for name, (dtype, value) in sorted(variables.items()):
        content = value.tobytes()
        crc = masked(google_crc32c.value(content))
        message = entry(value.shape, dtype=dtype, offset=len(data), size=len(content), crc=crc)
        pairs.append((name.encode(), message))
        data += content
    parts = (pairs[i : i + in_block] for i in range(0, len(pairs), in_block))
    index_path(prefix).write_bytes(table(*(block(pairs_of(part)) for part in parts)))
    shard_path(prefix).write_bytes(data)
    return prefix


def index_path(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def shard_path(prefix: Path, shard: int = 0, shards: int = 1) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


def write_google(
    directory: Path,
    config: Mapping[str, Any] = TINY,
    vocabulary: Sequence[str] = VOCABULARY,
    weights: Mapping[str, Array] = WEIGHTS,
    name: str = "bert_model.ckpt",
    *,
    prefix: str = "bert/",
) -> Path:
    """Write a model directory in the layout of Google's releases."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {"vocab_size": len(vocabulary), **config}
    (directory / "bert_config.json").write_text(json.dumps(config))
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), "utf-8")
    named = as_tensorflow(weights).items()
    variables = {prefix + key.removeprefix("bert/"): (FLOAT, value) for key, value in named}
    write(directory / name, variables)
    return directory
