"""Weights that lie, and files of weights that are damaged."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.checkpoints import write_google
from support.models import INDEX, join_safetensors, split_safetensors, write_safetensors
from support.tiny import WEIGHTS, refusal, rewrite, start, used_or_refused, write_tiny

Json = dict[str, Any]

# --- Weights that lie -------------------------------------------------------------------------

LAST_LAYER = "encoder.layer.2."
NEEDED = [
    name for name in WEIGHTS if name.startswith(("embeddings.", "encoder.layer.0.", LAST_LAYER))
]


def with_weights(directory: Path, **changes: Any) -> Path:
    weights = {**WEIGHTS, **changes}
    kept = {name: value for name, value in weights.items() if value is not ...}
    write_safetensors(directory / "model.safetensors", kept)
    return directory


@pytest.mark.parametrize("name", NEEDED)
def test_a_tensor_that_is_not_there(name: str, tiny: Path) -> None:
    told = refusal(with_weights(tiny, **{name: ...}))
    assert told.startswith("model.safetensors has no ")
    assert told.endswith(", which every BERT has")


@pytest.mark.parametrize("name", NEEDED)
def test_a_tensor_of_another_shape(name: str, tiny: Path) -> None:
    value = WEIGHTS[name]
    others = [value[:-1], value[..., :-1], value[None], value.reshape(-1, 1), np.zeros(())]
    others += [np.concatenate([value, value]), np.zeros((0, *value.shape[1:]))]
    others += [value.T] if value.T.shape != value.shape else []
    for other in others:
        told = refusal(with_weights(tiny, **{name: other}))
        assert told == (
            f"model.safetensors holds {name} of shape {other.shape}, which does not fit its "
            f"configuration: {value.shape}"
        )


@pytest.mark.parametrize("name", NEEDED)
def test_a_tensor_with_a_hole(name: str, tiny: Path) -> None:
    for wrong in (np.nan, np.inf, -np.inf):
        value = WEIGHTS[name].copy()
        value.flat[-1] = wrong
        told = refusal(with_weights(tiny, **{name: value}))
        assert told == f"model.safetensors is damaged: {name} holds NaN or infinity"


@pytest.mark.parametrize(
    ("dtype", "bits"), [("F32", 0x7FA00000), ("F16", 0x7D00), ("BF16", 0x7FA0)]
)
def test_a_signalling_nan(dtype: str, bits: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", dtype=dtype)
    path, name = directory / "model.safetensors", "encoder.layer.2.output.LayerNorm.bias"
    header, data = split_safetensors(path)
    at = header[name]["data_offsets"][0]
    content = bits.to_bytes(4 if dtype == "F32" else 2, "little")
    path.write_bytes(join_safetensors(header, data[:at] + content + data[at + len(content) :]))
    assert refusal(directory) == f"model.safetensors is damaged: {name} holds NaN or infinity"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("part", ["attention.self.value.bias", "output.dense.bias"])
def test_weights_that_no_model_has(part: str, precision: str, tiny: Path) -> None:
    """Their sums are beyond what there is: infinity must not come out, nor a warning."""
    with_weights(tiny, **{f"encoder.layer.1.{part}": np.full(32, 3e38)})
    assert "model.safetensors is damaged" in refusal(tiny, precision=precision)


def test_other_types_of_numbers(tiny: Path) -> None:
    path, name = tiny / "model.safetensors", "embeddings.LayerNorm.weight"
    header, data = split_safetensors(path)
    for kind, size in (("F64", 8), ("I8", 1), ("I64", 8), ("BOOL", 1), ("U16", 2), ("F8_E4M3", 1)):
        place = [len(data), len(data) + 32 * size]
        changed = {**header, name: {"dtype": kind, "shape": [32], "data_offsets": place}}
        hole = {"dtype": "F32", "shape": [32], "data_offsets": header[name]["data_offsets"]}
        path.write_bytes(join_safetensors({**changed, "hole": hole}, data + bytes(32 * size)))
        assert refusal(tiny) == (
            f"model.safetensors holds {name} as {kind}: supported are F32, F16, BF16"
        )


@pytest.mark.parametrize(("layer", "found"), [("3", 4), ("99999", 100_000)])
def test_a_layer_too_many(layer: str, found: int, tiny: Path) -> None:
    with_weights(tiny, **{f"encoder.layer.{layer}.output.dense.bias": np.zeros(32)})
    said = f"model.safetensors holds {found} layers, but its configuration says 3"
    assert refusal(tiny) == said


def test_a_layer_of_endless_number(tiny: Path) -> None:
    with_weights(tiny, **{f"encoder.layer.{'9' * 5000}.output.dense.bias": np.zeros(32)})
    used_or_refused(tiny)


def test_layers_between_are_missing(tiny: Path) -> None:
    layer = {name: ... for name in WEIGHTS if name.startswith("encoder.layer.1.")}
    assert "has no " in refusal(with_weights(tiny, **layer))


@pytest.mark.parametrize("prefix", ["roberta.", "model.", "bert.bert.", "distilbert."])
def test_another_model_under_the_configuration_of_a_bert(prefix: str, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", prefix=prefix)
    assert refusal(directory) == "model.safetensors holds 0 layers, but its configuration says 3"


def test_layers_above_those_wanted_are_not_read(tiny: Path) -> None:
    """They cost time and memory, and nothing depends on them."""
    with_weights(tiny, **{f"{LAST_LAYER}output.dense.weight": np.full((32, 64), np.nan)})
    start(tiny, (-2,))


# --- Damaged files of weights -----------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("part", [0.0, 1e-5, 1e-4, 0.01, 0.03, 0.1, 0.5, 0.99, 0.99999])
def test_a_file_cut_short(part: float, shards: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=shards)
    path = sorted(directory.glob("*.safetensors"))[-1]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert refusal(directory).startswith(f"{path.name} is damaged (")


def test_a_file_that_is_too_long(tiny: Path) -> None:
    with (tiny / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert refusal(tiny).startswith("model.safetensors is damaged (")


def lie(name: str, **changes: Any) -> Callable[[Json], object]:
    return lambda header: {**header, name: {**header[name], **changes}}


BIAS = "encoder.layer.1.output.dense.bias"
HEADER_LIES: dict[str, Callable[[Json], object]] = {
    "no JSON": lambda header: b"hello",
    "half": lambda header: json.dumps(header).encode()[:-10],
    "a list": lambda header: [],
    "null": lambda header: None,
    "not UTF-8": lambda header: b'{"\xe4": 3}',
    "zeros": lambda header: bytes(100),
    "brackets": lambda header: b"[" * 50_000,
    "a tensor is a number": lambda header: {**header, BIAS: 3},
    "a tensor is null": lambda header: {**header, BIAS: None},
    "a tensor is nothing": lambda header: {**header, BIAS: {}},
    "an unknown type": lie(BIAS, dtype="F33"),
    "a type of another size": lie(BIAS, dtype="F16"),
    "a type that is a number": lie(BIAS, dtype=32),
    "a shape that is too large": lie(BIAS, shape=[33]),
    "a shape that is too small": lie(BIAS, shape=[31]),
    "a shape that is immense": lie(BIAS, shape=[2**62, 2**62]),
    "a shape that is negative": lie(BIAS, shape=[-32]),
    "a shape that is text": lie(BIAS, shape="32"),
    "a shape that is broken": lie(BIAS, shape=[32.5]),
    "places beyond the end": lie(BIAS, data_offsets=[10**9, 10**9 + 128]),
    "places that are immense": lie(BIAS, data_offsets=[2**63, 2**63 + 128]),
    "places that are negative": lie(BIAS, data_offsets=[-128, 0]),
    "places in no order": lie(BIAS, data_offsets=[128, 0]),
    "places of another": lie(BIAS, data_offsets=[0, 128]),
    "three places": lie(BIAS, data_offsets=[0, 128, 256]),
    "a hole": lambda header: {name: value for name, value in header.items() if name != BIAS},
    "nothing at all": lambda header: {},
    "notes that are none": lambda header: {**header, "__metadata__": 3},
}


@pytest.mark.parametrize("name", HEADER_LIES)
def test_a_header_that_lies(name: str, tiny: Path) -> None:
    path = tiny / "model.safetensors"
    header, data = split_safetensors(path)
    path.write_bytes(join_safetensors(HEADER_LIES[name](header), data))
    assert refusal(tiny).startswith("model.safetensors is damaged (")


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1])
def test_a_header_of_another_length(size: int, tiny: Path) -> None:
    path = tiny / "model.safetensors"
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    assert refusal(tiny).startswith("model.safetensors is damaged (")


@pytest.mark.parametrize("content", [b"?" * 200, b"\x80\x02ctorch", b"PK\3\4" + bytes(100)])
def test_a_file_of_something_else(content: bytes, tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    assert refusal(tiny).startswith("model.safetensors is damaged (")


NO_WEIGHT_MAP = f"{INDEX} is damaged: it has no weight_map"
INDEX_LIES: dict[str, tuple[Any, str]] = {
    "nothing": (..., NO_WEIGHT_MAP),
    "null": (None, NO_WEIGHT_MAP),
    "a list": (["model-00001-of-00002.safetensors"], NO_WEIGHT_MAP),
    "a number for a shard": ({"a": 1}, NO_WEIGHT_MAP),
    "null for a shard": ({"a": None}, NO_WEIGHT_MAP),
    "a list for a shard": ({"a": ["b"]}, NO_WEIGHT_MAP),
    "empty": ({}, NO_WEIGHT_MAP),
    "a shard that is not there": (
        {"a": "model-00003-of-00002.safetensors"},
        "cannot read model-00003-of-00002.safetensors: No such file or directory",
    ),
    "a shard elsewhere": ({"a": "/etc/passwd"}, "cannot read passwd: No such file or directory"),
    "a shard above": ({"a": "../../x"}, "cannot read x: No such file or directory"),
    "no name": ({"a": ""}, "cannot read DIR: Is a directory"),
    "the directory above": ({"a": ".."}, "cannot read ..: Is a directory"),
    "a shard that is none": ({"a": "config.json"}, "config.json is damaged ("),
    "a name with a zero": ({"a": "x\0y"}, INDEX),
    "a name that is no text": ({"a": "\ud800"}, INDEX),
    "a name too long": ({"a": "x" * 5000}, "cannot read xxx"),
}


@pytest.mark.parametrize("name", INDEX_LIES)
def test_an_index_that_lies(name: str, tmp_path: Path) -> None:
    shards, said = INDEX_LIES[name]
    directory = write_tiny(tmp_path / "model", shards=2)
    rewrite(directory / INDEX, weight_map=shards)
    assert refusal(directory).startswith(said)


def test_a_shard_that_is_gone(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=3)
    (directory / "model-00002-of-00003.safetensors").unlink()
    said = "cannot read model-00002-of-00003.safetensors: No such file or directory"
    assert refusal(directory) == said


def test_an_index_that_forgets_a_shard(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=3)
    shards = json.loads((directory / INDEX).read_text())["weight_map"]
    kept = {name: shard for name, shard in shards.items() if "00002-of" not in shard}
    rewrite(directory / INDEX, weight_map=kept)
    assert "has no " in refusal(directory)


def test_a_checkpoint_cut_short(tmp_path: Path) -> None:
    """What else may be wrong with one is for its own tests."""
    directory = write_google(tmp_path / "google")
    data = directory / "bert_model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    assert refusal(directory, cased=False).startswith(f"{data.name} is cut short: it ends before")
    data.unlink()
    said = f"cannot read {data.name}: No such file or directory"
    assert refusal(directory, cased=False) == said
    (directory / "bert_model.ckpt.index").unlink()
    said = "cannot read bert_model.ckpt.index: No such file or directory"
    assert refusal(directory, cased=False) == said
