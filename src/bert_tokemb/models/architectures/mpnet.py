"""MPNet: a RoBERTa without token types, with a bias for the distance between pieces.

The bias is added to the attention scores of all layers. Near distances have a bias of their own;
farther ones share those of logarithmic *buckets*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ...types import FloatArray, IntArray, Layer
from ..config import positive_integer
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .encoder import Block
from .transformer import LayerNames, TransformerConfig, TransformerGraph

__all__ = ["build_graph", "open_weights", "parameters", "read_config"]

# Constants in Hugging Face's code.
_PADDING = 1
_BUCKETS = 32
_MAX_DISTANCE = 128


def read_config(path: Path, settings: Mapping[str, Any]) -> TransformerConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings)
    buckets = positive_integer(path, settings, "relative_attention_num_buckets", _BUCKETS)
    if buckets != _BUCKETS:
        raise ModelError(
            f"{path} has relative_attention_num_buckets {buckets}, which is not supported "
            f"(supported: {_BUCKETS})"
        )
    if (max_pieces := found["max_position_embeddings"] - _PADDING - 1) < 1:
        raise ModelError(
            f"{path} is damaged: max_position_embeddings is {found['max_position_embeddings']}, "
            f"but positions begin at {_PADDING + 1}"
        )
    return TransformerConfig(
        **found,
        embedding_size=found["hidden_size"],
        max_pieces=max_pieces,
        pad_token_id=_PADDING,
        padding_position=_PADDING,
        has_token_types=False,
        type_vocab_size=1,
    )


def open_weights(file: TensorFile, config: TransformerConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return transformer.open_weights(file, origin, config.num_hidden_layers, "mpnet.")


def parameters(
    weights: Weights, config: TransformerConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = [_layer(i) for i in range(depth)]
    yield from transformer.parameters(
        weights, config, layers, position_embeddings=position_embeddings
    )
    name = "encoder.relative_attention_bias.weight"
    bias = weights.read(name, _BUCKETS, config.num_attention_heads)
    distances = np.arange(-_MAX_DISTANCE, _MAX_DISTANCE + 1)
    yield "distances", bias[_bucket(distances)].T * position_embeddings


def _layer(i: int) -> LayerNames:
    place = f"encoder.layer.{i}"
    return LayerNames(
        query=f"{place}.attention.attn.q",
        key=f"{place}.attention.attn.k",
        value=f"{place}.attention.attn.v",
        attention=f"{place}.attention.attn.o",
        attention_norm=f"{place}.attention.LayerNorm",
        intermediate=f"{place}.intermediate.dense",
        output=f"{place}.output.dense",
        output_norm=f"{place}.output.LayerNorm",
    )


def _bucket(distance: IntArray) -> IntArray:
    """Return the bucket of the distance from a key to a query.

    >>> _bucket(np.array([-128, -8, -1, 0, 1, 7, 8, 11, 12, 15, 16, 127, 128, 1000])).tolist()
    [31, 24, 17, 0, 1, 7, 8, 8, 9, 9, 10, 15, 15, 15]
    """
    half = _BUCKETS // 2  # for the keys before the query, and for those after it
    exact = half // 2
    far = np.maximum(np.abs(distance), exact)
    buckets = np.log(far / exact) / math.log(_MAX_DISTANCE / exact) * (half - exact)
    # For powers of two this is an integer, but rounding may have made it a little less.
    logarithmic = exact + np.floor(buckets + 1e-9).astype(np.intp)
    near = np.abs(distance) < exact
    bucket: IntArray = np.where(near, np.abs(distance), np.minimum(logarithmic, half - 1))
    bucket[distance < 0] += half
    return bucket


def build_graph(graph: GraphBuilder, config: TransformerConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return _MPNet(graph, config).build("mpnet", layers)


class _MPNet(TransformerGraph):
    """Adds the bias for distances to the mask."""

    def __init__(self, graph: GraphBuilder, config: TransformerConfig) -> None:
        super().__init__(graph, config)
        self._masks: dict[Block, str] = {}

    def mask(self, block: Block) -> str:
        """Return what to add to the scores of all layers, ``(b, heads, q, t)``."""
        if block not in self._masks:
            bias = self._bias(block)
            self._masks[block] = self.graph.node("Add", self.extended_mask, bias)
        return self._masks[block]

    def _bias(self, block: Block) -> str:
        """Return the bias of each query and key, ``(1, heads, q, t)``."""
        graph = self.graph
        limits = [graph.integer(limit) for limit in (-_MAX_DISTANCE, _MAX_DISTANCE)]
        distances = graph.node("Clip", self.distances(block), *limits)
        columns = graph.node("Add", distances, graph.integer(_MAX_DISTANCE))
        bias = graph.node("Gather", "distances", columns, axis=1)  # (heads, t + q)
        bias = graph.node("Unsqueeze", bias, graph.integers(0, 2))
        rows = self.shape(1, 1, block.size, 1)
        return self.skew(graph.node("Expand", bias, rows), block.size, self.t)
