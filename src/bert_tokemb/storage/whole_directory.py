"""A directory that is whole or absent."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from .beside import beside, is_at, open_locked, replaced, status, sync_directory
from .writer import telling

__all__ = ["WholeDirectory"]

_log = logging.getLogger(__name__)


class WholeDirectory:
    """A directory that takes its name only when all its files are complete; a context manager.

    The files go into ``.NAME.partial`` beside it, which is put to disk and renamed at the end
    of the block. An older one is moved aside before and removed after that, so that at every
    moment one of them is there, whole.

    ``.NAME.partial`` is opened as it was left by an interrupted run.

    Args:
        name: What it will be called.
        is_ours: Tells whether a directory of that name may be replaced.

    Attributes:
        keep: Whether ``.NAME.partial`` stays when the block raises.

    Raises:
        OutputError: it cannot be written, another run is writing it, or something else has that
            name.
    """

    def __init__(self, name: str, is_ours: Callable[[Path], bool]) -> None:
        self.name = name
        self.keep = False
        self._target = Path(os.path.realpath(name))
        self._aside = beside(self._target, "older")
        self._is_ours = is_ours
        with telling(name):
            self._refuse_what_is_not_ours()
            self.path = beside(self._target, "partial")
            # Where there is no newer one it may be of use; else it is no longer.
            if self._target.exists():
                self._remove_older()
            if self.path.is_file():  # what was left was of another format
                self.path.unlink()
            self._descriptor = open_locked(self.path, name, directory=True)

    def __enter__(self) -> WholeDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                with telling(self.name):
                    self._finish()
        finally:
            # Not what another run has put there.
            if not self.keep and is_at(self._descriptor, self.path):
                shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)

    def _refuse_what_is_not_ours(self) -> None:
        if self._target.exists() and not (self._target.is_dir() and self._is_ours(self._target)):
            raise OutputError(
                f"{self.name} is there already, and is no such directory, or holds something "
                "else: name another, or remove it"
            )

    def _finish(self) -> None:
        sync_directory(self.path)
        self._refuse_what_is_not_ours()  # something may have come into it meanwhile
        if not is_at(self._descriptor, self.path):
            raise replaced(self.name, self.path)
        self._remove_older()
        if older := status(str(self._target)):
            os.fchmod(self._descriptor, stat.S_IMODE(older.st_mode))
            self._target.rename(self._aside)
        try:
            self.path.rename(self._target)
        except OSError:
            if older:
                self._aside.rename(self._target)
            raise
        self.keep = False
        sync_directory(self._target.parent)
        try:
            self._remove_older()
        except OutputError:
            _log.warning("the older %s cannot be removed, it is %s now", self.name, self._aside)

    def _remove_older(self) -> None:
        """Remove what was moved aside.

        Raises:
            OutputError: something of that name stays.
        """
        with suppress(OSError):
            if not self._aside.is_symlink() and self._is_ours(self._aside):
                self._aside.chmod(0o700)  # it may have been protected
                shutil.rmtree(self._aside, ignore_errors=True)
        if os.path.lexists(self._aside):
            raise OutputError(
                f"cannot write {self.name}: {self._aside} cannot be removed, remove it"
            )
