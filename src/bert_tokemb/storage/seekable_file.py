"""A file that is whole or absent, for a library that writes it on its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..signals import hold_signals
from .beside import descriptor_of
from .whole_file import WholeFile
from .writer import failure, telling

__all__ = ["SeekableFile"]


class SeekableFile(WholeFile):
    """A :class:`WholeFile` with the methods of a Python file; a context manager.

    It is for libraries in C. They make errors of their own out of what is raised in these
    methods, lose what a signal raises there, and HDF5 cannot even be closed any more after that.
    So nothing is raised: what the system says first is kept, and :meth:`lent` raises it when the
    library has returned.

    Raises:
        OutputError: it cannot be written, or is no regular file.
    """

    closed = False

    def __init__(self, name: str) -> None:
        with telling(name):
            path = Path(name)
            # The place of a directory is told as any other that cannot be written.
            is_device = path.exists() and not path.is_file() and not path.is_dir()
            if is_device or descriptor_of(name) is not None:
                what = "is no regular file" if is_device else "is open already"
                raise OutputError(
                    f"cannot write {name}: it {what}, and only .pkl can be written there"
                )
        super().__init__(name, "partial")
        self._position = 0
        self._failure: OSError | None = None
        self._dropping = False

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have the library write within the block; a signal waits until its end.

        Raises:
            OutputError: something could not be written.
        """
        try:
            with hold_signals():
                yield
        finally:
            # Whatever the library made of it.
            if self._failure:
                raise failure(self.name, self._failure) from self._failure

    def abandon(self) -> None:
        """Drop all that is still written, so that the library can be closed in any case."""
        self._dropping, self._failure = True, None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a place, from the beginning or the end."""
        self._position = offset + (self.size if whence == os.SEEK_END else 0)
        return self._position

    def tell(self) -> int:
        """Return the place."""
        return self._position

    def write(self, data: Any) -> int:
        """Write all of it."""
        left = memoryview(data).cast("B")
        size = len(left)
        with self._keeping():
            # It may write less than it is given, above 2 GiB always.
            while left and not self._dropping:
                written = os.pwrite(self._descriptor, left, self._position)
                self._position += written
                left = left[written:]
        self._position += len(left)
        self.size = max(self.size, self._position)
        return size

    def readinto(self, buffer: Any) -> int:
        """Read back; less only where the file ends."""
        size = 0
        with self._keeping():
            size = os.preadv(self._descriptor, [buffer], self._position)
        self._position += size
        return size

    def truncate(self, size: int) -> int:
        """Change where it ends."""
        with self._keeping():
            if not self._dropping:
                os.ftruncate(self._descriptor, size)
        self.size = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is gathered."""

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failure = self._failure or error
