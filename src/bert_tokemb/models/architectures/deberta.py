"""DeBERTa v3 (``deberta-v2`` in Hugging Face's files): a BERT with *disentangled* attention.

The score of a query and a key is a sum of products: of the query and the key (c2c), of the query
and a vector for their distance (c2p), and of the key and another vector for it (p2c). Near
distances have vectors of their own; farther ones share those of logarithmic *buckets*.

There are two ways to compute the products with distances, and the shorter one is taken:

* ``q`` queries and ``t`` keys have less than ``t + q`` distances. The vectors of all are multiplied
  with all queries or keys, and the products moved into place row by row.
* The vectors of all buckets are multiplied, and single products gathered. Both terms take 16.5 ms
  for 512 pieces and 12 heads of 64 on one core; moving rows takes 25.0 ms there, but 2.8 ms in
  place of 9.1 ms for 6 sentences of 80 pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ...types import FloatArray, IntArray, Layer
from ..config import choice, flag, integer, padding_id, refuse
from ..graph import INT32, GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .encoder import Block, depth_of
from .transformer import LayerNames, TransformerConfig, TransformerGraph

__all__ = ["DebertaConfig", "build_graph", "open_weights", "parameters", "read_config"]

_DEFAULT_EPSILON = 1e-7
_TERMS = ("c2p", "p2c")


@dataclass(frozen=True, slots=True, kw_only=True)
class DebertaConfig(TransformerConfig):
    """The configuration of a DeBERTa."""

    terms: Sequence[str]
    """Which products are added to c2c: ``c2p``, ``p2c``."""
    max_relative_positions: int
    position_buckets: int
    """Less than 1 if each distance has its own bucket."""
    share_att_key: bool
    """Whether distances use the kernels of queries and keys."""
    normalizes_distances: bool
    """Whether the vectors of distances are normalized."""

    @property
    def span(self) -> int:
        """The number of buckets for keys before the query, and as many for those after it."""
        return self.position_buckets if self.position_buckets > 0 else self.max_relative_positions


def read_config(path: Path, settings: Mapping[str, Any]) -> DebertaConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings, default_epsilon=_DEFAULT_EPSILON)
    hidden_size, positions = found["hidden_size"], found["max_position_embeddings"]
    refuse(path, settings, "conv_kernel_size")
    refuse(path, settings, "embedding_size", hidden_size)
    refuse(path, settings, "attention_head_size", hidden_size // found["num_attention_heads"])
    if not flag(path, settings, "relative_attention", False):
        raise ModelError(f"{path} has relative_attention False, which is not supported")
    max_relative_positions = integer(path, settings, "max_relative_positions", -1)
    if max_relative_positions < 1:
        max_relative_positions = positions
    buckets = integer(path, settings, "position_buckets", -1)
    if buckets == 1 or 0 < buckets >= 2 * max_relative_positions - 2:
        raise ModelError(f"{path} is damaged: position_buckets is {buckets}")
    token_types = integer(path, settings, "type_vocab_size", 0)
    return DebertaConfig(
        **found,
        embedding_size=hidden_size,
        max_pieces=positions,
        pad_token_id=padding_id(settings, found["vocab_size"], default=0),
        has_positions=flag(path, settings, "position_biased_input", True),
        has_token_types=token_types > 0,
        type_vocab_size=max(token_types, 1),
        terms=_read_terms(path, settings),
        max_relative_positions=max_relative_positions,
        position_buckets=buckets,
        share_att_key=flag(path, settings, "share_att_key", False),
        normalizes_distances=_normalizes_distances(path, settings),
    )


def _read_terms(path: Path, settings: Mapping[str, Any]) -> Sequence[str]:
    terms = settings.get("pos_att_type") or []
    if isinstance(terms, str):
        terms = [term.strip() for term in terms.lower().split("|")]
    if not isinstance(terms, list):
        raise ModelError(f"{path} is damaged: pos_att_type is {terms!r:.40}, not a list")
    return [choice(path, {"pos_att_type": term}, "pos_att_type", _TERMS) for term in terms]


def _normalizes_distances(path: Path, settings: Mapping[str, Any]) -> bool:
    value = settings.get("norm_rel_ebd", "none")
    supported = ["none", "layer_norm"]
    return choice(path, {"norm_rel_ebd": value}, "norm_rel_ebd", supported) == "layer_norm"


def open_weights(file: TensorFile, config: DebertaConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return transformer.open_weights(file, origin, config.num_hidden_layers, "deberta.")


def parameters(
    weights: Weights, config: DebertaConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    yield from transformer.parameters(
        weights,
        config,
        [_layer(i) for i in range(depth)],
        position_embeddings=position_embeddings,
        key_bias="p2c" in config.terms,
    )
    if config.terms and depth:
        vectors = _distance_vectors(weights, config)
        for i in range(depth):
            for which in ("query", "key"):
                if _term(which) in config.terms:
                    table = _distance_table(weights, config, i, which, vectors)
                    yield f"layer_{i}.distance_{which}.table", table * position_embeddings


def _term(which: str) -> str:
    """Return the product in which distances stand for queries or for keys."""
    return {"query": "p2c", "key": "c2p"}[which]


def _distance_vectors(weights: Weights, config: DebertaConfig) -> FloatArray:
    """Return the ``(2 * span, c)`` vectors of buckets, before they become queries or keys."""
    c, rows = config.hidden_size, 2 * config.span
    vectors: FloatArray = np.float64(weights.read("encoder.rel_embeddings.weight", rows, c))
    if config.normalizes_distances:
        vectors = vectors - vectors.mean(axis=1, keepdims=True)
        vectors /= np.sqrt((vectors**2).mean(axis=1, keepdims=True) + config.layer_norm_eps)
        vectors *= weights.read("encoder.LayerNorm.weight", c)
        vectors += weights.read("encoder.LayerNorm.bias", c)
    return vectors


def _distance_table(
    weights: Weights, config: DebertaConfig, i: int, which: str, vectors: FloatArray
) -> FloatArray:
    """Return the ``(2 * span, c)`` queries or keys of buckets in layer ``i``."""
    name = f"{which}_proj" if config.share_att_key else f"pos_{which}_proj"
    place, c = f"encoder.layer.{i}.attention.self.{name}", config.hidden_size
    kernel = weights.read_kernel(f"{place}.weight", c, c)
    table: FloatArray = vectors @ kernel + weights.read(f"{place}.bias", c)
    return table


def _layer(i: int) -> LayerNames:
    place = f"encoder.layer.{i}"
    return LayerNames(
        query=f"{place}.attention.self.query_proj",
        key=f"{place}.attention.self.key_proj",
        value=f"{place}.attention.self.value_proj",
        attention=f"{place}.attention.output.dense",
        attention_norm=f"{place}.attention.output.LayerNorm",
        intermediate=f"{place}.intermediate.dense",
        output=f"{place}.output.dense",
        output_norm=f"{place}.output.LayerNorm",
    )


def _bucket(distances: IntArray, buckets: int, most: int) -> IntArray:
    """Return the buckets of distances from keys to queries.

    Args:
        distances: The distances.
        buckets: The number of buckets in each direction; if less than 1, a distance is its bucket.
        most: The number of positions to which the logarithm is fitted.

    >>> _bucket(np.array([-511, -128, -5, 0, 127, 128, 129, 140, 511, 600]), 256, 512).tolist()
    [-255, -128, -5, 0, 127, 128, 129, 137, 255, 270]
    """
    if buckets < 1:
        return distances
    half = buckets // 2
    far = np.maximum(np.abs(distances), half)
    # In float32, as Hugging Face's code does: rounding decides about the bucket of some distances.
    logarithms = np.log(np.float32(far) / np.float32(half))
    scaled = logarithms / np.log(np.float32((most - 1) / half)) * np.float32(half - 1)
    logarithmic = (np.ceil(scaled) + half).astype(np.intp) * np.sign(distances)
    return np.where(np.abs(distances) <= half, distances, logarithmic)


def build_graph(graph: GraphBuilder, config: DebertaConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return _Deberta(graph, config, depth_of(layers)).build("deberta", layers)


class _Deberta(TransformerGraph):
    """Adds the products with the vectors of distances to the scores."""

    def __init__(self, graph: GraphBuilder, config: DebertaConfig, depth: int) -> None:
        super().__init__(graph, config)
        self._deberta = config
        self._scale = (config.head_size * (1 + len(config.terms))) ** -0.5
        n = config.max_pieces
        rows = _bucket(np.arange(-n, n + 1), config.position_buckets, config.max_relative_positions)
        rows = np.clip(rows + config.span, 0, 2 * config.span - 1)
        self._rows = graph.integers(*rows.tolist())
        """The row of each distance in the tables, beginning with ``-max_pieces``."""

        self._gathered = "" if self.in_blocks else self._prepare_gathering()

    def scores(self, layer: str, query: str, key: str, block: Block) -> str:
        """Return the ``(b, heads, q, t)`` scores of a block of ``q`` queries, without the mask."""
        graph = self.graph
        scores = self.compare(query, key, self._scale)
        if not self._deberta.terms:
            return scores
        has_more_distances = self._has_more_distances(block)

        def by_distance() -> str:
            return self._add_by_distance(scores, layer, query, key, block)

        def by_bucket() -> str:
            return self._add_by_bucket(scores, layer, query, key, block)

        return graph.either(has_more_distances, by_bucket, by_distance)

    def _has_more_distances(self, block: Block) -> str:
        """Return whether there are more distances than buckets."""
        graph = self.graph
        distances = graph.node("Add", self.t, block.size)
        return graph.node("Greater", distances, graph.integer(2 * self._deberta.span))

    def _add_by_distance(self, scores: str, layer: str, query: str, key: str, block: Block) -> str:
        """Add the products with the vectors of all distances."""
        graph = self.graph
        if "c2p" in self._deberta.terms:
            rows = self._rows_of(self.distances(block))
            keys = self._vectors(graph.node("Gather", f"{layer}.distance_key.table", rows))
            products = self.compare(query, keys, self._scale)
            scores = graph.node("Add", scores, self.skew(products, block.size, self.t))
        if "p2c" in self._deberta.terms:
            rows = self._rows_of(self.distances_from_keys(block))
            queries = self._vectors(graph.node("Gather", f"{layer}.distance_query.table", rows))
            products = self.compare(key, queries, self._scale)
            products = self.skew(products, self.t, block.size)  # (b, heads, t, q)
            products = graph.node("Transpose", products, perm=[0, 1, 3, 2])
            scores = graph.node("Add", scores, products)
        return scores

    def _add_by_bucket(self, scores: str, layer: str, query: str, key: str, block: Block) -> str:
        """Add the products with the vectors of all buckets."""
        graph = self.graph
        places = self._gathered or self._places(block, block.size)
        if "c2p" in self._deberta.terms:
            keys = self._vectors(f"{layer}.distance_key.table")
            products = self.compare(query, keys, self._scale)
            products = graph.node("GatherElements", products, places, axis=3)
            scores = graph.node("Add", scores, products)
        if "p2c" in self._deberta.terms:
            queries = self._vectors(f"{layer}.distance_query.table")
            products = self.compare(queries, key, self._scale)
            products = graph.node("GatherElements", products, places, axis=2)
            scores = graph.node("Add", scores, products)
        return scores

    def _prepare_gathering(self) -> str:
        """Return :meth:`_places` for all queries, computed once; empty if it is not needed."""
        graph = self.graph
        is_needed = self._has_more_distances(self.whole)
        q = graph.node("Where", is_needed, self.t, graph.integer(0))
        return self._places(self.whole, q)

    def _places(self, block: Block, q: str) -> str:
        """Return the row in the tables of ``q`` queries and all keys, ``(b, heads, q, t)``."""
        graph, zero, one = self.graph, self.graph.integer(0), self.graph.integer(1)
        end = graph.node("Add", block.start, q)
        queries = graph.node("Range", block.start, end, one)
        queries = graph.node("Unsqueeze", queries, graph.integers(1))
        distances = graph.node("Sub", queries, graph.node("Range", zero, self.t, one))
        rows = graph.node("Cast", self._rows_of(distances), to=INT32)
        shape = self.shape(self.b, self._deberta.num_attention_heads, q, self.t)
        return graph.node("Expand", rows, shape)

    def _rows_of(self, distances: str) -> str:
        """Return the row of each distance in the tables."""
        graph, n = self.graph, self._deberta.max_pieces
        limits = [graph.integer(limit) for limit in (-n, n)]
        distances = graph.node("Clip", distances, *limits)
        return graph.node("Gather", self._rows, graph.node("Add", distances, graph.integer(n)))

    def _vectors(self, table: str) -> str:
        """Return rows of tables as vectors for each head, ``(rows, 1, heads, c / heads)``."""
        config = self._deberta
        shape = self.graph.integers(-1, 1, config.num_attention_heads, config.head_size)
        return self.graph.node("Reshape", table, shape)
