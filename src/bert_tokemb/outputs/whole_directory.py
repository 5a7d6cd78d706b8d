"""A directory that is whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import OutputError
from .whole_file import partial_name
from .writer import telling

__all__ = ["WholeDirectory"]


class WholeDirectory:
    """A directory that takes its name only when all its files are complete; a context manager.

    The files go into ``.NAME.partial-*`` beside it, which is put to disk and renamed at the end
    of the block. An older one is moved aside before and removed after that, so that at every
    moment one of them is there, whole.

    Args:
        name: What it will be called.
        is_ours: Tells whether a directory of that name may be replaced.

    Raises:
        OutputError: it cannot be written, or something else has that name.
    """

    def __init__(self, name: str, is_ours: Callable[[Path], bool]) -> None:
        self.name = name
        self._target = Path(os.path.realpath(name))
        with telling(name):
            if self._target.exists() and not (self._target.is_dir() and is_ours(self._target)):
                raise OutputError(
                    f"{name} is there already, and is no such directory: name another, or remove it"
                )
            self.path = self._target.with_name(partial_name(self._target.name))
            self.path.mkdir()

    def __enter__(self) -> WholeDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                with telling(self.name):
                    self._finish()
        finally:
            shutil.rmtree(self.path, ignore_errors=True)

    def _finish(self) -> None:
        _sync(self.path)
        aside = self._target.with_name(partial_name(self._target.name))
        with suppress(FileNotFoundError):
            self._target.rename(aside)
        self.path.rename(self._target)
        shutil.rmtree(aside, ignore_errors=True)
        _sync(self._target.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
