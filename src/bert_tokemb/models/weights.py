"""The weights of a model, checked as they are read, whatever the names in the file.

Architectures ask for tensors by the names that Hugging Face gives them, without a prefix such as
``bert.``. A :class:`Naming` says which names a file may use instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import ModelError
from ..types import FloatArray

__all__ = ["Naming", "TensorFile", "Weights"]


class TensorFile(Protocol):
    """Tensors by name, in one file or several."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of every tensor, known without reading any."""

    def read(self, name: str) -> FloatArray:
        """Return a tensor as a new float32 array.

        Raises:
            ModelError: if the tensor cannot be read.
        """


@dataclass(frozen=True, slots=True)
class Naming:
    """How a kind of file names and lays out the tensors of an architecture."""

    spellings: Callable[[str], Sequence[str]]
    """Maps Hugging Face's name of a tensor to its possible names in the file, the usual one first.
    """
    kernels_are_transposed: bool
    """Whether kernels are stored as ``(out, in)``, as PyTorch does, or as ``(in, out)``."""


class Weights:
    """Weights with the shapes that the configuration implies, and without NaN.

    Args:
        file: The tensors as stored.
        origin: The name of the file in error messages.
        naming: The names that the file uses.
    """

    def __init__(self, file: TensorFile, origin: str, naming: Naming) -> None:
        self.origin = origin
        self._file = file
        self._naming = naming

    def check_layers(self, layer: re.Pattern[str], expected: int, unit: str = "layers") -> None:
        """Check the number of layers in the file.

        Args:
            layer: Matches the beginning of the names of a layer's tensors; its group is the
                number of the layer.
            expected: The number of layers in the configuration.
            unit: What the message calls them.

        Raises:
            ModelError: if the numbers differ.
        """
        matches = map(layer.match, self._file.shapes)
        found = 1 + max((int(match[1]) for match in matches if match), default=-1)
        if found != expected:
            raise ModelError(
                f"{self.origin} holds {found} {unit}, but its configuration says {expected}"
            )

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return a tensor as float32.

        Raises:
            ModelError: if it is missing, has another shape, or holds NaN or infinity.
        """
        spellings = self._naming.spellings(name)
        stored = next((name for name in spellings if name in self._file.shapes), None)
        if stored is None:
            raise ModelError(f"{self.origin} has no tensor {spellings[0]}")
        if (found := self._file.shapes[stored]) != shape:
            raise ModelError(
                f"{self.origin} holds {stored} of shape {found}, but its configuration implies "
                f"{shape}"
            )
        values = self._file.read(stored)
        # Both are NaN if any value is; unlike isfinite, they need no memory.
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ModelError(f"{self.origin} is damaged: {stored} holds NaN or infinity")
        return values

    def read_kernel(self, name: str, inputs: int, outputs: int) -> FloatArray:
        """Return the matrix of a dense layer as ``(inputs, outputs)``, possibly not contiguous.

        Raises:
            ModelError: as :meth:`read` does.
        """
        if not self._naming.kernels_are_transposed:
            return self.read(name, inputs, outputs)
        kernel: FloatArray = self.read(name, outputs, inputs).T
        return kernel
