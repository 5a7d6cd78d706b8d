"""Which format a result is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import UsageError
from .npyd import NpydOutput
from .output import Output
from .pickle_file import PickleFile

__all__ = ["FORMATS", "open_output"]

FORMATS: Mapping[str, Callable[[str], Output]] = {"pkl": PickleFile, "npyd": NpydOutput}
"""By name, which is also the extension of a file."""


def open_output(name: str, kind: str | None = None) -> Output:
    """Open a result to be written.

    Args:
        name: A path, or ``-`` for standard output.
        kind: A format; by default the one that the name ends in, or else a pickle.

    Raises:
        UsageError: standard output cannot take that format, or is a terminal.
        OutputError: it cannot be written.
    """
    kind = kind or Path(name).suffix[1:]
    if name == "-" and kind not in ("", "pkl"):
        raise UsageError(f"--format {kind} cannot be written to standard output, only pkl can")
    return FORMATS.get(kind, PickleFile)(name)
