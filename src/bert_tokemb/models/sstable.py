"""Reads the tables that LevelDB writes, which TensorFlow uses for the index of a checkpoint.

See LevelDB's ``doc/table_format.md``. The CRC-32C of each block is checked, and no length in the
file is trusted before it has been compared with the size of the data.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

__all__ = ["FileError", "damaged", "little_endian", "masked", "read_table", "take", "varint"]

_MAX_KEY = 1 << 10

# The last bytes of a table: two block handles, padded to 40 bytes, and a magic number.
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
# The bytes after each block: its compression (1) and its checksum (4).
_TRAILER = 5


class FileError(Exception):
    """What is wrong with a file, as a sentence about "it"."""


def damaged(detail: str) -> FileError:
    """Return the error for a file whose content is inconsistent."""
    return FileError(f"it is damaged ({detail}); download it again")


def read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys of a table, in ascending order, with their values.

    Raises:
        FileError: if the table is damaged, compressed or something else.
    """
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise FileError(
            "it is not the index of a TensorFlow checkpoint, or it is cut short; download it again"
        )
    _, _, at = _handle(footer, 0)  # the block of filters, which TensorFlow leaves empty
    last = None
    for _, handle in _entries(_block(table, footer, at)):
        for key, value in _entries(_block(table, handle, 0)):
            # Otherwise a small file could list the same block again and again.
            if last is not None and key <= last:
                raise damaged("its names are not in ascending order")
            yield key, value
            last = key


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the offset and size in a block handle, and where the handle ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _block(table: bytes, handles: bytes, at: int) -> bytes:
    offset, size, _ = _handle(handles, at)
    end = offset + size
    trailer = take(table, end, _TRAILER)
    if masked(google_crc32c.value(table[offset : end + 1])) != little_endian(trailer[1:]):
        raise damaged("a block has a wrong checksum")
    if trailer[0] != 0:
        raise FileError("it is compressed, which is not supported; save it without compression")
    return table[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, whose keys are stored without their common prefix."""
    # A block ends with the offsets of complete keys, and their number.
    restarts = little_endian(block[-4:])
    size = len(block) - 4 - 4 * restarts
    if size < 0:
        raise damaged("a block is too small")
    block = block[:size]
    key, at = b"", 0
    while at < size:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        length, at = varint(block, at)
        # Each key may contain the previous one: without a limit they could fill the memory.
        if shared > len(key) or shared + added > _MAX_KEY:
            raise damaged("a name is too long")
        key = key[:shared] + take(block, at, added)
        yield key, take(block, at + added, length)
        at += added + length


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an unsigned 64-bit integer in protobuf's variable-length encoding, and its end."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value >> 64 == 0:
            return value, at + i + 1
    raise damaged("a number has no end")


def little_endian(data: bytes) -> int:
    """Return the unsigned integer that the bytes encode, lowest byte first."""
    return int.from_bytes(data, "little")


def take(data: bytes, at: int, size: int) -> bytes:
    """Return ``size`` bytes, all of which must exist."""
    if at + size > len(data):
        raise damaged("a length points beyond the end")
    return data[at : at + size]


def masked(crc: int) -> int:
    """Return a checksum as LevelDB and TensorFlow store it: rotated by 15 bits, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
