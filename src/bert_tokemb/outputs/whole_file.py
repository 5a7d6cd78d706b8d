"""A file that is whole or absent."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ..errors import OutputError

__all__ = ["WholeFile"]

# Arrays of some ten words are gathered into writes of this size; larger ones pass by.
_BUFFER = 1 << 18


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
            self._file: BinaryIO = (
                self._partial.open("xb", _BUFFER)
                if self._partial
                else self._target.open("wb", _BUFFER)
            )

    def write(self, data: Any) -> int:
        """Append bytes, or anything with a buffer."""
        with self._telling():
            written = self._file.write(data)
        self.size += written
        return written

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
        with self._telling():
            self._file.flush()
            if self._partial:
                os.fsync(self._file.fileno())
                self._file.close()
                self._partial.replace(self._target)
                self._partial = None

    def _discard(self) -> None:
        # Closing writes what is still buffered, and fails again where writing failed.
        with suppress(OSError):
            self._file.close()
        if self._partial:
            with suppress(OSError):
                self._partial.unlink()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror or error}") from error
