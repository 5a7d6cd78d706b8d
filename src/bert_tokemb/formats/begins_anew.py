"""What formats have in common that a library writes on its own."""

from __future__ import annotations

from ..storage.seekable_file import SeekableFile
from .base import FinishedAtEnd, Position

__all__ = ["BeginsAnew"]


class BeginsAnew(FinishedAtEnd):
    """An output with which nobody can go on when it is incomplete."""

    is_file = True
    can_go_on = False
    left = 0
    _file: SeekableFile

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def position(self) -> Position:
        """Return nothing, for that reason."""
        return {}

    def sync(self) -> None:
        """Put on disk what was written."""
        self._file.sync()

    def keep(self, kept: bool) -> None:
        """Keep nothing, for that reason."""
