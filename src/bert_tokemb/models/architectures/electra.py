"""ELECTRA: a BERT whose embeddings may be smaller than its hidden layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...types import FloatArray, Layer
from ..config import padding_id, positive_integer
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .transformer import TransformerConfig, TransformerGraph, bert_layer

__all__ = ["build_graph", "open_weights", "parameters", "read_config"]


def read_config(path: Path, settings: Mapping[str, Any]) -> TransformerConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings)
    return TransformerConfig(
        **found,
        embedding_size=positive_integer(path, settings, "embedding_size"),
        type_vocab_size=positive_integer(path, settings, "type_vocab_size"),
        max_pieces=found["max_position_embeddings"],
        pad_token_id=padding_id(settings, found["vocab_size"], default=0),
    )


def open_weights(file: TensorFile, config: TransformerConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return transformer.open_weights(file, origin, config.num_hidden_layers, "electra.")


def parameters(
    weights: Weights, config: TransformerConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = [bert_layer(i) for i in range(depth)]
    has_projection = config.embedding_size != config.hidden_size
    return transformer.parameters(
        weights,
        config,
        layers,
        position_embeddings=position_embeddings,
        projection="embeddings_project" if has_projection else "",
    )


def build_graph(graph: GraphBuilder, config: TransformerConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return TransformerGraph(graph, config).build("electra", layers)
