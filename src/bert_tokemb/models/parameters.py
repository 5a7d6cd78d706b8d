"""Parameters: what a graph computes with, made from the weights of a model.

An architecture makes its parameters in float32 or float64. Some endings of their names have a
meaning here: a ``.kernel`` is the ``(in, out)`` matrix of a dense layer, which is quantized for
int8, and a ``.beta``, ``.bias``, ``.folded_bias`` or ``.table`` may be computed from several
weights or from settings.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..types import FloatArray

__all__ = ["Parameter", "checksum", "finish", "quantize"]

Parameter = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]

_COMPUTED = (".beta", ".bias", ".folded_bias", ".table")


def finish(
    parameters: Iterable[tuple[str, FloatArray]],
    origin: str,
    *,
    dtype: npt.DTypeLike = np.float32,
    kernel_bits: int | None = None,
) -> Iterator[tuple[str, Parameter]]:
    """Yield contiguous parameters of the data type that a graph computes in.

    Args:
        parameters: Names and values, as an architecture makes them.
        origin: The name of the weights in error messages.
        dtype: float32 or float16.
        kernel_bits: Quantize kernels to integers of so many bits, stored as int8, and yield the
            ``.scale`` of each after it.

    Raises:
        ModelError: if a value is too large for the data type.
    """
    for name, values in parameters:
        if kernel_bits and name.endswith(".kernel"):
            kernel, scale = quantize(values, kernel_bits)
            yield name, kernel
            yield name.replace(".kernel", ".scale"), scale
        else:
            yield name, _as_type(values, np.dtype(dtype), origin)


def quantize(
    kernel: FloatArray, bits: int = 8
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return ``(in, out)`` integers, and the ``(out,)`` scales that give back the kernel.

    Each output has its own scale, determined by its largest weight; zero stays zero.

    >>> quantized, scale = quantize(np.array([[1.0, 0.0], [-2.0, 0.0]]))
    >>> quantized.tolist(), scale.tolist()
    ([[64, 0], [-127, 0]], [0.015748031437397003, 1.0])
    """
    largest = np.maximum(kernel.max(axis=0), -kernel.min(axis=0))
    scale = np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)
    scaled = kernel / scale
    np.rint(scaled, out=scaled)
    # int8 first, since transposing it is four times as fast.
    return np.ascontiguousarray(scaled.astype(np.int8)), scale


def checksum(parameters: Mapping[str, Parameter]) -> str:
    """Return a checksum that identifies parameters on any machine.

    It detects accidental differences, and takes a fraction of the time of a cryptographic hash.
    Computed parameters are left out, since their last bits depend on the machine.
    """
    lines = [
        f"{name} {zlib.crc32(values.data):08x}"
        for name, values in sorted(parameters.items())
        if not name.endswith(_COMPUTED)
    ]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _as_type(values: FloatArray, dtype: np.dtype[Any], origin: str) -> Parameter:
    with np.errstate(over="ignore"):
        in_float32 = np.ascontiguousarray(values, np.float32)
        converted: Parameter = in_float32.astype(dtype, copy=False)
    # Values that are float32 already were checked when they were read.
    if values.dtype != dtype and not np.isfinite([converted.min(), converted.max()]).all():
        raise ModelError(f"the weights in {origin} are too large for {dtype}")
    return converted
