"""Damaged ``model.safetensors`` files, and damaged indices of shards."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.models import INDEX, join_safetensors, split_safetensors
from support.tiny import refusal, rewrite, write_tiny

Json = dict[str, Any]

DAMAGED = "model.safetensors is damaged, download it again: "


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("part", [0.0, 1e-5, 1e-4, 0.01, 0.03, 0.1, 0.5, 0.99, 0.99999])
def test_file_cut_short_is_refused(part: float, shards: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=shards)
    path = sorted(directory.glob("*.safetensors"))[-1]
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert refusal(directory).startswith(f"{path.name} is damaged, download it again: ")


def test_additional_bytes_are_refused(tiny: Path) -> None:
    with (tiny / "model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert refusal(tiny).startswith(DAMAGED)


@pytest.mark.parametrize("content", [b"?" * 200, b"\x80\x02ctorch", b"PK\3\4" + bytes(100)])
def test_file_of_another_format_is_refused(content: bytes, tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    assert refusal(tiny).startswith(DAMAGED)


def test_other_data_types_are_refused(tiny: Path) -> None:
    path, name = tiny / "model.safetensors", "embeddings.LayerNorm.weight"
    header, data = split_safetensors(path)
    for dtype, size in (("F64", 8), ("I8", 1), ("I64", 8), ("BOOL", 1), ("U16", 2), ("F8_E4M3", 1)):
        offsets = [len(data), len(data) + 32 * size]
        changed = {**header, name: {"dtype": dtype, "shape": [32], "data_offsets": offsets}}
        # The library refuses files with unused bytes.
        unused = {"dtype": "F32", "shape": [32], "data_offsets": header[name]["data_offsets"]}
        path.write_bytes(join_safetensors({**changed, "unused": unused}, data + bytes(32 * size)))
        assert refusal(tiny) == (
            f"model.safetensors holds {name} as {dtype}, which is not supported (supported: F32, "
            "F16, BF16)"
        )


BIAS = "encoder.layer.1.output.dense.bias"


def bias_with(**changes: Any) -> Callable[[Json], Json]:
    return lambda header: {**header, BIAS: {**header[BIAS], **changes}}


INVALID_HEADERS: dict[str, Callable[[Json], object]] = {
    "not JSON": lambda header: b"hello",
    "cut short": lambda header: json.dumps(header).encode()[:-10],
    "list": lambda header: [],
    "null": lambda header: None,
    "not UTF-8": lambda header: b'{"\xe4": 3}',
    "zeros": lambda header: bytes(100),
    "nested lists": lambda header: b"[" * 50_000,
    "empty object": lambda header: {},
    "tensor is a number": lambda header: {**header, BIAS: 3},
    "tensor is null": lambda header: {**header, BIAS: None},
    "tensor is empty": lambda header: {**header, BIAS: {}},
    "tensor is missing": lambda header: {name: header[name] for name in header if name != BIAS},
    "metadata is a number": lambda header: {**header, "__metadata__": 3},
    "unknown data type": bias_with(dtype="F33"),
    "data type of another size": bias_with(dtype="F16"),
    "data type is a number": bias_with(dtype=32),
    "shape too large": bias_with(shape=[33]),
    "shape too small": bias_with(shape=[31]),
    "immense shape": bias_with(shape=[2**62, 2**62]),
    "negative shape": bias_with(shape=[-32]),
    "shape is a string": bias_with(shape="32"),
    "fractional shape": bias_with(shape=[32.5]),
    "offsets after the end": bias_with(data_offsets=[10**9, 10**9 + 128]),
    "immense offsets": bias_with(data_offsets=[2**63, 2**63 + 128]),
    "negative offsets": bias_with(data_offsets=[-128, 0]),
    "offsets in descending order": bias_with(data_offsets=[128, 0]),
    "offsets of another tensor": bias_with(data_offsets=[0, 128]),
    "three offsets": bias_with(data_offsets=[0, 128, 256]),
}


@pytest.mark.parametrize("name", INVALID_HEADERS)
def test_invalid_header_is_refused(name: str, tiny: Path) -> None:
    path = tiny / "model.safetensors"
    header, data = split_safetensors(path)
    path.write_bytes(join_safetensors(INVALID_HEADERS[name](header), data))
    assert refusal(tiny).startswith(DAMAGED)


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1])
def test_wrong_header_length_is_refused(size: int, tiny: Path) -> None:
    path = tiny / "model.safetensors"
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])
    assert refusal(tiny).startswith(DAMAGED)


NO_WEIGHT_MAP = f"{INDEX} is damaged: it has no weight_map"
INVALID_WEIGHT_MAPS: dict[str, tuple[Any, str]] = {
    "missing": (..., NO_WEIGHT_MAP),
    "null": (None, NO_WEIGHT_MAP),
    "list": (["model-00001-of-00002.safetensors"], NO_WEIGHT_MAP),
    "empty": ({}, NO_WEIGHT_MAP),
    "shard is a number": ({"a": 1}, NO_WEIGHT_MAP),
    "shard is null": ({"a": None}, NO_WEIGHT_MAP),
    "shard is a list": ({"a": ["b"]}, NO_WEIGHT_MAP),
    "NUL in a name": ({"a": "x\0y"}, NO_WEIGHT_MAP),
    "surrogate in a name": ({"a": "\ud800"}, NO_WEIGHT_MAP),
    "missing shard": (
        {"a": "model-00003-of-00002.safetensors"},
        "cannot read model-00003-of-00002.safetensors: No such file or directory",
    ),
    "absolute path": ({"a": "/etc/passwd"}, "cannot read passwd: No such file or directory"),
    "path upwards": ({"a": "../../x"}, "cannot read x: No such file or directory"),
    "empty name": ({"a": ""}, "cannot read DIR: Is a directory"),
    "parent directory": ({"a": ".."}, "cannot read ..: Is a directory"),
    "not safetensors": ({"a": "config.json"}, "config.json is damaged, download it again: "),
    "name too long": ({"a": "x" * 5000}, "cannot read xxx"),
}


@pytest.mark.parametrize("name", INVALID_WEIGHT_MAPS)
def test_invalid_index_is_refused(name: str, tmp_path: Path) -> None:
    weight_map, message = INVALID_WEIGHT_MAPS[name]
    directory = write_tiny(tmp_path / "model", shards=2)
    rewrite(directory / INDEX, weight_map=weight_map)
    assert refusal(directory).startswith(message)


def test_missing_shard_is_refused(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=3)
    (directory / "model-00002-of-00003.safetensors").unlink()
    expected = "cannot read model-00002-of-00003.safetensors: No such file or directory"
    assert refusal(directory) == expected


def test_index_without_one_of_the_shards_is_refused(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", shards=3)
    weight_map = json.loads((directory / INDEX).read_text())["weight_map"]
    kept = {name: shard for name, shard in weight_map.items() if "00002-of" not in shard}
    rewrite(directory / INDEX, weight_map=kept)
    assert "has no tensor " in refusal(directory)
