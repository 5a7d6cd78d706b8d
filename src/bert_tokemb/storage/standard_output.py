"""Standard output, for what is data."""

from __future__ import annotations

import os
import sys

from ..errors import OutputError
from .writer import Writer, telling

__all__ = ["STDOUT", "StandardOutput"]

STDOUT, _STDERR = 1, 2
"""Descriptors."""


class StandardOutput(Writer):
    """Standard output, taken for itself alone; a context manager.

    What anything else prints meanwhile, a strategy say, goes to standard error.

    Raises:
        OutputError: it is closed.
    """

    def __init__(self) -> None:
        if sys.stdout is None:
            raise OutputError("cannot write standard output: it is closed")
        with telling("standard output"):
            self._file = os.fdopen(os.dup(STDOUT), "wb", buffering=0)
            os.dup2(_STDERR if sys.stderr else os.open(os.devnull, os.O_WRONLY), STDOUT)
        super().__init__("standard output", self._file.fileno())

    def __enter__(self) -> StandardOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.flush()
        finally:
            self._file.close()
