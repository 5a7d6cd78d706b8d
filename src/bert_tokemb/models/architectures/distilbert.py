"""DistilBERT: a BERT without token types, whose settings and weights have names of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...types import FloatArray, Layer
from ..config import choice, padding_id, positive_integer, refuse
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .encoder import ACTIVATIONS
from .transformer import LayerNames, TransformerConfig, TransformerGraph

__all__ = ["build_graph", "open_weights", "parameters", "read_config"]

# A constant in Hugging Face's code.
_EPSILON = 1e-12


def read_config(path: Path, settings: Mapping[str, Any]) -> TransformerConfig:
    """Read ``config.json``.

    ``sinusoidal_pos_embds`` is ignored: it says how the position embeddings were initialized, and
    they are stored as weights in any case.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    refuse(path, settings, "pruned_heads")
    hidden_size = positive_integer(path, settings, "dim")
    heads = positive_integer(path, settings, "n_heads")
    transformer.check_heads(path, hidden_size, heads, ("dim", "n_heads"))
    positions = positive_integer(path, settings, "max_position_embeddings")
    vocab_size = positive_integer(path, settings, "vocab_size")
    return TransformerConfig(
        hidden_size=hidden_size,
        embedding_size=hidden_size,
        num_hidden_layers=positive_integer(path, settings, "n_layers"),
        num_attention_heads=heads,
        intermediate_size=positive_integer(path, settings, "hidden_dim"),
        hidden_act=choice(path, settings, "activation", list(ACTIVATIONS), default="gelu"),
        layer_norm_eps=_EPSILON,
        max_position_embeddings=positions,
        max_pieces=positions,
        pad_token_id=padding_id(settings, vocab_size, default=0),
        has_token_types=False,
        type_vocab_size=1,
        vocab_size=vocab_size,
    )


def open_weights(file: TensorFile, config: TransformerConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = config.num_hidden_layers
    return transformer.open_weights(
        file, origin, layers, "distilbert.", layer=r"transformer\.layer\."
    )


def parameters(
    weights: Weights, config: TransformerConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = [_layer(i) for i in range(depth)]
    return transformer.parameters(weights, config, layers, position_embeddings=position_embeddings)


def _layer(i: int) -> LayerNames:
    place = f"transformer.layer.{i}"
    return LayerNames(
        query=f"{place}.attention.q_lin",
        key=f"{place}.attention.k_lin",
        value=f"{place}.attention.v_lin",
        attention=f"{place}.attention.out_lin",
        attention_norm=f"{place}.sa_layer_norm",
        intermediate=f"{place}.ffn.lin1",
        output=f"{place}.ffn.lin2",
        output_norm=f"{place}.output_layer_norm",
    )


def build_graph(graph: GraphBuilder, config: TransformerConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return TransformerGraph(graph, config).build("distilbert", layers)
