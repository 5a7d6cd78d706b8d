"""Reading back a result without reading all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from .errors import InputError
from .outputs.npyd import FORMAT, META, OFFSETS, VECTORS
from .types import FloatArray

__all__ = ["EmbeddedText"]


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
        InputError: it is no such directory, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        directory = Path(path)
        try:
            self.meta: Mapping[str, Any] = json.loads((directory / META).read_bytes())
            if self.meta.get("format") != FORMAT:
                raise ValueError(f"{META} is not of {FORMAT}")
            self.offsets = np.load(directory / OFFSETS, mmap_mode="r")
            # A file without rows cannot be mapped.
            mode: Literal["r"] | None = "r" if self.meta["words"] else None
            self.vectors: FloatArray = np.load(directory / VECTORS, mmap_mode=mode)
            shapes = (self.meta["sentences"] + 1,), (self.meta["words"], self.meta["width"])
            if (self.offsets.shape, self.vectors.shape) != shapes:
                raise ValueError(f"its files are not of the shapes {shapes}")
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (AttributeError, EOFError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged, or no .npyd directory: {error}") from error

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
        start, end = self.offsets[i % len(self) :][:2]
        # Its own copy, that the file need not stay.
        return np.array(self.vectors[start:end])

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[i] for i in range(len(self)))
