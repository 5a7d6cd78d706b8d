"""A pickle in a file, or on standard output."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..types import Embedded
from .pickle import PickleOutput
from .standard_output import StandardOutput
from .whole_file import WholeFile

__all__ = ["PickleFile"]


class PickleFile:
    """A plain list of arrays, pickled; see :mod:`bert_tokemb.outputs.pickle`.

    Args:
        name: A path, or ``-`` for standard output.

    Raises:
        OutputError: it cannot be written.
        UsageError: standard output is a terminal.
    """

    def __init__(self, name: str) -> None:
        self._file = StandardOutput() if name == "-" else WholeFile(name)
        self.name = self._file.name

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def begin(self, width: int, dtype: np.dtype[Any]) -> None:
        """Begin the list."""
        self._output = PickleOutput(self._file)

    def write(self, one: Embedded) -> None:
        """Append a sentence's array."""
        self._output.write(one.array)

    def __enter__(self) -> PickleFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self._file.__exit__(kind, *rest)
            return
        with self._file:
            self._output.end()
