"""What a model's configuration says, as far as its hidden layers depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..jsonfile import read_json

__all__ = ["ACTIVATIONS", "ModelConfig", "read_config"]

ACTIVATIONS = ("gelu", "gelu_new", "relu")
"""``gelu`` is the exact one, by the error function; ``gelu_new`` its approximation by tanh."""

# TensorFlow's layer_norm, which Google's code calls, has this value built in; it is the default
# of Hugging Face's configuration too.
_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a BERT."""

    width: int
    """``c``, the length of a hidden layer's vectors (``hidden_size``)."""
    layers: int
    heads: int
    inner: int
    """Width inside the feed-forward network (``intermediate_size``)."""
    positions: int
    """The most pieces of a sentence, special ones included (``max_position_embeddings``)."""
    token_types: int
    vocabulary: int
    activation: str
    epsilon: float
    """Of layer normalisation."""


def read_config(path: Path) -> ModelConfig:
    """Read Hugging Face's ``config.json`` or Google's ``bert_config.json``.

    Raises:
        ModelError: it cannot be read, or is no BERT that the embedded engine can compute.
    """
    found = read_json(path)
    # Google's files do not name the kind of model.
    kind = found.get("model_type", "bert")
    if kind != "bert":
        raise ModelError(f"{path} is of model_type {kind!r}: only 'bert' is supported")
    _refuse_variants(path, found)
    width, heads = _whole(path, found, "hidden_size"), _whole(path, found, "num_attention_heads")
    if width % heads:
        raise ModelError(f"{path} is damaged: hidden_size {width} is no multiple of {heads} heads")
    epsilon = found.get("layer_norm_eps", _EPSILON)
    if type(epsilon) not in (int, float) or not 0 <= epsilon <= 1:
        raise ModelError(f"{path} is damaged: layer_norm_eps is {epsilon!r}")
    return ModelConfig(
        width=width,
        layers=_whole(path, found, "num_hidden_layers"),
        heads=heads,
        inner=_whole(path, found, "intermediate_size"),
        positions=_whole(path, found, "max_position_embeddings"),
        token_types=_whole(path, found, "type_vocab_size"),
        vocabulary=_whole(path, found, "vocab_size"),
        activation=found["hidden_act"],
        epsilon=float(epsilon),
    )


def _refuse_variants(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse what has BERT's weights but computes something else with them."""
    if (activation := found.get("hidden_act")) not in ACTIVATIONS:
        raise ModelError(
            f"{path} asks for hidden_act {activation!r}: supported are {', '.join(ACTIVATIONS)}"
        )
    positions = found.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise ModelError(
            f"{path} asks for position_embedding_type {positions!r}: only 'absolute' is supported"
        )
    for name in ("is_decoder", "add_cross_attention"):
        if found.get(name):
            raise ModelError(f"{path} has {name}: only encoders are supported")


def _whole(path: Path, found: Mapping[str, Any], name: str) -> int:
    """Return a positive whole number."""
    value = found.get(name)
    if value is None:
        raise ModelError(f"{path} is not a BERT's: it has no {name}")
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ModelError(f"{path} is damaged: {name} is {value!r}")
    return value
