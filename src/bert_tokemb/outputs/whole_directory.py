"""A directory that is whole or absent."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from .beside import beside, is_at, open_locked, replaced
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
            if self._target.exists() and not _is_removed(self._aside):
                raise self._in_the_way()
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
        os.fsync(self._descriptor)
        self._refuse_what_is_not_ours()  # something may have come into it meanwhile
        if not is_at(self._descriptor, self.path):
            raise replaced(self.name, self.path)
        if not _is_removed(self._aside):
            raise self._in_the_way()
        with suppress(FileNotFoundError):
            self._target.rename(self._aside)
        self.path.rename(self._target)
        self.keep = False
        _sync(self._target.parent)
        if not _is_removed(self._aside):
            _log.warning("the older %s cannot be removed, it is %s now", self.name, self._aside)

    def _in_the_way(self) -> OutputError:
        return OutputError(f"cannot write {self.name}: {self._aside} cannot be removed, remove it")


def _is_removed(directory: Path) -> bool:
    """Remove an older result, or what else is there, if that can be."""
    with suppress(OSError):
        if not directory.is_symlink():
            directory.chmod(0o700)  # it may have been protected
    shutil.rmtree(directory, ignore_errors=True)
    return not os.path.lexists(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
