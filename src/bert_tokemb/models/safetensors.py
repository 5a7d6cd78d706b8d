"""The tensors of ``model.safetensors``, in one file or in shards.

To read a file, the library maps it into memory, and mapped pages count as used memory. The file
is therefore opened again for each tensor, which takes a millisecond and no more memory than the
tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16 with NumPy
import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelError, translate
from ..jsonfile import read_json
from ..types import FloatArray

__all__ = ["Safetensors", "weight_files"]

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"

_FLOATS = ("F32", "F16", "BF16")


def weight_files(directory: Path) -> Sequence[Path]:
    """Return the file of the weights, or its shards, or nothing if there are none.

    Raises:
        ModelError: if the index of the shards cannot be read.
    """
    if (whole := directory / _WHOLE).exists():
        return [whole]
    if not (index := directory / _INDEX).exists():
        return []
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(map(_is_name, shards.values())):
        raise ModelError(f"{index} is damaged: it has no weight_map")
    # File names only, since an index must not refer to files outside its directory.
    return [directory / Path(name).name for name in sorted(set(shards.values()))]


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value.isprintable()


class Safetensors:
    """The tensors of some files; see :class:`bert_tokemb.models.weights.TensorFile`.

    Raises:
        ModelError: if a file cannot be read, is damaged or is cut short.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            with _open(path) as file:
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    self._paths[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor."""
        return self._shapes

    def read(self, name: str) -> FloatArray:
        """Return a tensor as a new float32 array.

        Raises:
            ModelError: if its data type is not F32, F16 or BF16.
        """
        path = self._paths[name]
        with _open(path) as file:
            dtype = file.get_slice(name).get_dtype()
            if dtype not in _FLOATS:
                raise ModelError(
                    f"{path} holds {name} as {dtype}, which is not supported (supported: "
                    f"{', '.join(_FLOATS)})"
                )
            values: FloatArray = file.get_tensor(name).astype(np.float32, copy=False)
        return values


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    with translate(
        ModelError,
        f"read {path}",
        damage=(SafetensorError,),
        damaged=f"{path} is damaged, download it again",
    ):
        # The library's own messages do not name the file, and it cannot map an empty file.
        with path.open("rb"):
            pass
        try:
            with safe_open(path, framework="np") as file:
                yield file
        except BaseException as error:
            # The library, written in Rust, panics if Python has no memory for a tensor. The class
            # derives from BaseException and cannot be imported. All others are raised again.
            if type(error).__name__ == "PanicException":
                raise MemoryError from error
            raise
