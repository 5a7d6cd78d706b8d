"""ModernBERT: layer normalisation before each part of a layer, rotary positions, local attention.

Every third layer attends to all pieces, the others to those that are near. Queries and keys are
rotated by angles that grow with the position, so that their products depend on the distance.

**Local attention** is computed for blocks of queries, each with the keys that are near one of them:
memory and time grow with the length of the sentence, not with its square. All blocks are one
batched product. With blocks of 64, 128 and 256 queries, three layers of a hidden size of 768 take
162, 165 and 173 ms for 512 pieces, on one core, and 817, 826 and 837 ms for 2,048.

The operator ``RotaryEmbedding`` takes 0.09 ms for 512 pieces and a hidden size of 768, on one core;
``Split``, ``Concat``, two ``Mul`` and ``Add`` take 0.39 ms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ...types import FloatArray, Layer
from ..config import choice, padding_id, positive_integer, refuse, refuse_decoders, small_number
from ..graph import MICROSOFT, GraphBuilder
from ..weights import TensorFile, Weights
from .encoder import ACTIVATIONS, EncoderConfig, EncoderGraph, depth_of
from .transformer import check_heads, hugging_face

__all__ = ["ModernBertConfig", "build_graph", "open_weights", "parameters", "read_config"]

_LAYER = re.compile(r"(?:model\.)?layers\.(\d{1,9})\.")

_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_DEFAULT_THETA = {_GLOBAL: 160_000.0, _LOCAL: 10_000.0}

# Settings that add biases or positions of another kind.
_UNSUPPORTED = ("norm_bias", "attention_bias", "mlp_bias", "rope_scaling", "causal_mask")

# The most queries in a block of local attention.
_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """The configuration of a ModernBERT."""

    is_local: Sequence[bool]
    """For each layer, whether it attends to near pieces only."""
    theta: Mapping[bool, float]
    """The base of the wavelengths of rotary positions in local (True) and other layers."""
    near: int
    """The largest distance of pieces that attend to each other in a local layer."""


def read_config(path: Path, settings: Mapping[str, Any]) -> ModernBertConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    refuse_decoders(path, settings)
    for name in _UNSUPPORTED:
        refuse(path, settings, name)
    hidden_size = positive_integer(path, settings, "hidden_size")
    heads = positive_integer(path, settings, "num_attention_heads")
    check_heads(path, hidden_size, heads)
    refuse(path, settings, "head_dim", hidden_size // heads)
    if hidden_size // heads % 2:
        raise ModelError(f"{path} is damaged: attention heads of odd size cannot be rotated")
    layers = positive_integer(path, settings, "num_hidden_layers")
    vocab_size = positive_integer(path, settings, "vocab_size")
    return ModernBertConfig(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=positive_integer(path, settings, "intermediate_size"),
        hidden_act=choice(path, settings, "hidden_activation", list(ACTIVATIONS), default="gelu"),
        layer_norm_eps=small_number(path, settings, "norm_eps", 1e-5),
        max_pieces=positive_integer(path, settings, "max_position_embeddings"),
        pad_token_id=padding_id(settings, vocab_size, default=0),
        type_vocab_size=1,
        vocab_size=vocab_size,
        is_local=_is_local(path, settings, layers),
        theta=_theta(path, settings),
        near=positive_integer(path, settings, "local_attention", 128) // 2,
    )


def _is_local(path: Path, settings: Mapping[str, Any], layers: int) -> Sequence[bool]:
    types = settings.get("layer_types")
    if types is None:
        every = positive_integer(path, settings, "global_attn_every_n_layers", 3)
        return tuple(i % every != 0 for i in range(layers))
    if not isinstance(types, list) or len(types) != layers:
        raise ModelError(f"{path} is damaged: layer_types does not list {layers} layers")
    for kind in types:
        choice(path, {"layer_types": kind}, "layer_types", [_GLOBAL, _LOCAL])
    return tuple(kind == _LOCAL for kind in types)


def _theta(path: Path, settings: Mapping[str, Any]) -> Mapping[bool, float]:
    """Return the base of wavelengths, by whether a layer is local."""
    rope = settings.get("rope_parameters") or {}
    if not isinstance(rope, dict):
        raise ModelError(f"{path} is damaged: rope_parameters is {rope!r:.40}, not an object")
    found: dict[str, float] = {}
    for kind, old_name in ((_GLOBAL, "global_rope_theta"), (_LOCAL, "local_rope_theta")):
        own = rope.get(kind) or {}
        if not isinstance(own, dict):
            raise ModelError(f"{path} is damaged: rope_parameters has {kind} {own!r:.40}")
        choice(path, own, "rope_type", ["default"], default="default")
        default = settings.get(old_name, _DEFAULT_THETA[kind])
        value = own.get("rope_theta", default)
        if value is None and kind == _LOCAL:
            value = found[_GLOBAL]
        if type(value) not in (int, float) or not 1 <= value < 1e30:
            raise ModelError(f"{path} is damaged: {old_name} is {value!r:.40}, not a number from 1")
        found[kind] = float(value)
    return {False: found[_GLOBAL], True: found[_LOCAL]}


def open_weights(file: TensorFile, config: ModernBertConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    weights = Weights(file, origin, hugging_face("model."))
    weights.check_layers(_LAYER, config.num_hidden_layers)
    return weights


def parameters(
    weights: Weights, config: ModernBertConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    c = config.hidden_size
    yield "word_embeddings", weights.read("embeddings.tok_embeddings.weight", config.vocab_size, c)
    yield "embeddings.gamma", weights.read("embeddings.norm.weight", c)
    for is_local in sorted(set(config.is_local[:depth])):
        angles = _angles(config, is_local) * position_embeddings
        yield f"{_rotation(is_local)}.cosine.table", np.cos(angles)
        yield f"{_rotation(is_local)}.sine.table", np.sin(angles)
    for i in range(depth):
        yield from _layer(weights, config, i)
    if depth == config.num_hidden_layers:
        yield "final.gamma", weights.read("final_norm.weight", c)


def _rotation(is_local: bool) -> str:
    return "local_rotation" if is_local else "global_rotation"


def _angles(config: ModernBertConfig, is_local: bool) -> FloatArray:
    """Return the ``(positions, head_size / 2)`` angles, rounded as Hugging Face's code does."""
    d = config.head_size
    powers = np.float32(config.theta[is_local] ** (np.arange(0, d, 2) / d))
    positions = np.arange(config.max_pieces, dtype=np.float32)
    angles: FloatArray = np.outer(positions, 1 / powers).astype(np.float64)
    return angles


def _layer(weights: Weights, config: ModernBertConfig, i: int) -> Iterator[tuple[str, FloatArray]]:
    c, intermediate = config.hidden_size, config.intermediate_size
    place, layer = f"layers.{i}", f"layer_{i}"
    if i > 0:
        yield f"{layer}.attention_norm.gamma", weights.read(f"{place}.attn_norm.weight", c)
    kernels = weights.read_kernel(f"{place}.attn.Wqkv.weight", c, 3 * c)
    for j, which in enumerate(("query", "key", "value")):
        yield f"{layer}.{which}.kernel", kernels[:, j * c : (j + 1) * c]
    yield f"{layer}.attention.kernel", weights.read_kernel(f"{place}.attn.Wo.weight", c, c)
    yield f"{layer}.norm.gamma", weights.read(f"{place}.mlp_norm.weight", c)
    kernels = weights.read_kernel(f"{place}.mlp.Wi.weight", c, 2 * intermediate)
    yield f"{layer}.intermediate.kernel", kernels[:, :intermediate]
    yield f"{layer}.gate.kernel", kernels[:, intermediate:]
    yield f"{layer}.output.kernel", weights.read_kernel(f"{place}.mlp.Wo.weight", intermediate, c)


def build_graph(graph: GraphBuilder, config: ModernBertConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return _ModernBert(graph, config).build(layers)


class _ModernBert(EncoderGraph):
    def __init__(self, graph: GraphBuilder, config: ModernBertConfig) -> None:
        super().__init__(graph, config)
        self._settings = config
        self._positions = self._number_pieces()
        self._band = _Band(self, config.near)

    def build(self, layers: Sequence[Layer]) -> bytes:
        """Return a serialized ONNX model."""
        graph, n = self.graph, self._config.num_hidden_layers
        words = graph.node("Gather", "word_embeddings", self.ids)
        x = self.normalize("embeddings", graph.node("Reshape", words, self.p_and_c))
        computed: dict[Layer, str] = {"embeddings": x}
        for i in range(depth_of(layers)):
            x = self._layer(i, x)
            # The last layer is the output of the final norm.
            computed[i] = self.normalize("final", x) if i + 1 == n else x
        return self.finish("modernbert", computed, layers)

    def _number_pieces(self) -> str:
        """Return the position of each piece, ``(p, 1)``."""
        graph = self.graph
        positions = graph.node("Range", graph.integer(0), self.t, graph.integer(1))
        positions = graph.node("Unsqueeze", positions, graph.integers(1))
        positions = graph.node("Expand", positions, graph.node("Shape", self.ids))
        return graph.node("Reshape", positions, graph.integers(-1, 1))

    def _layer(self, i: int, x: str) -> str:
        graph, layer, is_local = self.graph, f"layer_{i}", self._settings.is_local[i]
        normalized = self.normalize(f"{layer}.attention_norm", x) if i else x
        dense_input = graph.dense_input(normalized)
        query, key, value = (
            graph.dense(f"{layer}.{which}", dense_input) for which in ("query", "key", "value")
        )
        query, key = (self._rotate(one, is_local) for one in (query, key))
        query, key, value = map(self.split_heads, (query, key, value))
        attend = self._band.attend if is_local else self.attend
        context = attend(layer, query, key, value)
        x = graph.dense(f"{layer}.attention", graph.dense_input(context), residual=x)
        dense_input = graph.dense_input(self.normalize(f"{layer}.norm", x))
        intermediate = self.activate(graph.dense(f"{layer}.intermediate", dense_input))
        gate = graph.dense(f"{layer}.gate", dense_input)
        intermediate = graph.node("Mul", intermediate, gate)
        return graph.dense(f"{layer}.output", graph.dense_input(intermediate), residual=x)

    def _rotate(self, x: str, is_local: bool) -> str:
        """Rotate ``(p, c)`` queries or keys according to their positions."""
        graph, name = self.graph, _rotation(is_local)
        return graph.node(
            "RotaryEmbedding",
            graph.node("Unsqueeze", x, graph.integers(1)),
            self._positions,
            f"{name}.cosine.table",
            f"{name}.sine.table",
            domain=MICROSOFT,
        )


class _Band:
    """Attention to near pieces: ``n`` blocks of ``q`` queries, each with ``k`` keys.

    Args:
        encoder: The graph.
        near: The largest distance of pieces that attend to each other.
    """

    def __init__(self, encoder: EncoderGraph, near: int) -> None:
        self._encoder = encoder
        self._graph = graph = encoder.graph
        t, zero, one = encoder.t, graph.integer(0), graph.integer(1)
        n = encoder.divide_up(t, graph.integer(_BLOCK))
        q = encoder.divide_up(t, n)
        k = graph.node("Min", t, graph.node("Add", q, graph.integer(2 * near)))
        starts = graph.node("Mul", self._range(n), q)
        queries = graph.node("Add", self._column(q), starts)
        # The last block is filled up with copies of the last query.
        self._queries = graph.node("Min", queries, graph.node("Sub", t, one))  # (q, n)
        first_keys = graph.node("Max", graph.node("Sub", starts, graph.integer(near)), zero)
        first_keys = graph.node("Min", first_keys, graph.node("Sub", t, k))
        self._keys = graph.node("Add", self._column(k), first_keys)  # (k, n)
        self._mask = self._make_mask(near)

    def attend(self, layer: str, query: str, key: str, value: str) -> str:
        """Return the ``(p, c)`` context, given ``(t, b, heads, c / heads)`` values."""
        graph, encoder = self._graph, self._encoder
        query = graph.node("Gather", query, self._queries)  # (q, n, b, heads, c / heads)
        key, value = (graph.node("Gather", x, self._keys) for x in (key, value))
        scores = encoder.scores(layer, query, key, encoder.whole)  # (n, b, heads, q, k)
        scores = graph.node("Add", scores, self._mask)
        context = encoder.weigh(scores, value)
        context = graph.node("Transpose", context, perm=[0, 3, 1, 2, 4])
        context = graph.node("Reshape", context, encoder.p_and_c)
        p = graph.node("Mul", encoder.t, encoder.b)
        return encoder.first(context, p)

    def _make_mask(self, near: int) -> str:
        """Return what to add to the scores, ``(n, b, 1, q, k)``."""
        graph = self._graph
        by_block = graph.node("Transpose", self._keys, perm=[1, 0])
        keys = graph.node("Unsqueeze", by_block, graph.integers(1))
        queries = graph.node("Transpose", self._queries, perm=[1, 0])
        queries = graph.node("Unsqueeze", queries, graph.integers(2))
        distances = graph.node("Abs", graph.node("Sub", queries, keys))  # (n, q, k)
        is_near = graph.node("LessOrEqual", distances, graph.integer(near))
        masked = self._encoder.masked_score
        by_distance = graph.node("Where", is_near, graph.number(0.0), masked)
        by_distance = graph.node("Unsqueeze", by_distance, graph.integers(1, 2))
        # (b, 1, 1, t) becomes (b, 1, n, k), and then (n, b, 1, 1, k).
        of_keys = graph.node("Squeeze", self._encoder.extended_mask, graph.integers(2))
        of_keys = graph.node("Gather", of_keys, by_block, axis=2)
        of_keys = graph.node("Transpose", of_keys, perm=[2, 0, 1, 3])
        of_keys = graph.node("Unsqueeze", of_keys, graph.integers(3))
        return graph.node("Add", by_distance, of_keys)

    def _range(self, n: str) -> str:
        return self._graph.node("Range", self._graph.integer(0), n, self._graph.integer(1))

    def _column(self, n: str) -> str:
        return self._graph.node("Unsqueeze", self._range(n), self._graph.integers(1))
