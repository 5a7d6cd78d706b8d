"""A file that is whole or absent."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path

from .writer import Writer, telling

__all__ = ["WholeFile", "partial_name"]

# A name may have 255 bytes in most file systems.
_LONGEST_NAME = 255


class WholeFile(Writer):
    """A binary file that takes its name only when it is complete; a context manager.

    The bytes go into ``.NAME.partial-*`` beside it and are put to disk and renamed at the end
    of the block. An older file stays until then, and for good when the block raises. A link is
    followed, and an older file's permissions are kept. What is no regular file (``/dev/null``,
    a pipe) cannot be replaced and is written to directly.

    Raises:
        OutputError: it cannot be written, whatever the reason that the system gives.
    """

    def __init__(self, name: str) -> None:
        self._target = Path(os.path.realpath(name))
        self._partial: Path | None = None
        with telling(name):
            older = _status(name)
            if older is None or stat.S_ISREG(older.st_mode):
                self._partial = self._target.with_name(partial_name(self._target.name))
                self._file = FileIO(self._partial, "x")
            else:
                # By its given name: a pipe behind /dev/fd has no other.
                self._file = FileIO(name, "w")
        self._mode = older and stat.S_IMODE(older.st_mode)
        super().__init__(name, self._file.fileno())

    def __enter__(self) -> WholeFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        self.flush()
        with telling(self.name):
            if self._partial:
                if self._mode is not None:
                    os.fchmod(self._descriptor, self._mode)
                os.fsync(self._descriptor)
                self._file.close()
                self._partial.replace(self._target)
                self._partial = None

    def _discard(self) -> None:
        with suppress(OSError):
            self._file.close()
        if self._partial:
            with suppress(OSError):
                self._partial.unlink()


def _status(name: str) -> os.stat_result | None:
    try:
        return Path(name).stat()
    except FileNotFoundError:
        return None


def partial_name(name: str) -> str:
    """Make up a name that nobody has yet, as long as a name may be.

    >>> partial_name("output.pkl")[:-8], len(partial_name("x" * 255))
    ('.output.pkl.partial-', 255)
    """
    end = f".partial-{secrets.token_hex(4)}"
    start = os.fsencode(name)[: _LONGEST_NAME - len(end) - 1]
    return f".{os.fsdecode(start)}{end}"
