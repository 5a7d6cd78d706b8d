"""BERT: its configuration, the names of its weights, its parameters and its graph.

**Time-major order.** The vectors of ``b`` sentences of ``t`` pieces are kept as ``(t * b, c)``,
those of the same position together. Attention then finds queries, keys and values as
``(t, b, heads, c / heads)`` by strides, so that nothing needs to be transposed before its batched
products (``transBatchA`` and ``transBatchB`` of ``FusedMatMul``).

**Folded biases.** Most biases need no addition of their own, since they pass through attention
and the residual connections unchanged:

* The bias of the keys adds the same number to all scores of a query, which softmax ignores.
* The bias of the values passes through attention, since probabilities add up to 1. It becomes
  part of the bias of the attention's output layer.
* The bias of a dense layer whose result is added to the residual is folded into the layer
  normalisation that produces the residual, as part of its ``beta``. The dense layers that read
  the residual subtract the folded bias again in their own biases.

What remains are the biases of queries, of values (which undo the folded bias) and of the
intermediate layer. Sums of biases and kernels are computed in float64.

**Fused operators** that were measured and not used, on one core with 256 pieces in 12 sentences
and a hidden size of 384: ``Attention`` takes 2.2 ms; the operators used here take 1.4 ms, of which
1.2 ms are the dense layers of queries, keys and values. ``SkipLayerNormalization`` takes ten
times as long as ``LayerNormalization`` after a ``Gemm`` that adds the residual. ``BiasGelu`` takes
half as long again as ``Gelu`` after a ``Gemm`` that adds the bias.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ModelError
from ...types import FloatArray
from ..config import ModelConfig, choice, positive_integer, small_number
from ..graph import INPUTS, MICROSOFT, OUTPUT, GraphBuilder
from ..weights import Naming, TensorFile, Weights

__all__ = ["BertConfig", "build_graph", "open_weights", "parameters", "read_config"]

_Vector = npt.NDArray[np.float64]

# ``gelu`` is exact, by the error function; ``gelu_new`` is its approximation by tanh.
_ACTIVATIONS = {
    "gelu": ("Gelu", MICROSOFT),
    "gelu_new": ("FastGelu", MICROSOFT),
    "relu": ("Relu", ""),
}

# The default in Hugging Face's code, and a constant in TensorFlow's layer_norm, which Google uses.
_DEFAULT_EPSILON = 1e-12

# What BERT adds to the attention scores of pieces that may not be attended to.
_MASKED_SCORE = -10000.0

# The beginning of the names of a layer's tensors, Hugging Face's or Google's.
_LAYER = re.compile(r"(?:bert[./])?encoder[./]layer[._](\d{1,9})[./]")


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig(ModelConfig):
    """The configuration of a BERT."""

    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    layer_norm_eps: float

    @property
    def head_size(self) -> int:
        """Length of the vectors that one attention head compares."""
        return self.hidden_size // self.num_attention_heads


def read_config(path: Path, settings: Mapping[str, Any]) -> BertConfig:
    """Read Hugging Face's ``config.json`` or Google's ``bert_config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    hidden_act = choice(path, settings, "hidden_act", list(_ACTIVATIONS))
    choice(path, settings, "position_embedding_type", ["absolute"], default="absolute")
    for name in ("is_decoder", "add_cross_attention"):
        if settings.get(name):
            raise ModelError(f"{path} has {name}: only encoders are supported")
    config = BertConfig(
        hidden_size=positive_integer(path, settings, "hidden_size"),
        num_hidden_layers=positive_integer(path, settings, "num_hidden_layers"),
        num_attention_heads=positive_integer(path, settings, "num_attention_heads"),
        intermediate_size=positive_integer(path, settings, "intermediate_size"),
        max_position_embeddings=positive_integer(path, settings, "max_position_embeddings"),
        type_vocab_size=positive_integer(path, settings, "type_vocab_size"),
        vocab_size=positive_integer(path, settings, "vocab_size"),
        hidden_act=hidden_act,
        layer_norm_eps=small_number(path, settings, "layer_norm_eps", _DEFAULT_EPSILON),
    )
    if config.hidden_size % config.num_attention_heads:
        raise ModelError(
            f"{path} is damaged: hidden_size {config.hidden_size} is not a multiple of "
            f"num_attention_heads {config.num_attention_heads}"
        )
    return config


def open_weights(file: TensorFile, config: BertConfig, origin: str) -> Weights:
    """Return access to weights by Hugging Face's names, also in a checkpoint of Google's.

    Raises:
        ModelError: if the number of layers differs from the configuration.
    """
    is_google = any("/" in name for name in file.shapes)
    weights = Weights(file, origin, _GOOGLE if is_google else _HUGGING_FACE)
    weights.check_layers(_LAYER, config.num_hidden_layers)
    return weights


def _hugging_face_names(name: str) -> Sequence[str]:
    """Return the names that a tensor may have in files of Hugging Face's.

    >>> for spelling in _hugging_face_names("embeddings.LayerNorm.bias"): print(spelling)
    embeddings.LayerNorm.bias
    bert.embeddings.LayerNorm.bias
    embeddings.LayerNorm.beta
    bert.embeddings.LayerNorm.beta
    """
    old = _with_gamma_and_beta(name)
    return [name, f"bert.{name}", old, f"bert.{old}"]


def _google_names(name: str) -> Sequence[str]:
    """Return the names that a tensor may have in Google's checkpoints, given Hugging Face's.

    >>> _google_names("encoder.layer.3.output.dense.weight")[0]
    'bert/encoder/layer_3/output/dense/kernel'
    >>> _google_names("encoder.layer.3.output.LayerNorm.weight")[0]
    'bert/encoder/layer_3/output/LayerNorm/gamma'
    >>> _google_names("embeddings.word_embeddings.weight")
    ['bert/embeddings/word_embeddings', 'embeddings/word_embeddings']
    """
    name = _with_gamma_and_beta(name)
    name = re.sub(r"_embeddings\.weight$", "_embeddings", name)
    name = re.sub(r"\.weight$", ".kernel", name)
    name = re.sub(r"\blayer\.(\d+)", r"layer_\1", name).replace(".", "/")
    return [f"bert/{name}", name]


def _with_gamma_and_beta(name: str) -> str:
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    return name.replace("LayerNorm.bias", "LayerNorm.beta")


_HUGGING_FACE = Naming(_hugging_face_names, kernels_are_transposed=True)
_GOOGLE = Naming(_google_names, kernels_are_transposed=False)


def parameters(
    weights: Weights, config: BertConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters of the graph of the first ``depth`` layers.

    See :class:`bert_tokemb.models.architectures.Architecture`.
    """
    c = config.hidden_size
    yield from _embeddings(weights, config, position_embeddings)
    folded = _attention_bias(weights, config, 0)
    yield from _layer_norm(weights, "embeddings", "embeddings", c, folded)
    for i in range(depth):
        place, layer = f"encoder.layer.{i}", f"layer_{i}"
        yield from _attention(weights, config, i, folded)
        folded = weights.read(f"{place}.output.dense.bias", c).astype(np.float64)
        yield from _layer_norm(
            weights, f"{place}.attention.output", f"{layer}.attention", c, folded
        )
        yield from _feed_forward(weights, config, i, folded)
        is_last = i + 1 == depth
        folded = np.zeros(c) if is_last else _attention_bias(weights, config, i + 1)
        yield from _layer_norm(weights, f"{place}.output", f"{layer}.output", c, folded)
        # To be subtracted where the layer is part of the output.
        yield f"{layer}.output.folded_bias", folded


def _embeddings(
    weights: Weights, config: BertConfig, position_embeddings: bool
) -> Iterator[tuple[str, FloatArray]]:
    for which, rows in (
        ("word", config.vocab_size),
        ("position", config.max_position_embeddings),
        ("token_type", config.type_vocab_size),
    ):
        name = f"{which}_embeddings"
        values = weights.read(f"embeddings.{name}.weight", rows, config.hidden_size)
        is_used = which != "position" or position_embeddings
        yield name, values if is_used else np.zeros_like(values)


def _attention(
    weights: Weights, config: BertConfig, i: int, folded: _Vector
) -> Iterator[tuple[str, FloatArray]]:
    c, place, layer = config.hidden_size, f"encoder.layer.{i}.attention", f"layer_{i}"
    for which in ("query", "key", "value"):
        kernel = weights.read_kernel(f"{place}.self.{which}.weight", c, c)
        yield f"{layer}.{which}.kernel", kernel
        bias = weights.read(f"{place}.self.{which}.bias", c)
        if which == "query":
            yield f"{layer}.query.bias", bias - folded @ kernel
        elif which == "value":
            # The bias of the values is itself part of the folded bias.
            yield f"{layer}.value.bias", -(folded @ kernel)
    yield f"{layer}.attention.kernel", weights.read_kernel(f"{place}.output.dense.weight", c, c)


def _feed_forward(
    weights: Weights, config: BertConfig, i: int, folded: _Vector
) -> Iterator[tuple[str, FloatArray]]:
    c, intermediate = config.hidden_size, config.intermediate_size
    place, layer = f"encoder.layer.{i}", f"layer_{i}"
    kernel = weights.read_kernel(f"{place}.intermediate.dense.weight", c, intermediate)
    bias = weights.read(f"{place}.intermediate.dense.bias", intermediate)
    yield f"{layer}.intermediate.kernel", kernel
    yield f"{layer}.intermediate.bias", bias - folded @ kernel
    kernel = weights.read_kernel(f"{place}.output.dense.weight", intermediate, c)
    yield f"{layer}.output.kernel", kernel


def _layer_norm(
    weights: Weights, place: str, name: str, size: int, folded: _Vector
) -> Iterator[tuple[str, FloatArray]]:
    yield f"{name}.gamma", weights.read(f"{place}.LayerNorm.weight", size)
    yield f"{name}.beta", weights.read(f"{place}.LayerNorm.bias", size) + folded


def _attention_bias(weights: Weights, config: BertConfig, i: int) -> _Vector:
    """Return what the attention of layer ``i`` adds to the residual whatever it attends to."""
    c = config.hidden_size
    place = f"encoder.layer.{i}.attention"
    bias = weights.read(f"{place}.self.value.bias", c).astype(np.float64)
    kernel = weights.read_kernel(f"{place}.output.dense.weight", c, c)
    return bias @ kernel + weights.read(f"{place}.output.dense.bias", c)


def build_graph(graph: GraphBuilder, config: BertConfig, layers: Sequence[int]) -> bytes:
    """Return a serialized ONNX model; see :class:`bert_tokemb.models.architectures.Architecture`.

    Vectors are ``(p, c)`` for ``p = t * b`` pieces, in time-major order.
    """
    return _Bert(graph, config).build(layers)


class _Bert:
    """Adds BERT to a graph. Methods take and return the names of values."""

    def __init__(self, graph: GraphBuilder, config: BertConfig) -> None:
        self._graph = graph
        self._config = config

    def build(self, layers: Sequence[int]) -> bytes:
        graph, c = self._graph, self._config.hidden_size
        ids, types = (graph.node("Transpose", name, perm=[1, 0]) for name in INPUTS[:2])
        batch_shape = graph.node("Shape", ids)
        self._p_and_c = graph.integers(-1, c)
        per_head = graph.integers(self._config.num_attention_heads, self._config.head_size)
        self._heads = graph.node("Concat", batch_shape, per_head, axis=0)
        self._extended_mask = self._extend_mask()
        x = self._embed(ids, types, batch_shape)
        outputs: dict[int, str] = {}
        for i in range(max(layers) + 1):
            x = self._layer(f"layer_{i}", x)
            if i in layers:
                is_last = i == max(layers)
                outputs[i] = x if is_last else graph.node("Sub", x, f"layer_{i}.output.folded_bias")
        width = len(layers) * c
        self._output([outputs[i] for i in layers], batch_shape, width)
        return graph.serialize("bert", width)

    def _extend_mask(self) -> str:
        """Return the mask to add to the attention scores, ``(b, 1, 1, t)``."""
        graph = self._graph
        mask = graph.as_float("attention_mask")
        one, masked = graph.number(1.0), graph.number(_MASKED_SCORE)
        scores = graph.node("Mul", graph.node("Sub", one, mask), masked)
        return graph.node("Unsqueeze", scores, graph.integers(1, 2))

    def _embed(self, ids: str, types: str, batch_shape: str) -> str:
        graph = self._graph
        words = graph.node("Gather", "word_embeddings", ids)
        token_types = graph.node("Gather", "token_type_embeddings", types)
        t = graph.node("Slice", batch_shape, graph.integers(0), graph.integers(1))
        positions = graph.node("Slice", "position_embeddings", graph.integers(0), t)
        positions = graph.node("Unsqueeze", positions, graph.integers(1))
        x = graph.node("Add", graph.node("Add", words, token_types), positions)
        return self._normalize("embeddings", graph.node("Reshape", x, self._p_and_c))

    def _layer(self, layer: str, x: str) -> str:
        graph = self._graph
        x = self._normalize(f"{layer}.attention", self._attend(layer, x))
        intermediate = graph.dense(f"{layer}.intermediate", graph.dense_input(x), bias=True)
        kind, domain = _ACTIVATIONS[self._config.hidden_act]
        intermediate = graph.node(kind, intermediate, domain=domain)
        y = graph.dense(f"{layer}.output", graph.dense_input(intermediate), residual=x)
        return self._normalize(f"{layer}.output", y)

    def _attend(self, layer: str, x: str) -> str:
        graph = self._graph
        dense_input = graph.dense_input(x)
        query, key, value = (
            graph.node(
                "Reshape", graph.dense(f"{layer}.{which}", dense_input, bias=biased), self._heads
            )
            for which, biased in (("query", True), ("key", False), ("value", True))
        )
        scores = graph.node(
            "FusedMatMul",
            query,
            key,
            domain=MICROSOFT,
            transB=1,
            transBatchA=1,
            transBatchB=1,
            alpha=self._config.head_size**-0.5,
        )  # (b, heads, t, t)
        scores = graph.node("Add", scores, self._extended_mask)
        probabilities = graph.node("Softmax", scores, axis=-1)
        context = graph.node("FusedMatMul", probabilities, value, domain=MICROSOFT, transBatchB=1)
        context = graph.node("Transpose", context, perm=[2, 0, 1, 3])
        context = graph.node("Reshape", context, self._p_and_c)
        return graph.dense(f"{layer}.attention", graph.dense_input(context), residual=x)

    def _output(self, layers: Sequence[str], batch_shape: str, width: int) -> None:
        """Put layers side by side, and return to the order of the input."""
        graph = self._graph
        x = layers[0] if len(layers) == 1 else graph.node("Concat", *layers, axis=1)
        shape = graph.node("Concat", batch_shape, graph.integers(width), axis=0)
        graph.node("Transpose", graph.node("Reshape", x, shape), perm=[1, 0, 2], output=OUTPUT)

    def _normalize(self, name: str, x: str) -> str:
        return self._graph.layer_norm(name, x, self._config.layer_norm_eps)
