"""What a result contains, computed without holding it in memory."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import InputError, translate
from ..humanize import printable
from .registry import open_reader

__all__ = ["Inspection", "inspect"]

_FIRST_ROWS = 3
_FIRST_NUMBERS = 4


@dataclass(slots=True)
class Inspection:
    """Statistics of a result."""

    name: str
    kind: str
    """The kind of result, such as ``an HDF5 file``."""
    size: int | None
    """Bytes; None for a pipe."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the result says about how it was made, safe to print."""
    sentences: int = 0
    blank: int = 0
    """Sentences without words."""
    words: int = 0
    widths: set[int] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    least: float = math.inf
    """The smallest finite value."""
    most: float = -math.inf
    """The largest finite value."""
    not_finite: int = 0
    """Rows that contain NaN or infinity."""
    zero: int = 0
    """Rows of zeros: words without pieces."""
    first: list[tuple[int, npt.NDArray[Any]]] = field(default_factory=list)
    """The start of each of the first rows, with the number of the sentence, from 1."""

    def _add(self, array: _ArrayStatistics) -> None:
        self.sentences += 1
        if array.problem:
            raise InputError(
                f"{self.name} does not contain word vectors: its array {self.sentences} is "
                f"{array.problem}"
            )
        self.blank += not array.words
        self.words += array.words
        self.widths.add(array.width)
        self.types.add(array.dtype)
        self.least = min(self.least, array.least)
        self.most = max(self.most, array.most)
        self.not_finite += array.not_finite
        self.zero += array.zero
        for row in array.first[: _FIRST_ROWS - len(self.first)]:
            self.first.append((self.sentences, row))


def inspect(path: str) -> Inspection:
    """Compute the statistics of a result in any format.

    Raises:
        InputError: if it is not a result, is damaged, or cannot be read, or if a package that
            reads it is not installed.
    """
    with open_reader(path) as reader:
        about = {printable(name): printable(str(value)) for name, value in reader.about.items()}
        inspection = Inspection(path, reader.description, _size(path), about)
        for statistics in reader.map(_statistics):
            inspection._add(statistics)
    return inspection


def _size(name: str) -> int | None:
    with translate(InputError, f"read {name}"):
        path = Path(name)
        if path.is_dir():
            return sum(file.stat().st_size for file in path.iterdir())
        status = path.stat()
        return status.st_size if stat.S_ISREG(status.st_mode) else None


class _ArrayStatistics(NamedTuple):
    """Statistics of one array; see :class:`Inspection`."""

    words: int = 0
    width: int = 0
    dtype: str = ""
    least: float = math.inf
    most: float = -math.inf
    not_finite: int = 0
    zero: int = 0
    first: npt.NDArray[Any] | tuple[()] = ()
    problem: str = ""
    """What the array is, if it does not consist of word vectors."""


def _statistics(array: npt.NDArray[Any]) -> _ArrayStatistics:
    if array.ndim != 2 or array.dtype.kind != "f" or (len(array) and not array.shape[1]):
        return _ArrayStatistics(problem=f"{array.dtype} of shape {array.shape}")
    words, width = array.shape
    if not array.size:
        return _ArrayStatistics(words, width, array.dtype.name)
    finite = np.isfinite(array)
    return _ArrayStatistics(
        words,
        width,
        array.dtype.name,
        least=float(array.min(initial=math.inf, where=finite)),
        most=float(array.max(initial=-math.inf, where=finite)),
        not_finite=words - int(finite.all(axis=1).sum()),
        zero=words - int(array.any(axis=1).sum()),
        first=array[:_FIRST_ROWS, :_FIRST_NUMBERS].copy(),
    )
