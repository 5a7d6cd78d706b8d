"""The formats of results, and which of them a name or a file has."""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputNameError, translate
from .base import Output, Reader
from .hdf5 import Hdf5Output, Hdf5Reader, Hdf5Shape
from .npyd import EmbeddedText, NpydOutput
from .parquet import ParquetOutput, ParquetReader
from .pickle import PickleReader
from .pickle_file import PickleFile

__all__ = ["FORMATS", "format_of", "open_output", "open_reader"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of results."""

    writer: Callable[[str], Output]
    """Makes the output, given its path; ``-`` is standard output."""
    reader: Callable[..., Reader]
    """Makes the reader, given a path; for a pickle, given an open file and its path."""
    suffixes: tuple[str, ...]
    magic: bytes | None
    """How its files begin; None for a directory."""


_DEFAULT = "pkl"

FORMATS: Mapping[str, Format] = {
    _DEFAULT: Format(PickleFile, PickleReader, (".pkl",), pickle.PROTO),
    "npyd": Format(NpydOutput, EmbeddedText, (".npyd",), None),
    "h5": Format(Hdf5Output, Hdf5Reader, (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n"),
    "parquet": Format(ParquetOutput, ParquetReader, (".parquet",), b"PAR1"),
}

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_of(name: str, chosen: str | None = None) -> str:
    """Return the format of an output: the chosen one, or the one that its name ends in, or ``pkl``.

    Raises:
        OutputNameError: if the output cannot have this name in this format.
    """
    if not name:
        raise OutputNameError(name, "empty")
    if chosen is None and Path(name).suffix.lower() in _COMPRESSED:
        raise OutputNameError(name, "compressed")
    kind = chosen or _format_by_suffix(name)
    if name == "-" and kind != _DEFAULT:
        raise OutputNameError("standard output", "not seekable", kind)
    return kind


def open_output(name: str, kind: str, *, hdf5_shape: Hdf5Shape = "2d") -> Output:
    """Open an output.

    Args:
        name: A path, or ``-`` for standard output.
        kind: A format.
        hdf5_shape: The shape of a sentence in HDF5.

    Raises:
        OutputNameError: if it is a terminal.
        OutputError: if it cannot be written.
    """
    if kind == "h5":
        return Hdf5Output(name, hdf5_shape)
    return FORMATS[kind].writer(name)


def open_reader(path: str) -> Reader:
    """Open a result for reading: a directory, or a file whose content or else name says its format.

    A pickle can also be read from a pipe.

    Raises:
        InputError: if it cannot be read, or is not a result.
    """
    with translate(InputError, f"read {path or repr(path)}"), ExitStack() as closing:
        # pathlib takes an empty path for the working directory.
        if path and Path(path).is_dir():
            return EmbeddedText(path)
        file = closing.enter_context(open(path, "rb"))  # noqa: PTH123
        # peek, because a pipe cannot be read twice.
        kind = _format_by_content(file.peek(8)) or _format_by_suffix(path)
        if kind == _DEFAULT:
            closing.pop_all()
            return PickleReader(file, path)
        reader = FORMATS[kind].reader
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(
                f"cannot read {path}: only a pickle can be read from a pipe, not {kind}"
            )
    return reader(path)


def _format_by_content(start: bytes) -> str | None:
    return next((k for k, f in FORMATS.items() if f.magic and start.startswith(f.magic)), None)


def _format_by_suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return next((kind for kind, form in FORMATS.items() if suffix in form.suffixes), _DEFAULT)
