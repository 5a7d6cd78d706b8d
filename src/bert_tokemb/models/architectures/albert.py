"""ALBERT: a BERT whose layers share their weights, and whose embeddings are small.

The hidden layers are divided into groups of consecutive layers. All layers of a group are the same
sequence of ``inner_group_num`` transformer layers, usually one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...types import FloatArray, Layer
from ..config import padding_id, positive_integer
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .encoder import depth_of
from .transformer import LayerNames, TransformerConfig, TransformerGraph

__all__ = ["AlbertConfig", "build_graph", "open_weights", "parameters", "read_config"]

_GROUP = re.compile(r"(?:albert\.)?encoder\.albert_layer_groups\.(\d{1,9})\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlbertConfig(TransformerConfig):
    """The configuration of an ALBERT."""

    num_hidden_groups: int
    inner_group_num: int


def read_config(path: Path, settings: Mapping[str, Any]) -> AlbertConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings)
    return AlbertConfig(
        **found,
        embedding_size=positive_integer(path, settings, "embedding_size"),
        type_vocab_size=positive_integer(path, settings, "type_vocab_size"),
        max_pieces=found["max_position_embeddings"],
        pad_token_id=padding_id(settings, found["vocab_size"], default=0),
        num_hidden_groups=positive_integer(path, settings, "num_hidden_groups", default=1),
        inner_group_num=positive_integer(path, settings, "inner_group_num", default=1),
    )


def open_weights(file: TensorFile, config: AlbertConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    weights = Weights(file, origin, transformer.hugging_face("albert."))
    weights.check_layers(_GROUP, config.num_hidden_groups, "groups of layers")
    return weights


def parameters(
    weights: Weights, config: AlbertConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return transformer.parameters(
        weights,
        config,
        _transformer_layers(config, depth),
        position_embeddings=position_embeddings,
        projection="encoder.embedding_hidden_mapping_in",
    )


def _transformer_layers(config: AlbertConfig, depth: int) -> Sequence[LayerNames]:
    """Return the names of the transformer layers of ``depth`` hidden layers."""
    groups = [i * config.num_hidden_groups // config.num_hidden_layers for i in range(depth)]
    return [_layer(group, inner) for group in groups for inner in range(config.inner_group_num)]


def _layer(group: int, inner: int) -> LayerNames:
    place = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"
    return LayerNames(
        query=f"{place}.attention.query",
        key=f"{place}.attention.key",
        value=f"{place}.attention.value",
        attention=f"{place}.attention.dense",
        attention_norm=f"{place}.attention.LayerNorm",
        intermediate=f"{place}.ffn",
        output=f"{place}.ffn_output",
        output_norm=f"{place}.full_layer_layer_norm",
    )


def build_graph(graph: GraphBuilder, config: AlbertConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    names = _transformer_layers(config, depth_of(layers))
    # The output of a hidden layer is that of its last transformer layer.
    n = config.inner_group_num
    last = [layer if layer == "embeddings" else (layer + 1) * n - 1 for layer in layers]
    return TransformerGraph(graph, config, [names.index(one) for one in names]).build(
        "albert", last
    )
