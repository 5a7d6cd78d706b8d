"""Bytes into a file descriptor, with as few system calls and copies as may be."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import OutputError

__all__ = ["Writer", "failure", "telling"]

# What is smaller is gathered, up to the buffer's size; what is larger, such as the vectors of a
# sentence, is written from where it lies: copying it first was measured to cost a third.
_SMALL = 1 << 13
_BUFFER = 1 << 17


class Writer:
    """Writes into a file that is open already.

    Args:
        name: What the file is called in messages.
        descriptor: Where to write.

    Raises:
        OutputError: in all methods: it cannot be written, whatever the reason that the system
            gives.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor = descriptor
        self._gathered = bytearray()
        self.size = 0
        """Bytes written so far."""

    @property
    def is_terminal(self) -> bool:
        """Whether somebody sits before it."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size >= _SMALL:
            self._write(self._gathered, data)
        else:
            self._gathered += data
            if len(self._gathered) >= _BUFFER:
                self._write(self._gathered)
        self.size += size
        return size

    def flush(self) -> None:
        """Write what was gathered."""
        self._write(self._gathered)

    def _write(self, *parts: bytes | bytearray | memoryview) -> None:
        """Write the parts in one system call, if it takes them all, and empty the gathered."""
        left = [memoryview(part).cast("B") for part in parts]
        try:
            while left:
                written = os.writev(self._descriptor, left)
                while left and written >= len(left[0]):
                    written -= len(left.pop(0))
                if left:
                    # It may write less than it is given, above 2 GiB always.
                    left[0] = left[0][written:]
        except OSError as error:
            raise failure(self.name, error) from error
        self._gathered = bytearray()


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Make an :class:`OutputError` of what the system says within the block."""
    try:
        yield
    except OSError as error:
        raise failure(name, error) from error


def failure(name: str, error: OSError) -> OutputError:
    """Return the error that tells why a file cannot be written."""
    return OutputError(f"cannot write {name}: {error.strerror or error}")
