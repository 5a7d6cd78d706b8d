"""The model architectures, one module each, and the registry that finds them.

To add one, write a module with the functions of :class:`Architecture` and enter it below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import ModelError
from ...types import FloatArray, Layer
from ..config import ModelConfig
from ..graph import GraphBuilder
from ..weights import TensorFile, Weights
from . import albert, bert, deberta, distilbert, electra, modernbert, mpnet, roberta

__all__ = ["ARCHITECTURES", "Architecture", "find_architecture"]


class Architecture(Protocol):
    """The functions of an architecture's module.

    Each takes the configuration that :meth:`read_config` of the same module returned.
    """

    def read_config(self, path: Path, settings: Mapping[str, Any]) -> ModelConfig:
        """Return the configuration, given the content of ``config.json``.

        Args:
            path: The file, for error messages.
            settings: Its content.

        Raises:
            ModelError: if a setting is missing or invalid, or if it would change the vectors and
                is not supported.
        """

    def open_weights(self, file: TensorFile, config: Any, origin: str) -> Weights:
        """Return access to the weights in a file.

        Args:
            file: The tensors as stored.
            config: The configuration.
            origin: The name of the file in error messages.

        Raises:
            ModelError: if the file does not fit the configuration.
        """

    def parameters(
        self, weights: Weights, config: Any, depth: int, *, position_embeddings: bool
    ) -> Iterator[tuple[str, FloatArray]]:
        """Yield names and values of the parameters of the graph, in float32 or float64.

        See :mod:`bert_tokemb.models.parameters` for the meaning of their names.

        Args:
            weights: The weights.
            config: The configuration.
            depth: The number of hidden layers that are computed, from the first.
            position_embeddings: Whether the vector of a piece depends on its position.

        Raises:
            ModelError: if weights are missing or damaged.
        """

    def build_graph(self, graph: GraphBuilder, config: Any, layers: Sequence[Layer]) -> bytes:
        """Return a serialized ONNX model.

        Args:
            graph: An empty graph with the parameters.
            config: The configuration.
            layers: The layers of the output, in this order; 0 is the first hidden layer.
        """


ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": albert,
    "bert": bert,
    "camembert": roberta,
    "deberta-v2": deberta,
    "distilbert": distilbert,
    "electra": electra,
    "modernbert": modernbert,
    "mpnet": mpnet,
    "roberta": roberta,
    "xlm-roberta": roberta,
}
"""By ``model_type`` in ``config.json``."""


def find_architecture(path: Path, settings: Mapping[str, Any]) -> Architecture:
    """Return the architecture of a model, given the content of its configuration file.

    Raises:
        ModelError: if the architecture is not supported.
    """
    # Google's bert_config.json has no model_type.
    model_type = settings.get("model_type", "bert")
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise ModelError(
            f"{path} has model_type {model_type!r:.40}, which is not supported (supported: "
            f"{', '.join(ARCHITECTURES)})"
        )
    return ARCHITECTURES[model_type]
