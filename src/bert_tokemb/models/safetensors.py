"""The tensors of a ``model.safetensors``, whole or in shards.

A file is mapped into memory to read it, and pages of a mapping count as memory that is used. So
it is opened anew for each tensor: that costs a millisecond, and takes no more memory than the
tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - teaches NumPy what bfloat16 is
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from ..jsonfile import read_json
from ..types import FloatArray

__all__ = ["Safetensors", "files_of"]

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"

_FLOATS = ("F32", "F16", "BF16")


def files_of(directory: Path) -> list[Path]:
    """Return the weights' files, one or several shards, or none where there is neither.

    Raises:
        ModelError: the index of the shards cannot be read.
    """
    if (whole := directory / WHOLE).exists():
        return [whole]
    if not (index := directory / INDEX).exists():
        return []
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(map(_is_name, shards.values())):
        raise ModelError(f"{index} is damaged: it has no weight_map")
    # Names only: a path that leads elsewhere is no shard.
    return [directory / Path(name).name for name in sorted(set(shards.values()))]


def _is_name(found: object) -> bool:
    return isinstance(found, str) and found.isprintable()


class Safetensors:
    """The tensors of some files; see :class:`bert_tokemb.models.weights.TensorFile`.

    Raises:
        ModelError: a file cannot be read, is damaged or cut short.
    """

    def __init__(self, files: list[Path]) -> None:
        self._places: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with _opened(path) as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    self._places[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every tensor by its name."""
        return self._shapes

    def read(self, name: str) -> FloatArray:
        """Return a tensor as float32, in memory of its own.

        Raises:
            ModelError: it holds something else than F32, F16 or BF16.
        """
        path = self._places[name]
        with _opened(path) as file:
            kind = file.get_slice(name).get_dtype()
            if kind not in _FLOATS:
                raise ModelError(
                    f"{path} holds {name} as {kind}: supported are {', '.join(_FLOATS)}"
                )
            values: FloatArray = file.get_tensor(name).astype(np.float32, copy=False)
        return values


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        # The library's own sentences do not name the file; and it cannot map an empty one.
        with path.open("rb"):
            pass
        with safe_open(path, framework="np") as file:
            yield file
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}): download it again") from error
