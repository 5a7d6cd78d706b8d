"""The weights of a model by one set of names, whoever wrote them.

The names and the layout are those of Google's checkpoints, less ``bert/``: kernels are
``(in, out)``, so that vectors are multiplied from the left. Hugging Face's are renamed, with or
without the prefix ``bert.``, and their kernels turned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from ..errors import ModelError
from ..types import FloatArray
from .config import ModelConfig

__all__ = ["TensorFile", "Weights"]


class TensorFile(Protocol):
    """Tensors by name, in one file or several."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every tensor, known without reading any."""

    def read(self, name: str) -> FloatArray:
        """Return one as float32, in memory of its own, or raise ModelError."""


class Weights:
    """Weights that have the shapes that the configuration says, and no NaN.

    Args:
        file: Where they lie.
        config: What they must fit.
        origin: What to call the place in messages.

    Raises:
        ModelError: the file holds more layers than the configuration says. While reading: a
            tensor is missing, has another shape, or holds NaN or infinity.
    """

    def __init__(self, file: TensorFile, config: ModelConfig, origin: str) -> None:
        self._file = file
        self.origin = origin
        self.config = config
        self._places: dict[str, tuple[str, bool]] = {}
        for stored in file.shapes:
            name, turned = _common_name(stored)
            # With two that would be one, say `bert.x` beside `x`, the first of them counts.
            self._places.setdefault(name, (stored, turned))
        self._of_google = any("/" in stored for stored in file.shapes)
        numbers = [re.match(r"encoder/layer_(\d{1,9})/", name) for name in self._places]
        found = 1 + max((int(number[1]) for number in numbers if number), default=-1)
        if found != config.layers:
            raise ModelError(
                f"{origin} holds {found} layers, but its configuration says {config.layers}"
            )

    def read(self, name: str, *shape: int) -> FloatArray:
        """Return a tensor as float32; kernels as ``(in, out)``, perhaps not contiguous."""
        if name not in self._places:
            wanted = name if self._of_google else _hugging_face_name(name)
            raise ModelError(f"{self.origin} has no {wanted}, which every BERT has")
        stored, turned = self._places[name]
        there = self._file.shapes[stored]
        if there != (shape[::-1] if turned else shape):
            raise ModelError(
                f"{self.origin} holds {stored} of shape {there}, which does not fit its "
                f"configuration: {shape[::-1] if turned else shape}"
            )
        values = self._file.read(stored)
        # Both are NaN if any value is; unlike isfinite, they need no memory.
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ModelError(f"{self.origin} is damaged: {stored} holds NaN or infinity")
        return values.T if turned else values


def _common_name(stored: str) -> tuple[str, bool]:
    """Return the common name, and whether the tensor is to be turned.

    >>> _common_name("bert/encoder/layer_3/output/dense/kernel")
    ('encoder/layer_3/output/dense/kernel', False)
    >>> _common_name("bert.encoder.layer.3.output.dense.weight")
    ('encoder/layer_3/output/dense/kernel', True)
    >>> _common_name("embeddings.word_embeddings.weight")
    ('embeddings/word_embeddings', False)
    >>> _common_name("encoder.layer.3.output.LayerNorm.weight")
    ('encoder/layer_3/output/LayerNorm/gamma', False)
    """
    if "/" in stored:
        return stored.removeprefix("bert/"), False
    name = re.sub(r"^bert\.", "", stored)
    name = re.sub(r"\blayer\.(\d+)", r"layer_\1", name).replace(".", "/")
    if name.startswith("embeddings/") and name.endswith("_embeddings/weight"):
        return name.removesuffix("/weight"), False
    if "LayerNorm/" in name:
        return name.replace("/weight", "/gamma").replace("/bias", "/beta"), False
    if name.endswith("/weight"):
        return name.removesuffix("weight") + "kernel", True
    return name, False


def _hugging_face_name(name: str) -> str:
    """Return what Hugging Face calls a tensor.

    >>> _hugging_face_name("encoder/layer_3/output/dense/kernel")
    'encoder.layer.3.output.dense.weight'
    >>> _hugging_face_name("embeddings/word_embeddings")
    'embeddings.word_embeddings.weight'
    """
    name = re.sub(r"/(kernel|gamma)$|(?<=_embeddings)$", "/weight", name).replace("beta", "bias")
    return name.replace("layer_", "layer/").replace("/", ".")
