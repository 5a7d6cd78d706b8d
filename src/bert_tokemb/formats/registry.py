"""Which format a result is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import UsageError
from .base import Output
from .hdf5 import Hdf5Output, Hdf5Shape
from .npyd import NpydOutput
from .parquet import ParquetOutput
from .pickle_file import PickleFile

__all__ = ["FORMATS", "format_of", "open_output"]

FORMATS: Mapping[str, Callable[[str], Output]] = {
    "pkl": PickleFile,
    "npyd": NpydOutput,
    "h5": Hdf5Output,
    "parquet": ParquetOutput,
}
"""By name, which is also the extension of a file."""

_ALSO = {"hdf5": "h5"}
"""Other extensions."""

_DEFAULT = "pkl"

_COMPRESSED = ("gz", "bz2", "xz", "zst")


def format_of(name: str, kind: str | None = None) -> str:
    """Return the format of a result: the one that is asked for or that its name ends in, or pkl.

    Raises:
        UsageError: standard output cannot take that format, or the name asks for a compressed one.
    """
    ending = Path(name).suffix[1:].lower()
    if kind is None and ending in _COMPRESSED:
        raise UsageError(
            f"--output {name}: results are not compressed; name it otherwise, or give --output - "
            "and send it into a compressor"
        )
    ending = _ALSO.get(ending, ending)
    kind = kind or (ending if ending in FORMATS else _DEFAULT)
    if name == "-" and kind != _DEFAULT:
        raise UsageError(f"--format {kind} cannot be written to standard output, only pkl can")
    return kind


def open_output(name: str, kind: str, *, hdf5_shape: Hdf5Shape = "2d") -> Output:
    """Open a result to be written.

    Args:
        name: A path, or ``-`` for standard output.
        kind: A format.
        hdf5_shape: Of a sentence, in HDF5.

    Raises:
        UsageError: it is a terminal.
        OutputError: it cannot be written.
    """
    if kind == "h5":
        return Hdf5Output(name, hdf5_shape)
    return FORMATS[kind](name)
