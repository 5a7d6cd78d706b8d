"""What a result holds, told without holding it in memory."""

from __future__ import annotations

import math
import os
import pickle
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..humanize import format_bytes, printable
from .hdf5 import Hdf5Reader
from .parquet import ParquetReader
from .results import EmbeddedText
from .unpickling import read_arrays

__all__ = ["Inspection", "inspect"]

# What a file begins with, or else how its name ends.
_READERS: tuple[tuple[bytes, tuple[str, ...], str, type[Hdf5Reader | ParquetReader]], ...] = (
    (b"\x89HDF\r\n\x1a\n", (".h5", ".hdf5"), "an HDF5 file", Hdf5Reader),
    (b"PAR1", (".parquet",), "a Parquet file", ParquetReader),
)
_SHOWN_ROWS = 3
_SHOWN_NUMBERS = 4


class Seen(NamedTuple):
    """What was seen of an array, and counts once for each sentence that has it."""

    words: int
    not_finite: int = 0
    zero: int = 0
    rows: tuple[npt.NDArray[Any], ...] = ()
    """The first numbers of its first rows, if these may be shown."""


@dataclass(slots=True)
class Inspection:
    """What was seen of a result so far."""

    name: str
    kind: str
    size: int | None
    """Bytes; None of what is no file, but a pipe."""
    sentences: int = 0
    blank: int = 0
    """Sentences without words."""
    words: int = 0
    widths: set[int] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    least: float = math.inf
    most: float = -math.inf
    not_finite: int = 0
    """Rows with a number that is infinite, or none (NaN)."""
    zero: int = 0
    """Rows of zeros: words without pieces."""
    first: list[tuple[int, npt.NDArray[Any]]] = field(default_factory=list)
    """The first rows, with the number of their sentence, from 1."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the result itself tells of how it was made."""

    _arrays: int = 0
    _rows: int = 0
    _equal: dict[Seen, Seen] = field(default_factory=dict)

    def see(self, array: npt.NDArray[Any]) -> Seen:
        """Look at an array, and return what is to be counted.

        Raises:
            InputError: it is no array of floats, one row for each word.
        """
        self._arrays += 1
        if array.ndim != 2 or array.dtype.kind != "f" or (len(array) and not array.shape[1]):
            raise InputError(
                f"{self.name} holds no word vectors: its array {self._arrays} is of "
                f"{array.dtype}, {array.shape}"
            )
        self.widths.add(array.shape[1])
        self.types.add(array.dtype.name)
        seen = self._look(array) if array.size else Seen(len(array))
        # A pickle's are kept until its end; most are equal, and those with rows few.
        return seen if seen.rows else self._equal.setdefault(seen, seen)

    def _look(self, array: npt.NDArray[Any]) -> Seen:
        finite = np.isfinite(array)
        self.least = min(self.least, float(array.min(initial=math.inf, where=finite)))
        self.most = max(self.most, float(array.max(initial=-math.inf, where=finite)))
        shown = array[: _SHOWN_ROWS - self._rows, :_SHOWN_NUMBERS]
        self._rows += len(shown)
        return Seen(
            len(array),
            not_finite=len(array) - int(finite.all(axis=1).sum()),
            zero=len(array) - int(array.any(axis=1).sum()),
            rows=tuple(shown.copy()),
        )

    def count(self, seen: Seen) -> None:
        """Take in the next sentence."""
        self.sentences += 1
        self.blank += not seen.words
        self.words += seen.words
        self.not_finite += seen.not_finite
        self.zero += seen.zero
        for row in seen.rows[: _SHOWN_ROWS - len(self.first)]:
            self.first.append((self.sentences, row))

    def lines(self) -> Iterator[str]:
        """Yield what was seen, for a person to read."""
        size = "" if self.size is None else f", {format_bytes(self.size)}"
        yield f"{printable(self.name)}: {self.kind}{size}"
        blank = f", {self.blank:,} of them without words" if self.blank else ""
        yield f"  sentences  {self.sentences:,}{blank}"
        yield f"  words      {self.words:,}"
        if self.sentences:
            widths = " and ".join(map(str, sorted(self.widths)))
            yield f"  vectors    {widths} wide, {' and '.join(sorted(self.types))}"
        if self.least <= self.most:
            yield f"  numbers    {self.least:.4g} to {self.most:.4g}"
        yield f"  odd rows   {self.zero:,} of zeros, {self.not_finite:,} with NaN or infinity"
        for name, value in self.about.items():
            yield f"  {name:<14}  {value}"
        for sentence, row in self.first:
            numbers = " ".join(f"{number:8.4f}" for number in row)
            yield f"  sentence {sentence}: {numbers} ..."


def inspect(path: str) -> Inspection:
    """Look at all of a pickled list of arrays, a ``.npyd`` directory, a ``.h5`` or ``.parquet``.

    Raises:
        InputError: it is none of them, damaged, or cannot be read; or a package is missing.
    """
    try:
        if path and Path(path).is_dir():
            return _inspect_directory(Path(path))
        # Not of a Path, which takes an empty name for the directory where we are.
        with open(path, "rb") as file:  # noqa: PTH123
            status = os.fstat(file.fileno())
            size = status.st_size if stat.S_ISREG(status.st_mode) else None
            # Only looked at: a pickle may come through a pipe.
            found = _reader_of(file.peek(8), path)
            if not found:
                return _inspect_pickle(file, Inspection(path, "a pickled list of arrays", size))
            kind, reader = found
            if size is None:
                raise InputError(
                    f"cannot read {path}: {kind} cannot come through a pipe, only a pickle can"
                )
            return _inspect_file(Inspection(path, kind, size), reader(path))
    except OSError as error:
        raise InputError(f"cannot read {path or repr(path)}: {error.strerror or error}") from error


def _reader_of(begin: bytes, path: str) -> tuple[str, type[Hdf5Reader | ParquetReader]] | None:
    """Return what a file is, and what reads it; None for a pickle."""
    for start, _, kind, reader in _READERS:
        if begin.startswith(start):
            return kind, reader
    if not begin.startswith(pickle.PROTO):
        for _, suffixes, kind, reader in _READERS:
            if path.endswith(suffixes):
                return kind, reader
    return None


def _inspect_pickle(file: BufferedReader, inspection: Inspection) -> Inspection:
    for seen in read_arrays(file, inspection.name, inspection.see):
        inspection.count(seen)
    return inspection


def _inspect_directory(path: Path) -> Inspection:
    text = EmbeddedText(path)
    size = sum(file.stat().st_size for file in path.iterdir())
    about = _told(text.meta.get("about"))
    inspection = Inspection(str(path), "a directory of arrays", size, about=about)
    for array in text:
        inspection.count(inspection.see(array))
    return inspection


def _inspect_file(inspection: Inspection, reader: Hdf5Reader | ParquetReader) -> Inspection:
    with reader:
        inspection.about = _told(reader.about)
        for array in reader:
            inspection.count(inspection.see(array))
    return inspection


def _told(about: Any) -> dict[str, str]:
    """Return what a result tells of how it was made, for people to read, whoever wrote it."""
    told = about if isinstance(about, dict) else {}
    return {printable(name): printable(str(value)) for name, value in told.items()}
