"""Configurations with invalid, contradictory or unsupported settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.models.architectures import ARCHITECTURES
from support.checkpoints import write_google
from support.tiny import PIECES, refusal, rewrite, start, write_tiny

Json = dict[str, Any]

INTEGERS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "vocab_size"),
)
NOT_POSITIVE_INTEGERS: tuple[Any, ...] = (
    *(-1, 0, 2.5, 32.0, 1e300, "32", "", True, False, [], [32], {}),
    *(2**31, 10**30, -(10**30)),
)


@pytest.mark.parametrize("name", INTEGERS)
def test_sizes_must_be_positive_integers(name: str, tiny: Path) -> None:
    for value in NOT_POSITIVE_INTEGERS:
        rewrite(tiny / "config.json", **{name: value})
        assert refusal(tiny) == (
            f"config.json is damaged: {name} is {value!r}, not a positive integer"
        )


@pytest.mark.parametrize("name", INTEGERS)
def test_sizes_must_exist(name: str, tiny: Path) -> None:
    for value in (None, ...):
        rewrite(tiny / "config.json", **{name: value})
        assert refusal(tiny) == f"config.json has no {name}"


NOT_A_MULTIPLE = "CONFIG is damaged: hidden_size {} is not a multiple of num_attention_heads {}"
LAYERS = "WEIGHTS holds 3 layers, but its configuration says {}"
SHAPE = r"WEIGHTS holds \S+ of shape \({}\), but its configuration implies \({}\)"
WRONG_SIZES: dict[str, tuple[Json, str]] = {
    "hidden_size 33": ({"hidden_size": 33}, NOT_A_MULTIPLE.format(33, 4)),
    "one head more": ({"num_attention_heads": 5}, NOT_A_MULTIPLE.format(32, 5)),
    "more heads than numbers": ({"num_attention_heads": 64}, NOT_A_MULTIPLE.format(32, 64)),
    "one layer less": ({"num_hidden_layers": 2}, LAYERS.format(2)),
    "one layer more": ({"num_hidden_layers": 4}, LAYERS.format(4)),
    "most layers": ({"num_hidden_layers": 2**31 - 1}, LAYERS.format(2**31 - 1)),
    "hidden_size 36": ({"hidden_size": 36}, SHAPE.format(f"{PIECES}, 32", f"{PIECES}, 36")),
    "immense hidden_size": (
        dict.fromkeys(("hidden_size", "intermediate_size"), 2**30),
        SHAPE.format(f"{PIECES}, 32", f"{PIECES}, {2**30}"),
    ),
    # Kernels are stored as (out, in) by Hugging Face, as (in, out) by Google.
    "intermediate_size 63": (
        {"intermediate_size": 63},
        SHAPE.format("(64, 32|32, 64)", "(63, 32|32, 63)"),
    ),
    "intermediate_size 65": (
        {"intermediate_size": 65},
        SHAPE.format("(64, 32|32, 64)", "(65, 32|32, 65)"),
    ),
    "63 positions": ({"max_position_embeddings": 63}, SHAPE.format("64, 32", "63, 32")),
    "65 positions": ({"max_position_embeddings": 65}, SHAPE.format("64, 32", "65, 32")),
    "one token type": ({"type_vocab_size": 1}, SHAPE.format("2, 32", "1, 32")),
    "three token types": ({"type_vocab_size": 3}, SHAPE.format("2, 32", "3, 32")),
    "one piece more": (
        {"vocab_size": PIECES + 1},
        SHAPE.format(f"{PIECES}, 32", f"{PIECES + 1}, 32"),
    ),
    "one piece less": (
        {"vocab_size": PIECES - 1},
        f"the vocabulary in DIR has {PIECES} pieces, but the model only {PIECES - 1}: they do .*",
    ),
}


@pytest.mark.parametrize("layout", ["hugging face", "google"])
@pytest.mark.parametrize("name", WRONG_SIZES)
def test_sizes_must_fit_the_weights(name: str, layout: str, tmp_path: Path) -> None:
    changes, pattern = WRONG_SIZES[name]
    if layout == "google":
        directory = write_google(tmp_path / "model")
        config, weights = "bert_config.json", "bert_model.ckpt"
    else:
        directory = write_tiny(tmp_path / "model")
        config, weights = "config.json", "model.safetensors"
    rewrite(directory / config, **changes)
    pattern = pattern.replace("CONFIG", config).replace("WEIGHTS", weights)
    message = refusal(directory, cased=False)
    assert re.fullmatch(pattern, message), message


NOT_SUPPORTED = "has {} {{!r}}, which is not supported (supported: {})"
UNSUPPORTED: dict[str, tuple[Sequence[Any], str]] = {
    "model_type": (
        ["gpt2", "llama", "xlm-roberta-xl", "bert-generation", "", None, 3, ["bert"]],
        NOT_SUPPORTED.format("model_type", ", ".join(ARCHITECTURES)),
    ),
    "hidden_act": (
        ["swish", "GELU", "gelu_fast", "", None, 1, True, ["gelu"], {}],
        NOT_SUPPORTED.format("hidden_act", "gelu, gelu_new, relu"),
    ),
    "position_embedding_type": (
        ["relative_key", "relative_key_query", "rotary", None, 1, []],
        NOT_SUPPORTED.format("position_embedding_type", "absolute"),
    ),
    "is_decoder": ([True], "has is_decoder: only encoders are supported"),
    "add_cross_attention": ([True], "has add_cross_attention: only encoders are supported"),
    "layer_norm_eps": (
        [-1e-12, float("nan"), float("inf"), "1e-12", None, [], True, False, 1e300],
        "is damaged: layer_norm_eps is {!r}, not a number from 0 to 1",
    ),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_unsupported_settings_are_refused(name: str, tiny: Path) -> None:
    values, message = UNSUPPORTED[name]
    for value in values:
        rewrite(tiny / "config.json", **{name: value})
        assert refusal(tiny) == f"config.json {message.format(value)}"


def test_missing_hidden_act_is_refused(tiny: Path) -> None:
    rewrite(tiny / "config.json", hidden_act=...)
    assert refusal(tiny).startswith("config.json has hidden_act None, which is not supported")


def test_long_values_are_shortened_in_messages(tiny: Path) -> None:
    rewrite(tiny / "config.json", layer_norm_eps=10**400)
    assert refusal(tiny).startswith("config.json is damaged: layer_norm_eps is 1000")
    for name in ("model_type", "hidden_act", "hidden_size"):
        rewrite(tiny / "config.json", layer_norm_eps=0, **{name: "x" * 10_000})
        assert len(refusal(tiny)) < 300


def test_other_settings_are_ignored(tiny: Path) -> None:
    common = {"is_decoder": False, "position_embedding_type": "absolute", "torch_dtype": "float32"}
    rewrite(tiny / "config.json", **common, architectures=["BertForMaskedLM"], id2label={"0": "x"})
    start(tiny)


NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "cut short": b'{"hidden_size": ',
    "text": b"hello",
    "web page": b"<html></html>",
    "pickle": b"\x80\x02}q\0.",
    "zeros": bytes(64),
    "not UTF-8": b'{"a": "\xe4"}',
    "nested lists": b"[" * 200_000,
    "nested objects": b'{"a":' * 200_000,
    "too many digits": b'{"hidden_size": ' + b"9" * 5000 + b"}",
}
NOT_OBJECTS: dict[str, bytes] = {
    "list": b"[]",
    "null": b"null",
    "string": b'"bert"',
    "number": b"3",
}
JSON_FILES = ["config.json", "tokenizer_config.json", "tokenizer.json"]


@pytest.mark.parametrize("file", [*JSON_FILES, "model.safetensors.index.json"])
def test_invalid_json_is_refused(file: str, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=2)
    for content in NOT_JSON.values():
        (directory / file).write_bytes(content)
        assert refusal(directory).startswith(f"{file} is damaged: invalid JSON: ")
    for content in NOT_OBJECTS.values():
        (directory / file).write_bytes(content)
        assert refusal(directory) == f"{file} is damaged: it does not hold a JSON object"
