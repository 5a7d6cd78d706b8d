"""The formats of results, and which of them a name or a file has."""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, OutputNameError, translate
from .base import Reader, Writer
from .hdf5 import Hdf5Reader, Hdf5Writer
from .npyd import EmbeddedText, NpydWriter
from .parquet import ParquetReader, ParquetWriter
from .pickle import PickleReader, PickleWriter

__all__ = ["FORMATS", "Format", "format_of", "open_reader"]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of results."""

    name: str
    writer: type[Writer]
    reader: type[Reader]
    suffixes: tuple[str, ...]
    magic: bytes | None
    """How its files begin; None for a directory."""


_DEFAULT = "pkl"

FORMATS: Mapping[str, Format] = {
    format.name: format
    for format in (
        Format(_DEFAULT, PickleWriter, PickleReader, (".pkl", ".pickle", ""), pickle.PROTO),
        Format("npyd", NpydWriter, EmbeddedText, (".npyd",), None),
        Format("h5", Hdf5Writer, Hdf5Reader, (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n"),
        Format("parquet", ParquetWriter, ParquetReader, (".parquet",), b"PAR1"),
    )
}

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_of(name: str, chosen: str | None = None) -> Format:
    """Return the format of an output: the chosen one, else that of its suffix.

    Raises:
        OutputNameError: if the name is empty, ends like that of a compressed file or in a suffix
            of no format, or if it must be a directory and the format is a file.
    """
    if not name:
        raise OutputNameError(name, "empty")
    suffix = Path(name).suffix.lower()
    format = FORMATS[chosen] if chosen else _format_by_suffix(name)
    if format is None:
        raise OutputNameError(name, "compressed" if suffix in _COMPRESSED else "unknown suffix")
    if name.endswith("/") and not format.writer.is_directory:
        raise OutputNameError(name, "directory", format.name)
    return format


def open_reader(path: str) -> Reader:
    """Open a result for reading.

    The first bytes of a file determine its format, or else its name does. A pickle may come from a
    pipe.

    Raises:
        InputError: if it cannot be read, or is not a result.
    """
    with translate(InputError, f"read {path or repr(path)}"), ExitStack() as closing:
        # pathlib takes an empty path for the working directory.
        if path and Path(path).is_dir():
            return EmbeddedText(path)
        file = closing.enter_context(open(path, "rb"))  # noqa: PTH123
        # Nothing is consumed, because a pipe cannot be read twice.
        format = _format_by_content(file.peek(8)) or _format_by_suffix(path)
        if format is None or format.name == _DEFAULT:
            closing.pop_all()
            return PickleReader(path, file)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(
                f"cannot read {path}: {format.reader.description} cannot be read from a pipe, only "
                "a pickle can"
            )
    return format.reader(path)


def _format_by_content(start: bytes) -> Format | None:
    found = (format for format in FORMATS.values() if format.magic)
    return next((format for format in found if start.startswith(format.magic or b"")), None)


def _format_by_suffix(name: str) -> Format | None:
    suffix = Path(name).suffix.lower()
    return next((format for format in FORMATS.values() if suffix in format.suffixes), None)
