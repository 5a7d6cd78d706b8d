"""A file that is whole or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType

from ..errors import OutputError

__all__ = ["WholeFile"]

# What is smaller is gathered, up to the buffer's size; what is larger, such as the vectors of a
# sentence, is written from where it lies: copying it first was measured to cost a third.
_SMALL = 1 << 13
_BUFFER = 1 << 17


class WholeFile:
    """A binary file that takes its name only when it is complete; a context manager.

    The bytes go into ``.NAME.partial-*`` beside it and are put to disk and renamed at the end
    of the block. An older file stays until then, and for good when the block raises. A link is
    followed. What is no regular file (``/dev/null``, a pipe) cannot be replaced and is written
    to directly.

    Raises:
        OutputError: it cannot be written, whatever the reason that the system gives.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._target = Path(os.path.realpath(name))
        self._partial: Path | None = None
        self.size = 0
        """Bytes written so far."""
        with self._telling():
            if not self._target.exists() or self._target.is_file():
                self._partial = self._target.with_name(
                    f".{self._target.name}.partial-{secrets.token_hex(4)}"
                )
            self._file: FileIO = (
                self._partial.open("xb", buffering=0)
                if self._partial
                else self._target.open("wb", buffering=0)
            )
        self._gathered = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size >= _SMALL or len(self._gathered) >= _BUFFER:
            self._flush()
        if size >= _SMALL:
            self._write(data)
        else:
            self._gathered += data
        self.size += size
        return size

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        self._flush()
        with self._telling():
            if self._partial:
                os.fsync(self._file.fileno())
                self._file.close()
                self._partial.replace(self._target)
                self._partial = None

    def _discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        if self._partial:
            with suppress(OSError):
                self._partial.unlink()

    def _flush(self) -> None:
        if self._gathered:
            self._write(self._gathered)
            self._gathered = bytearray()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        left = memoryview(data).cast("B")
        try:
            while left:
                # A system call may write less than it is given, above 2 GiB always.
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"cannot write {self._name}: {error.strerror or error}")

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._failure(error) from error
