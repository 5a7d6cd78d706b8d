"""What the graphs of all encoders share: their inputs, attention and their output.

**Time-major order.** The vectors of ``b`` sentences of ``t`` pieces are kept as ``(t * b, c)``,
those of the same position together. Attention then finds queries, keys and values as
``(t, b, heads, c / heads)`` by strides, so that nothing needs to be transposed before its batched
products (``transBatchA`` and ``transBatchB`` of ``FusedMatMul``).

**Query blocks.** The scores of a sentence take ``heads * t * t`` numbers. If a model accepts long
sentences, they are computed for a block of queries at a time. The size of the blocks depends on
``t`` alone, so that a vector does not depend on the rest of its batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...types import Layer
from ..config import ModelConfig
from ..graph import INPUTS, MICROSOFT, OUTPUT, GraphBuilder

__all__ = ["ACTIVATIONS", "Block", "EncoderConfig", "EncoderGraph", "depth_of"]

# ``gelu`` is exact, by the error function; the others are its approximation by tanh.
ACTIVATIONS = {
    "gelu": ("Gelu", MICROSOFT),
    "gelu_new": ("FastGelu", MICROSOFT),
    "relu": ("Relu", ""),
}
"""The operators of activation functions, and the domains of the operators."""

# Added to the attention scores of masked pieces.
_MASKED_SCORE = -10000.0

# The most scores of a head that are computed together.
_BLOCK_SCORES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig(ModelConfig):
    """The configuration of an encoder."""

    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    layer_norm_eps: float

    @property
    def head_size(self) -> int:
        """Length of the vectors that one attention head compares."""
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive queries, by the names of two scalars."""

    start: str
    size: str


def depth_of(layers: Sequence[Layer]) -> int:
    """Return the number of hidden layers to compute.

    >>> depth_of([0, 2, "embeddings"]), depth_of(["embeddings"])
    (3, 0)
    """
    return 1 + max((layer for layer in layers if layer != "embeddings"), default=-1)


class EncoderGraph:
    """Adds an encoder to a graph. Methods take and return the names of values.

    Vectors are ``(p, c)`` for ``p = t * b`` pieces, in time-major order. Subclasses add the layers.

    Args:
        graph: An empty graph with the parameters.
        config: The configuration.
    """

    def __init__(self, graph: GraphBuilder, config: EncoderConfig) -> None:
        self.graph = graph
        self._config = config
        c, heads, head_size = config.hidden_size, config.num_attention_heads, config.head_size
        self.ids, self.token_types = (
            graph.node("Transpose", name, perm=[1, 0]) for name in INPUTS[:2]
        )
        """``(t, b)``"""
        self._batch_shape = graph.node("Shape", self.ids)
        self.t = graph.node("Gather", self._batch_shape, graph.integer(0))
        """The number of pieces, a scalar."""
        self.b = graph.node("Gather", self._batch_shape, graph.integer(1))
        """The number of sentences, a scalar."""
        self.p_and_c = graph.integers(-1, c)
        per_head = graph.integers(heads, head_size)
        self._heads = graph.node("Concat", self._batch_shape, per_head, axis=0)
        self.masked_score = graph.number(_MASKED_SCORE)
        self.extended_mask = self._extend_mask()
        """To be added to attention scores, ``(b, 1, 1, t)``."""
        self.whole = Block(graph.integer(0), self.t)
        """The block of all queries."""
        self.in_blocks = config.max_pieces**2 > _BLOCK_SCORES
        """Whether attention is computed for one block of queries after the other."""
        if self.in_blocks:
            self._number_of_blocks, self._block_size = self._divide_into_blocks()

    def split_heads(self, x: str) -> str:
        """Return ``(p, c)`` as ``(t, b, heads, c / heads)``."""
        return self.graph.node("Reshape", x, self._heads)

    def attend(self, layer: str, query: str, key: str, value: str) -> str:
        """Return the ``(p, c)`` context, given ``(t, b, heads, c / heads)`` values."""
        if self.in_blocks:
            context = self._attend_in_blocks(layer, query, key, value)
        else:
            context = self._attend_from(self.whole, layer, query, key, value)
        return self.graph.node("Reshape", context, self.p_and_c)

    def scores(self, layer: str, query: str, key: str, block: Block) -> str:
        """Return the ``(b, heads, q, t)`` scores of a block of ``q`` queries, without the mask."""
        return self.compare(query, key, self._config.head_size**-0.5)

    def mask(self, block: Block) -> str:
        """Return what to add to the scores of all layers; it broadcasts to ``(b, heads, q, t)``."""
        return self.extended_mask

    def compare(self, query: str, key: str, scale: float) -> str:
        """Return the scaled products of ``(q, ..., c)`` and ``(k, ..., c)``: ``(..., q, k)``."""
        return self.graph.node(
            "FusedMatMul",
            query,
            key,
            domain=MICROSOFT,
            transB=1,
            transBatchA=1,
            transBatchB=1,
            alpha=scale,
        )

    def weigh(self, scores: str, value: str) -> str:
        """Return the context ``(..., q, c)`` of masked scores and values ``(k, ..., c)``."""
        probabilities = self.graph.node("Softmax", scores, axis=-1)
        return self.graph.node("FusedMatMul", probabilities, value, domain=MICROSOFT, transBatchB=1)

    def activate(self, x: str) -> str:
        """Apply the activation function."""
        kind, domain = ACTIVATIONS[self._config.hidden_act]
        return self.graph.node(kind, x, domain=domain)

    def normalize(self, name: str, x: str) -> str:
        """Normalize vectors with the parameters of this name."""
        return self.graph.layer_norm(name, x, self._config.layer_norm_eps)

    def vector(self, scalar: str) -> str:
        """Return a scalar as a vector of one element."""
        return self.graph.node("Reshape", scalar, self.graph.integers(1))

    def shape(self, *parts: str | int) -> str:
        """Return a shape made of scalars and numbers."""
        graph = self.graph
        vectors = [graph.integers(x) if isinstance(x, int) else self.vector(x) for x in parts]
        return graph.node("Concat", *vectors, axis=0)

    def divide_up(self, x: str, y: str) -> str:
        """Return the quotient of two scalars, rounded up."""
        graph = self.graph
        less = graph.node("Sub", graph.node("Add", x, y), graph.integer(1))
        return graph.node("Div", less, y)

    def first(self, x: str, n: str) -> str:
        """Return the first ``n`` elements of the first axis."""
        graph = self.graph
        return graph.node("Slice", x, graph.integers(0), self.vector(n))

    def distances(self, block: Block) -> str:
        """Return distances from keys to queries, ``(t + q,)``, for the columns of :meth:`skew`.

        For rows of queries and columns of keys, they decrease.
        """
        graph, one = self.graph, self.graph.integer(1)
        end = graph.node("Add", block.start, block.size)
        before = graph.node("Sub", graph.node("Sub", block.start, self.t), one)
        return graph.node("Range", graph.node("Sub", end, one), before, graph.integer(-1))

    def distances_from_keys(self, block: Block) -> str:
        """Return :meth:`distances` for rows of keys and columns of queries: they increase."""
        graph, one = self.graph, self.graph.integer(1)
        end = graph.node("Add", graph.node("Add", block.start, block.size), one)
        start = graph.node("Add", graph.node("Sub", block.start, self.t), one)
        return graph.node("Range", start, end, one)

    def skew(self, x: str, m: str, n: str) -> str:
        """Return ``(b, heads, m, n)`` values for rows and columns, given values for distances.

        Row ``i`` of the result is row ``i`` of ``x``, ``(b, heads, m, m + n)``, from column
        ``m - 1 - i``. In memory, these begin one element less than a row apart.
        """
        graph, last = self.graph, self.graph.integers(-1)
        skipped = graph.node("Sub", m, graph.integer(1))
        width = graph.node("Add", n, skipped)
        end = graph.node("Add", skipped, graph.node("Mul", m, width))
        flat = graph.node("Reshape", x, graph.integers(0, 0, -1))
        flat = graph.node("Slice", flat, self.vector(skipped), self.vector(end), last)
        shape = graph.node("Concat", graph.integers(0, 0), self.shape(m, width), axis=0)
        rows = graph.node("Reshape", flat, shape)
        return graph.node("Slice", rows, graph.integers(0), self.vector(n), last)

    def finish(self, name: str, computed: Mapping[Layer, str], layers: Sequence[Layer]) -> bytes:
        """Put layers side by side, return to the order of the input, and serialize the graph."""
        graph, width = self.graph, len(layers) * self._config.hidden_size
        parts = [computed[layer] for layer in layers]
        x = parts[0] if len(parts) == 1 else graph.node("Concat", *parts, axis=1)
        shape = graph.node("Concat", self._batch_shape, graph.integers(width), axis=0)
        graph.node("Transpose", graph.node("Reshape", x, shape), perm=[1, 0, 2], output=OUTPUT)
        return graph.serialize(name, width)

    def _extend_mask(self) -> str:
        graph = self.graph
        mask = graph.as_float("attention_mask")
        one = graph.number(1.0)
        scores = graph.node("Mul", graph.node("Sub", one, mask), self.masked_score)
        return graph.node("Unsqueeze", scores, graph.integers(1, 2))

    def _attend_from(self, block: Block, layer: str, query: str, key: str, value: str) -> str:
        """Return the ``(q, b, heads, c / heads)`` context of a block of queries."""
        scores = self.scores(layer, query, key, block)
        scores = self.graph.node("Add", scores, self.mask(block))
        return self.graph.node("Transpose", self.weigh(scores, value), perm=[2, 0, 1, 3])

    def _divide_into_blocks(self) -> tuple[str, str]:
        """Return the number of blocks and their size, two scalars."""
        graph, t = self.graph, self.t
        n = self.divide_up(graph.node("Mul", t, t), graph.integer(_BLOCK_SCORES))
        size = self.divide_up(t, n)
        return self.divide_up(t, size), size

    def _attend_in_blocks(self, layer: str, query: str, key: str, value: str) -> str:
        graph, n, size = self.graph, self._number_of_blocks, self._block_size
        one = graph.integer(1)
        # The last block is filled up with zeros.
        padding = graph.node("Sub", graph.node("Mul", n, size), self.t)
        padded = graph.node("Pad", query, self.shape(0, 0, 0, 0, padding, 0, 0, 0))

        def attend(i: str) -> str:
            start = graph.node("Mul", i, size)
            end = graph.node("Mul", graph.node("Add", i, one), size)
            queries = graph.node("Slice", padded, self.vector(start), self.vector(end))
            return self._attend_from(Block(start, size), layer, queries, key, value)

        context = graph.stack(n, attend)  # (n, q, b, heads, c / heads)
        heads, head_size = self._config.num_attention_heads, self._config.head_size
        context = graph.node("Reshape", context, self.shape(-1, self.b, heads, head_size))
        return self.first(context, self.t)
