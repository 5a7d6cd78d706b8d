"""Writing bytes to a file descriptor with few system calls and copies."""

from __future__ import annotations

import os
import zlib

from ..errors import OutputError, translate

__all__ = ["ByteWriter"]

# Small data are gathered in the buffer. Larger data, such as the vectors of a sentence, are written
# from where they are, together with the buffer.
_SMALL = 1 << 13
_BUFFER = 1 << 17


class ByteWriter:
    """Appends bytes to an open file.

    Args:
        name: The name of the file in error messages.
        descriptor: A descriptor, positioned at the end of what is kept.
        size: Bytes that the file has already.
        crc32: The checksum of these, or of those of them that count.

    Raises:
        OutputError: from all methods, if the file cannot be written.
    """

    def __init__(self, name: str, descriptor: int, size: int = 0, crc32: int = 0) -> None:
        self.name = name
        self.size = size
        """Bytes written so far, those in the buffer included."""
        self.crc32 = crc32
        """The CRC-32 of the bytes so far, except those in the buffer and what was overwritten."""
        self._descriptor = descriptor
        self._buffer = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        """Append data."""
        size = memoryview(data).nbytes
        if size >= _SMALL:
            self._write(self._buffer, data)
        else:
            self._buffer += data
            if len(self._buffer) >= _BUFFER:
                self._write(self._buffer)
        self.size += size

    def flush(self) -> None:
        """Write what is in the buffer."""
        self._write(self._buffer)

    def overwrite(self, position: int, data: bytes) -> None:
        """Write data over what has been written before."""
        with translate(OutputError, f"write {self.name}"):
            os.pwrite(self._descriptor, data, position)

    def _write(self, *parts: bytes | bytearray | memoryview) -> None:
        remaining = [memoryview(part).cast("B") for part in parts if len(part)]
        for part in remaining:
            self.crc32 = zlib.crc32(part, self.crc32)
        with translate(OutputError, f"write {self.name}"):
            while remaining:
                written = os.writev(self._descriptor, remaining)
                while remaining and written >= len(remaining[0]):
                    written -= len(remaining.pop(0))
                if remaining:
                    # The system may write less than it is given; more than 2 GiB never at once.
                    remaining[0] = remaining[0][written:]
        self._buffer = bytearray()
