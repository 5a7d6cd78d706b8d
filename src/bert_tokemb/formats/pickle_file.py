"""A pickle in a file, or on standard output."""

from __future__ import annotations

from contextlib import ExitStack

from ..errors import OutputNameError
from ..storage.beside import descriptor_of
from ..storage.standard_output import STDOUT, StandardOutput
from ..storage.whole_file import WholeFile
from ..types import EmbeddedSentence
from .base import Content, FinishedAtEnd, Position
from .pickle import PickleOutput

__all__ = ["PickleFile"]


class PickleFile(FinishedAtEnd):
    """A plain list of arrays, pickled; see :mod:`bert_tokemb.formats.pickle`.

    Args:
        name: A path, or ``-`` for standard output.

    Raises:
        OutputError: it cannot be written.
        UsageError: it is a terminal.
    """

    bytes_per_sentence = 50

    def __init__(self, name: str) -> None:
        is_stdout = name == "-" or descriptor_of(name) == STDOUT
        self._file = StandardOutput() if is_stdout else WholeFile(name, "partial", as_left=True)
        self.name = self._file.name
        with ExitStack() as closing:
            closing.enter_context(self._file)
            if self._file.is_terminal:
                raise OutputNameError(name, "terminal")
            self._closing = closing.pop_all()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    @property
    def left(self) -> int:
        """Bytes that an interrupted run has left."""
        return self._file.left if isinstance(self._file, WholeFile) else 0

    @property
    def is_file(self) -> bool:
        """Whether it is no stream, and no device."""
        return isinstance(self._file, WholeFile) and self._file.is_regular

    @property
    def can_go_on(self) -> bool:
        """Whether it is a file."""
        return self.is_file

    def begin(self, content: Content, position: Position | None = None) -> bool:
        """Begin the list, or go on with it."""
        written = position["bytes"] if position else 0
        if isinstance(self._file, WholeFile) and not self._file.go_to(written):
            return False
        self._output = PickleOutput(self._file, written=written, dtype=content.dtype)
        return True

    def position(self) -> Position:
        """Tell how many bytes belong to whole arrays."""
        self._file.flush()
        return {"bytes": self._file.size}

    def sync(self) -> None:
        """Put on disk what was written; in any thread."""
        if isinstance(self._file, WholeFile):
            self._file.sync()

    def keep(self, kept: bool) -> None:
        """Say whether an incomplete file stays."""
        if isinstance(self._file, WholeFile):
            self._file.keep = kept

    def write(self, one: EmbeddedSentence) -> None:
        """Append a sentence's array."""
        self._output.write(one.array)

    def _finish(self) -> None:
        self._output.end()
        self._file.flush()
