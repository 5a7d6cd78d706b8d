"""A file for libraries in C that write at positions of their choice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import OutputError, translate
from ..signals import hold_signals

__all__ = ["SeekableFile"]


class SeekableFile:
    """An open file with the methods of a Python file that HDF5 and Arrow call.

    These libraries replace exceptions that are raised in the methods by their own, lose the
    exception of a signal, and HDF5 can then not even be closed. So the methods never raise: the
    first error is kept, and :meth:`lent` raises it when the library has returned.

    Args:
        name: The name of the file in error messages.
        descriptor: The file, empty.
    """

    closed = False

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self.size = 0
        """Bytes written so far."""
        self._descriptor = descriptor
        self._position = 0
        self._error: OSError | None = None
        self._is_abandoned = False

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Let the library write within the block. Signals wait until its end.

        Raises:
            OutputError: if the file cannot be written.
        """
        try:
            with hold_signals():
                yield
        finally:
            if self._error:
                with translate(OutputError, f"write {self.name}"):
                    raise self._error

    def abandon(self) -> None:
        """Ignore all further writes and errors, so that the library can be closed."""
        self._is_abandoned, self._error = True, None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, counted from the beginning or the end."""
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of ``data`` at the position."""
        remaining = memoryview(data).cast("B")
        size = len(remaining)
        with self._keep_error():
            # The system may write less than it is given; more than 2 GiB never at once.
            while remaining and not self._is_abandoned:
                written = os.pwrite(self._descriptor, remaining, self._position)
                self._position += written
                remaining = remaining[written:]
        self._position += len(remaining)
        self.size = max(self.size, self._position)
        return size

    def readinto(self, buffer: Any) -> int:
        """Read from the position."""
        size = 0
        with self._keep_error():
            size = os.preadv(self._descriptor, [buffer], self._position)
        self._position += size
        return size

    def truncate(self, size: int) -> int:
        """Change the size of the file."""
        with self._keep_error():
            if not self._is_abandoned:
                os.ftruncate(self._descriptor, size)
        self.size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    @contextmanager
    def _keep_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error
