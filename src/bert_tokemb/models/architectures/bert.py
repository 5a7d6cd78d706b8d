"""BERT, from Hugging Face's files or from a checkpoint of Google's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...types import FloatArray, Layer
from ..config import padding_id, positive_integer
from ..graph import GraphBuilder
from ..weights import Naming, TensorFile, Weights
from . import transformer
from .transformer import TransformerConfig, TransformerGraph, bert_layer, with_gamma_and_beta

__all__ = ["build_graph", "open_weights", "parameters", "read_config"]

# The beginning of the names of a layer's tensors, Hugging Face's or Google's.
_LAYER = re.compile(r"(?:bert[./])?encoder[./]layer[._](\d{1,9})[./]")


def read_config(path: Path, settings: Mapping[str, Any]) -> TransformerConfig:
    """Read Hugging Face's ``config.json`` or Google's ``bert_config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings)
    return TransformerConfig(
        **found,
        embedding_size=found["hidden_size"],
        type_vocab_size=positive_integer(path, settings, "type_vocab_size"),
        max_pieces=found["max_position_embeddings"],
        pad_token_id=padding_id(settings, found["vocab_size"], default=0),
    )


def open_weights(file: TensorFile, config: TransformerConfig, origin: str) -> Weights:
    """Return access to weights by Hugging Face's names, also in a checkpoint of Google's.

    Raises:
        ModelError: if the number of layers differs from the configuration.
    """
    is_google = any("/" in name for name in file.shapes)
    naming = _GOOGLE if is_google else transformer.hugging_face("bert.")
    weights = Weights(file, origin, naming)
    weights.check_layers(_LAYER, config.num_hidden_layers)
    return weights


def _google_names(name: str) -> Sequence[str]:
    """Return the names that a tensor may have in Google's checkpoints, given Hugging Face's.

    >>> _google_names("encoder.layer.3.output.dense.weight")[0]
    'bert/encoder/layer_3/output/dense/kernel'
    >>> _google_names("encoder.layer.3.output.LayerNorm.weight")[0]
    'bert/encoder/layer_3/output/LayerNorm/gamma'
    >>> _google_names("embeddings.word_embeddings.weight")
    ['bert/embeddings/word_embeddings', 'embeddings/word_embeddings']
    """
    name = with_gamma_and_beta(name)
    name = re.sub(r"_embeddings\.weight$", "_embeddings", name)
    name = re.sub(r"\.weight$", ".kernel", name)
    name = re.sub(r"\blayer\.(\d+)", r"layer_\1", name).replace(".", "/")
    return [f"bert/{name}", name]


_GOOGLE = Naming(_google_names, kernels_are_transposed=False)


def parameters(
    weights: Weights, config: TransformerConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = [bert_layer(i) for i in range(depth)]
    return transformer.parameters(weights, config, layers, position_embeddings=position_embeddings)


def build_graph(graph: GraphBuilder, config: TransformerConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return TransformerGraph(graph, config).build("bert", layers)
