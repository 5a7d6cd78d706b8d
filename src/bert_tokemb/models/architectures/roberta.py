"""RoBERTa, and the models that use its architecture: XLM-R and CamemBERT.

The position of the first piece is the id of the padding piece plus 1, usually 2. So of 514 position
embeddings, 512 are used. Padding pieces are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...types import FloatArray, Layer
from ..config import positive_integer
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import transformer
from .transformer import TransformerConfig, TransformerGraph, bert_layer

__all__ = ["build_graph", "open_weights", "parameters", "read_config"]

_DEFAULT_PADDING = 1


def read_config(path: Path, settings: Mapping[str, Any]) -> TransformerConfig:
    """Read ``config.json``.

    Raises:
        ModelError: if a setting is missing, invalid or not supported.
    """
    found = transformer.read_settings(path, settings)
    padding = settings.get("pad_token_id", _DEFAULT_PADDING)
    if type(padding) is not int or not 0 <= padding < found["vocab_size"]:
        raise ModelError(f"{path} is damaged: pad_token_id is {padding!r:.40}, not a piece")
    max_pieces = found["max_position_embeddings"] - padding - 1
    if max_pieces < 1:
        raise ModelError(
            f"{path} is damaged: max_position_embeddings is {found['max_position_embeddings']}, "
            f"but positions begin at {padding + 1}"
        )
    return TransformerConfig(
        **found,
        embedding_size=found["hidden_size"],
        type_vocab_size=positive_integer(path, settings, "type_vocab_size"),
        max_pieces=max_pieces,
        pad_token_id=padding,
        padding_position=padding,
    )


def open_weights(file: TensorFile, config: TransformerConfig, origin: str) -> Weights:
    """Return access to the weights; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return transformer.open_weights(file, origin, config.num_hidden_layers, "roberta.")


def parameters(
    weights: Weights, config: TransformerConfig, depth: int, *, position_embeddings: bool = True
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the parameters; see :class:`bert_tokemb.models.architectures.Architecture`."""
    layers = [bert_layer(i) for i in range(depth)]
    return transformer.parameters(weights, config, layers, position_embeddings=position_embeddings)


def build_graph(graph: GraphBuilder, config: TransformerConfig, layers: Sequence[Layer]) -> bytes:
    """Return the graph; see :class:`bert_tokemb.models.architectures.Architecture`."""
    return TransformerGraph(graph, config).build("roberta", layers)
