"""The table of names and values that LevelDB writes, as TensorFlow does for an index.

See LevelDB's ``doc/table_format.md``. Every block carries a CRC-32C, which is checked, and no
length that the file tells is believed before it was compared with what is there.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

__all__ = ["FileError", "damaged", "masked", "number", "pairs_of_table", "take", "varint"]

_LONGEST_NAME = 1 << 10

# The table's end: two handles padded to 40 bytes, and a number that tells what this is.
_FOOTER = 48
_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
# Behind every block: how it is compressed (one byte), and the checksum.
_TRAILER = 5


class FileError(Exception):
    """What is wrong with a file, as it reads behind the file's name."""


def damaged(what: str) -> FileError:
    """Return the error of a file that is not what it was."""
    return FileError(f"is damaged: {what}; download it again")


def pairs_of_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys of a LevelDB table, in their order, with the values."""
    footer = table[-_FOOTER:]
    if len(footer) < _FOOTER or not footer.endswith(_MAGIC):
        raise FileError(
            "is not the index of a TensorFlow checkpoint, or is cut short; download it again"
        )
    _, _, at = _handle(footer, 0)  # of the block of filters, which TensorFlow leaves empty
    last = None
    for _, handle in _pairs_of_block(_block(table, footer, at)):
        for key, value in _pairs_of_block(_block(table, handle, 0)):
            # Else one block, named again and again, would make a small file endless.
            if last is not None and key <= last:
                raise damaged("its names are not in order")
            yield key, value
            last = key


def _handle(data: bytes, at: int) -> tuple[int, int, int]:
    """Return a block's offset and size, and where this handle of it ends."""
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return offset, size, at


def _block(table: bytes, handles: bytes, at: int) -> bytes:
    offset, size, _ = _handle(handles, at)
    end = offset + size
    trailer = take(table, end, _TRAILER)
    if masked(google_crc32c.value(table[offset : end + 1])) != number(trailer[1:]):
        raise damaged("the checksum of a block is wrong")
    if trailer[0] != 0:
        raise FileError("is compressed, which is not supported; save it again without")
    return table[offset:end]


def _pairs_of_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys, of which each is stored as its difference to the last, and the values."""
    # At the end is the number of places where a key stands in full, behind their offsets.
    restarts = number(block[-4:])
    size = len(block) - 4 - 4 * restarts
    if size < 0:
        raise damaged("a block of it is too small")
    block = block[:size]
    key, at = b"", 0
    while at < size:
        shared, at = varint(block, at)
        added, at = varint(block, at)
        length, at = varint(block, at)
        # Each name may be as long as all before it: without a limit they would fill the memory.
        if shared > len(key) or shared + added > _LONGEST_NAME:
            raise damaged("a name in it cannot be")
        key = key[:shared] + take(block, at, added)
        yield key, take(block, at + added, length)
        at += added + length


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of 64 bits, stored in seven a byte with the lowest first, and its end."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80 and value >> 64 == 0:
            return value, at + i + 1
    raise damaged("a number in it has no end")


def number(data: bytes) -> int:
    """Return the number that bytes are, the lowest first."""
    return int.from_bytes(data, "little")


def take(data: bytes, at: int, size: int) -> bytes:
    """Return a piece that must be there in full."""
    if at + size > len(data):
        raise damaged("a length in it points beyond the end")
    return data[at : at + size]


def masked(crc: int) -> int:
    """Return a checksum as LevelDB and TensorFlow store it: turned by 15 bits, and added to."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
