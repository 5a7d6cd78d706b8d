"""Outputs that are written directly: standard output, pipes, devices."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import OutputError, OutputNameError, translate
from .target import STDOUT, OutputTarget

__all__ = ["open_stream"]

_STDERR = 2


@contextmanager
def open_stream(target: OutputTarget) -> Iterator[int]:
    """Open a stream, and yield a descriptor to write to.

    If it is standard output, the descriptor has it alone: whatever else prints in the meantime,
    such as a strategy, prints to standard error.

    Raises:
        OutputError: if it is closed or cannot be opened.
        OutputNameError: if it is a terminal.
    """
    if target.descriptor == STDOUT and sys.stdout is None:
        raise OutputError(f"cannot write {target.name}: it is closed")
    with translate(OutputError, f"write {target.name}"):
        if target.descriptor is None:
            descriptor = os.open(target.path, os.O_WRONLY | os.O_CLOEXEC)
        else:
            descriptor = os.dup(target.descriptor)
    try:
        if os.isatty(descriptor):
            raise OutputNameError(target.name, "terminal")
        if target.descriptor == STDOUT:
            os.dup2(_STDERR if sys.stderr else os.open(os.devnull, os.O_WRONLY), STDOUT)
        yield descriptor
    finally:
        os.close(descriptor)
