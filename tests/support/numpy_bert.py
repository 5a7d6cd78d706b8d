"""A short implementation of BERT in NumPy and float64: the reference for the engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["hidden_layers"]

Array = np.ndarray[Any, Any]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": lambda x: x * 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))),
    "gelu_new": lambda x: (
        x * 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: np.maximum(x, 0.0),
}


def hidden_layers(
    weights: Mapping[str, Array], config: Mapping[str, Any], ids: Array, types: Array, mask: Array
) -> list[Array]:
    """Return the ``(b, t, c)`` vectors of every layer, given weights by Hugging Face's names."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    epsilon, heads = config.get("layer_norm_eps", 1e-12), config["num_attention_heads"]

    def dense(x: Array, name: str) -> Array:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normalize(x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def attend(x: Array, name: str) -> Array:
        b, t, c = x.shape
        query, key, value = (
            dense(x, f"{name}.{which}").reshape(b, t, heads, c // heads).transpose(0, 2, 1, 3)
            for which in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(c // heads)
        scores += (1.0 - mask[:, None, None, :]) * -10000.0
        probabilities = np.exp(scores - scores.max(-1, keepdims=True))
        probabilities /= probabilities.sum(-1, keepdims=True)
        return (probabilities @ value).transpose(0, 2, 1, 3).reshape(b, t, c)

    name_of = "embeddings.{}_embeddings.weight".format
    x = w[name_of("word")][ids] + w[name_of("token_type")][types]
    x = normalize(x + w[name_of("position")][: ids.shape[1]], "embeddings")
    layers = []
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        context = attend(x, f"{layer}attention.self")
        x = normalize(
            x + dense(context, f"{layer}attention.output.dense"), f"{layer}attention.output"
        )
        intermediate = dense(x, f"{layer}intermediate.dense")
        intermediate = ACTIVATIONS[config["hidden_act"]](intermediate)
        x = normalize(x + dense(intermediate, f"{layer}output.dense"), f"{layer}output")
        layers.append(x)
    return layers
