"""A model's weights as the engine's graph wants them.

Most biases need not be added at all, since attention and layer normalisation let them through:

* a key's bias adds the same to all scores of a query, which softmax does not see;
* a value's bias passes attention unchanged, whose probabilities add up to 1, and so is one more
  bias of the dense layer behind it;
* the bias of a dense layer whose result is added to the residual stream may as well be added to
  the residual stream before. It goes into the ``beta`` of the layer normalisation there, and
  whoever reads that stream takes it off again: a dense layer in its own bias.

What is left: the biases of queries, of values (to take off what was added to the stream), and of
the intermediate layer. Sums of kernels and biases are made in float64.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..types import FloatArray
from .weights import Weights

__all__ = ["Parameter", "checksum", "parameters", "quantize"]

Parameter = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]
_Vector = npt.NDArray[np.float64]

# What sums go into: their last bits may be others on another machine.
_SUMS = (".beta", ".bias", ".passing")


def parameters(
    weights: Weights, depth: int, *, bits: int | None = None
) -> Iterator[tuple[str, Parameter]]:
    """Yield what the graph of the first ``depth`` layers needs, one after another.

    Kernels are ``(in, out)`` and contiguous. With ``bits`` they are quantized to so many, and
    followed by their ``scale``.

    Raises:
        ModelError: see :class:`bert_tokemb.models.weights.Weights`.
    """
    for name, values in _in_float32(weights, depth):
        if bits and name.endswith(".kernel"):
            kernel, scale = quantize(values, bits)
            yield name, kernel
            yield name.replace(".kernel", ".scale"), scale
        else:
            yield name, _in_range(values, weights.origin)


def quantize(
    kernel: FloatArray, bits: int = 8
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Return ``(in, out)`` whole numbers, and the ``(out,)`` scales that give the kernel back.

    Each output has its own scale, by its largest weight; zero stays zero.

    >>> quantized, scale = quantize(np.array([[1.0, 0.0], [-2.0, 0.0]]))
    >>> quantized.tolist(), scale.tolist()
    ([[64, 0], [-127, 0]], [0.015748031437397003, 1.0])
    """
    largest = np.maximum(kernel.max(axis=0), -kernel.min(axis=0))
    scale = np.where(largest > 0, largest / (2 ** (bits - 1) - 1), 1).astype(np.float32)
    return np.rint(kernel / scale).astype(np.int8, order="C"), scale


def checksum(made: Mapping[str, Parameter]) -> str:
    """Return by what parameters are known again, on any machine: all but a few vectors of sums.

    It tells apart what differs by accident, and takes a fraction of the time of a cryptographic
    hash.
    """
    told = [
        f"{name} {zlib.crc32(values.data):08x}"
        for name, values in sorted(made.items())
        if not name.endswith(_SUMS)
    ]
    return hashlib.blake2b("\n".join(told).encode(), digest_size=16).hexdigest()


def _in_range(values: FloatArray, origin: str) -> npt.NDArray[np.float32]:
    if values.dtype == np.float32:  # as it was read, and so seen to be finite
        return np.ascontiguousarray(values)
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(values, np.float32)
    if not (np.isfinite(made.min()) and np.isfinite(made.max())):
        raise ModelError(f"{origin} is damaged: its weights are too large for float32")
    return made


def _in_float32(weights: Weights, depth: int) -> Iterator[tuple[str, FloatArray]]:
    config = weights.config
    c, inner = config.width, config.inner
    yield from _embeddings(weights)
    passing = _passing_bias(weights, 0)
    yield from _normalization(weights, "embeddings", "embeddings", passing)
    for i in range(depth):
        layer, own = f"encoder/layer_{i}/", f"layer_{i}."
        for which in ("query", "key", "value"):
            kernel = weights.read(f"{layer}attention/self/{which}/kernel", c, c)
            yield f"{own}{which}.kernel", kernel
            bias = weights.read(f"{layer}attention/self/{which}/bias", c)
            if which == "query":
                yield f"{own}query.bias", bias - passing @ kernel
            elif which == "value":
                # Its own bias went into the stream, with that of the dense layer behind it.
                yield f"{own}value.bias", -(passing @ kernel)
        yield f"{own}attention.kernel", weights.read(f"{layer}attention/output/dense/kernel", c, c)
        passing = weights.read(f"{layer}output/dense/bias", c).astype(np.float64)
        yield from _normalization(weights, f"{layer}attention/output", f"{own}attention", passing)
        kernel = weights.read(f"{layer}intermediate/dense/kernel", c, inner)
        bias = weights.read(f"{layer}intermediate/dense/bias", inner)
        yield f"{own}intermediate.kernel", kernel
        yield f"{own}intermediate.bias", bias - passing @ kernel
        yield f"{own}output.kernel", weights.read(f"{layer}output/dense/kernel", inner, c)
        last = i + 1 == depth
        passing = np.zeros(c) if last else _passing_bias(weights, i + 1)
        yield from _normalization(weights, f"{layer}output", f"{own}output", passing)
        # For those who want the layer itself, not the stream.
        yield f"{own}output.passing", passing


def _embeddings(weights: Weights) -> Iterator[tuple[str, FloatArray]]:
    config = weights.config
    for which, n in (
        ("word", config.vocabulary),
        ("position", config.positions),
        ("token_type", config.token_types),
    ):
        values = weights.read(f"embeddings/{which}_embeddings", n, config.width)
        yield f"{which}_embeddings", values


def _normalization(
    weights: Weights, place: str, name: str, passing: _Vector
) -> Iterator[tuple[str, FloatArray]]:
    c = weights.config.width
    yield f"{name}.gamma", weights.read(f"{place}/LayerNorm/gamma", c)
    yield f"{name}.beta", weights.read(f"{place}/LayerNorm/beta", c) + passing


def _passing_bias(weights: Weights, i: int) -> _Vector:
    """Return what layer ``i``'s attention adds to the stream whatever it attends to."""
    c = weights.config.width
    place = f"encoder/layer_{i}/attention/"
    bias = weights.read(f"{place}self/value/bias", c).astype(np.float64)
    kernel = weights.read(f"{place}output/dense/kernel", c, c)
    return bias @ kernel + weights.read(f"{place}output/dense/bias", c)
