"""Configurations of models that lie, or are no JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.checkpoints import write_google
from support.tiny import PIECES, refusal, rewrite, start, write_tiny

Json = dict[str, Any]

NUMBERS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("max_position_embeddings", "type_vocab_size", "vocab_size"),
)
NO_NUMBERS: tuple[Any, ...] = (-1, 0, 2.5, 32.0, 1e300, "32", "", True, False, [], [32], {})


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_that_are_none(name: str, tiny: Path) -> None:
    for value in (*NO_NUMBERS, 2**31, 10**30, -(10**30)):
        rewrite(tiny / "config.json", **{name: value})
        assert refusal(tiny) == f"config.json is damaged: {name} is {value!r}"
    for value in (None, ...):
        rewrite(tiny / "config.json", **{name: value})
        assert refusal(tiny) == f"config.json is not a BERT's: it has no {name}"


WRONG_NUMBERS: dict[str, tuple[Json, str]] = {
    "no multiple of the heads": ({"hidden_size": 33}, "config.json is damaged: hidden_size 33 is"),
    "wider": ({"hidden_size": 36}, f"(embeddings) of shape ({PIECES}, 32): ({PIECES}, 36)"),
    "one layer less": ({"num_hidden_layers": 2}, "holds 3 layers, but its configuration says 2"),
    "one layer more": ({"num_hidden_layers": 4}, "holds 3 layers, but its configuration says 4"),
    "many layers": ({"num_hidden_layers": 2**31 - 1}, "holds 3 layers, but its configuration"),
    "one head more": ({"num_attention_heads": 5}, "hidden_size 32 is no multiple of 5 heads"),
    "many heads": ({"num_attention_heads": 64}, "hidden_size 32 is no multiple of 64 heads"),
    "narrower inside": ({"intermediate_size": 63}, "of shape (64, 32): (63, 32)"),
    "wider inside": ({"intermediate_size": 65}, "of shape (64, 32): (65, 32)"),
    "shorter": ({"max_position_embeddings": 63}, "of shape (64, 32): (63, 32)"),
    "longer": ({"max_position_embeddings": 65}, "of shape (64, 32): (65, 32)"),
    "fewer types": ({"type_vocab_size": 1}, "of shape (2, 32): (1, 32)"),
    "more types": ({"type_vocab_size": 3}, "of shape (2, 32): (3, 32)"),
    "more pieces": ({"vocab_size": PIECES + 1}, f"of shape ({PIECES}, 32): ({PIECES + 1}, 32)"),
    "fewer pieces": (
        {"vocab_size": PIECES - 1},
        f"the vocabulary in DIR has {PIECES} pieces, but the model only {PIECES - 1}: they do not",
    ),
    "immense": (
        dict.fromkeys(("hidden_size", "intermediate_size"), 2**30),
        f"of shape ({PIECES}, 32): ({PIECES}, {2**30})",
    ),
}


@pytest.mark.parametrize("layout", ["Hugging Face's", "Google's"])
@pytest.mark.parametrize("name", WRONG_NUMBERS)
def test_numbers_that_do_not_fit(name: str, layout: str, tmp_path: Path) -> None:
    changes, said = WRONG_NUMBERS[name]
    if layout == "Google's":
        directory = write_google(tmp_path / "model")
        rewrite(directory / "bert_config.json", **changes)
        said = said.replace("(64, 32): (63, 32)", "").replace("(64, 32): (65, 32)", "")
    else:
        directory = write_tiny(tmp_path / "model")
        rewrite(directory / "config.json", **changes)
    told = refusal(directory, cased=False)
    for part in said.removeprefix("(embeddings) ").split(": "):
        assert part in told


VARIANTS: dict[str, tuple[Json, str]] = {
    **{
        f"model_type {kind!r}": (
            {"model_type": kind},
            f"is of model_type {kind!r}: only 'bert' is supported",
        )
        for kind in (
            "roberta",
            "distilbert",
            "xlm-roberta",
            "bert-generation",
            "",
            None,
            3,
            ["bert"],
        )
    },
    **{
        f"hidden_act {name!r}": (
            {"hidden_act": name},
            f"asks for hidden_act {name!r}: supported are gelu, gelu_new, relu",
        )
        for name in ("swish", "GELU", "gelu_fast", "", None, 1, True, ["gelu"], {})
    },
    "no hidden_act": ({"hidden_act": ...}, "asks for hidden_act None: supported are"),
    **{
        f"positions {name!r}": (
            {"position_embedding_type": name},
            f"asks for position_embedding_type {name!r}: only 'absolute' is supported",
        )
        for name in ("relative_key", "relative_key_query", "rotary", None, 1, [])
    },
    "a decoder": ({"is_decoder": True}, "has is_decoder: only encoders are supported"),
    "cross attention": (
        {"add_cross_attention": True},
        "has add_cross_attention: only encoders are supported",
    ),
    **{
        f"layer_norm_eps {value!r}"[:30]: (
            {"layer_norm_eps": value},
            f"is damaged: layer_norm_eps is {value!r}",
        )
        for value in (-1e-12, float("nan"), float("inf"), "1e-12", None, [], True, False, 1e300)
    },
    "an endless layer_norm_eps": (
        {"layer_norm_eps": 10**400},
        "is damaged: layer_norm_eps is 1000",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name: str, tiny: Path) -> None:
    changes, said = VARIANTS[name]
    rewrite(tiny / "config.json", **changes)
    assert refusal(tiny).startswith(f"config.json {said}")


def test_a_configuration_may_hold_more(tiny: Path) -> None:
    usual = {"is_decoder": False, "position_embedding_type": "absolute", "torch_dtype": "float32"}
    rewrite(tiny / "config.json", **usual, architectures=["BertForMaskedLM"], id2label={"0": "x"})
    start(tiny)


NO_JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is no JSON ("),
    "half": (b'{"hidden_size": ', "it is no JSON ("),
    "text": (b"hello", "it is no JSON ("),
    "a web page": (b"<html></html>", "it is no JSON ("),
    "binary": (b"\x80\x02}q\0.", "it is no JSON ("),
    "zeros": (bytes(64), "it is no JSON ("),
    "not UTF-8": (b'{"a": "\xe4"}', "it is no JSON ("),
    "brackets": (b"[" * 200_000, "it is no JSON ("),
    "braces": (b'{"a":' * 200_000, "it is no JSON ("),
    "a number too long": (b'{"hidden_size": ' + b"9" * 5000 + b"}", "it is no JSON ("),
    "a list": (b"[]", "it holds no JSON object"),
    "null": (b"null", "it holds no JSON object"),
    "a string": (b'"bert"', "it holds no JSON object"),
    "a number": (b"3", "it holds no JSON object"),
}


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("name", NO_JSON)
def test_no_json(name: str, file: str, tiny: Path) -> None:
    content, said = NO_JSON[name]
    (tiny / file).write_bytes(content)
    assert refusal(tiny).startswith(f"{file} is damaged: {said}")


def test_an_index_that_is_no_json(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=2)
    for content, said in NO_JSON.values():
        (directory / "model.safetensors.index.json").write_bytes(content)
        told = refusal(directory)
        assert told.startswith(f"model.safetensors.index.json is damaged: {said}")
