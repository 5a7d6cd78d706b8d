"""Reading back a result without reading all of it."""

from __future__ import annotations

import json
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import FloatArray
from .npyd import FORMAT, META, OFFSETS, VECTORS

__all__ = ["EmbeddedText"]

# What damaged files were seen to raise, or can. Of brackets only the JSON parser recurses.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,  # of a header that NumPy takes for one of Python 2
)
_LONGEST_HEADER = 1 << 16


class EmbeddedText(Sequence[FloatArray]):
    """The arrays of a ``.npyd`` directory; each is read from the disk when it is looked at.

    ``bert_tokemb.open`` is another name of it: ``bert_tokemb.open(path)[i]`` is the array of the
    i-th sentence.

    Attributes:
        vectors: ``(words, c)``, mapped into memory, read-only.
        offsets: ``(sentences + 1,)`` int64, mapped too: sentence ``i`` has the rows
            ``offsets[i] : offsets[i + 1]``.
        meta: What ``meta.json`` tells.

    Raises:
        InputError: it is no such directory, or damaged; when an array is looked at, that it is
            said to lie where none can.
    """

    def __init__(self, path: str | Path) -> None:
        directory = Path(path)
        self._path = path
        try:
            if directory.is_dir() and not (directory / META).exists():
                raise InputError(f"cannot read {path}: a directory without {META} is no .npyd")
            self.meta: Mapping[str, Any] = json.loads((directory / META).read_bytes())
            if self.meta.get("format") != FORMAT:
                raise ValueError(f"{META} is not of {FORMAT}")
            self.offsets = _mapped(directory / OFFSETS)
            # A file without rows cannot be mapped.
            read = _mapped if self.meta["words"] else _empty
            self.vectors: FloatArray = read(directory / VECTORS)
            self._check()
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except _DAMAGE as error:
            raise InputError(f"{path} is damaged, or no .npyd directory: {error}") from error

    def _check(self) -> None:
        """Check what takes no time; of the offsets the ends only.

        Raises:
            ValueError: the files are not as they must be.
        """
        shapes = (self.meta["sentences"] + 1,), (self.meta["words"], self.meta["width"])
        if (self.offsets.shape, self.vectors.shape) != shapes:
            raise ValueError(f"its files are not of the shapes {shapes}")
        if self.offsets.dtype.newbyteorder("=") != np.int64 or self.vectors.dtype.kind != "f":
            raise ValueError("its files do not hold int64 and floats")
        if (self.offsets[0], self.offsets[-1]) != (0, len(self.vectors)):
            raise ValueError(f"{OFFSETS} does not go from 0 to {len(self.vectors)}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, i: int) -> FloatArray: ...
    @overload
    def __getitem__(self, i: slice) -> list[FloatArray]: ...

    def __getitem__(self, i: int | slice) -> FloatArray | list[FloatArray]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"sentence {i} of {len(self)}")
        start, end = map(int, self.offsets[i % len(self) :][:2])
        if not 0 <= start <= end <= len(self.vectors):
            raise InputError(
                f"{self._path} is damaged: array {i % len(self)} is said to be the rows {start} "
                f"to {end}"
            )
        # Its own copy, that the file need not stay.
        return np.array(self.vectors[start:end])

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))


# Not numpy.load, which would take other files than .npy too.
def _mapped(path: Path) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    return array


def _empty(path: Path) -> npt.NDArray[Any]:
    if path.stat().st_size > _LONGEST_HEADER:
        raise ValueError(f"{path.name} is not empty")
    with path.open("rb") as file:
        array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array
