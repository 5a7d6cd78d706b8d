"""A file that is whole or absent."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Literal

from .beside import (
    beside,
    descriptor_of,
    is_at,
    open_locked,
    replaced,
    status,
    sync_directory,
)
from .writer import Writer, telling

__all__ = ["WholeFile"]


class WholeFile(Writer):
    """A binary file that takes its name only when it is complete; a context manager.

    The bytes go into a hidden file beside it and are put to disk and renamed at the end of
    the block. An older file stays until then, and for good when the block raises. A link is
    followed, and an older file's permissions are kept. What is no regular file (``/dev/null``,
    a pipe) cannot be replaced and is written to directly, and so is what is open already
    (``/dev/stdout``).

    Args:
        name: What it will be called.
        kind: Of the hidden file: ``partial`` for a result, ``.NAME.partial``, whose journal is
            locked; else ``new``, so that neither is taken for the other.
        as_left: Whether it is opened as it was left by others; :meth:`go_to` says how much of
            it is meant.

    Attributes:
        keep: Whether it stays when the block raises.

    Raises:
        OutputError: it cannot be written, whatever the reason that the system gives, or another
            run is writing it.
    """

    def __init__(
        self, name: str, kind: Literal["partial", "new"] = "new", *, as_left: bool = False
    ) -> None:
        self._target = Path(os.path.realpath(name))
        self._partial: Path | None = None
        self.keep = False
        with telling(name):
            older = status(name)
            if (descriptor := descriptor_of(name)) is not None:
                self._file = FileIO(os.dup(descriptor), "w")
            elif older is None or stat.S_ISREG(older.st_mode):
                self._partial = beside(self._target, kind)
                if kind == "partial" and self._partial.is_dir() and not self._partial.is_symlink():
                    shutil.rmtree(self._partial)  # what was left was of another format
                self._file = FileIO(open_locked(self._partial, name), "r+")
                if not as_left:
                    self._file.truncate(0)
            else:
                self._file = FileIO(name, "w")
        self._mode = older and stat.S_IMODE(older.st_mode)
        if self._partial and self._mode is not None:
            with telling(name):  # what is private stays so, and can be gone on with
                os.fchmod(self._file.fileno(), self._mode | stat.S_IRUSR | stat.S_IWUSR)
        super().__init__(name, self._file.fileno())

    @property
    def is_regular(self) -> bool:
        """Whether it is renamed at the end; else it is written to directly."""
        return self._partial is not None

    @property
    def left(self) -> int:
        """Bytes that are in it, whoever wrote them."""
        return os.fstat(self._descriptor).st_size if self._partial else 0

    def go_to(self, size: int) -> bool:
        """Forget what is behind the first bytes; False when there are not as many."""
        if self._partial:
            with telling(self.name):
                if self._file.seek(0, os.SEEK_END) < size:
                    return False
                self._file.truncate(size)
                self._file.seek(size)
        self.size = size
        return True

    def sync(self) -> None:
        """Put on disk what was written; in any thread."""
        with telling(self.name):
            os.fdatasync(self._descriptor)

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
                if not is_at(self._descriptor, self._partial):
                    raise replaced(self.name, self._partial)
                # Locked until it has its name: who opens the partial one next gets one of its own.
                self._partial.replace(self._target)
                self._partial = None
                self._file.close()
                sync_directory(self._target.parent)

    def _discard(self) -> None:
        with suppress(OSError):
            # Not what another run has put there.
            if self._partial and not self.keep and is_at(self._descriptor, self._partial):
                self._partial.unlink()
        with suppress(OSError):
            self._file.close()
