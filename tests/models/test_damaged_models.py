"""Whatever is wrong with a model: it is used, or refused by one sentence."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import (
    INDEX,
    TINY,
    join_safetensors,
    split_safetensors,
    tokenizer_json,
    write_hugging_face,
)
from support.tiny import VOCABULARY, used_or_refused


@contextmanager
def put_back(path: Path) -> Iterator[bytes]:
    content = path.read_bytes()
    try:
        yield content
    finally:
        path.write_bytes(content)


@pytest.fixture(scope="module")
def every_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model in shards, with every file that is read."""
    config = {**TINY, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    directory = write_hugging_face(
        tmp_path_factory.mktemp("every") / "model",
        config,
        VOCABULARY,
        shards=2,
        settings={"do_lower_case": True, "strip_accents": None, "tokenizer_class": "BertTokenizer"},
    )
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(VOCABULARY)))
    return directory


FILES = (
    *("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", INDEX),
    "model-00001-of-00002.safetensors",
)


@settings(max_examples=80)
@given(st.sampled_from(FILES), st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6))
def test_any_file_with_bytes_wrong(
    every_file: Path, name: str, part: float, put: bytes, taken: int
) -> None:
    with put_back(every_file / name) as content:
        at = int(part**3 * len(content))  # mostly where the beginning is
        (every_file / name).write_bytes(content[:at] + put + content[at + taken :])
        used_or_refused(every_file)


@settings(max_examples=40)
@given(st.sampled_from(FILES), st.floats(0, 1))
def test_any_file_cut_short(every_file: Path, name: str, part: float) -> None:
    with put_back(every_file / name) as content:
        (every_file / name).write_bytes(content[: int(part**3 * len(content))])
        used_or_refused(every_file)


@settings(max_examples=40)
@given(st.sampled_from(FILES), st.binary(max_size=200))
def test_any_file_of_random_bytes(every_file: Path, name: str, content: bytes) -> None:
    with put_back(every_file / name):
        (every_file / name).write_bytes(content)
        used_or_refused(every_file)


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**64, 10**400, 0.5, -0.0, 1e300, float("nan")),
    *("", "x", "false", "\ud800", "a\0b", "..", "/", "é" * 300, [], [1], ["x"], {}, {"a": 1}),
)


def places(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield where in a JSON value another could stand; of many alike, the first."""
    yield path
    if isinstance(value, dict):
        for name in list(value)[:12]:
            yield from places(value[name], (*path, name))


@settings(max_examples=150)
@given(st.data())
def test_any_value_of_any_json(every_file: Path, data: st.DataObject) -> None:
    path = every_file / data.draw(st.sampled_from([name for name in FILES if "json" in name]))
    with put_back(path) as content:
        found = json.loads(content)
        place = data.draw(st.sampled_from(list(places(found))))
        value = copy.deepcopy(data.draw(st.sampled_from(ODD_VALUES)))
        holder = {"all": found}
        at: Any = holder
        for name in ("all", *place)[:-1]:
            at = at[name]
        at[("all", *place)[-1]] = value
        path.write_text(json.dumps(holder["all"]), "utf-8")
        used_or_refused(every_file)


@settings(max_examples=60)
@given(st.data())
def test_any_value_of_a_header(every_file: Path, data: st.DataObject) -> None:
    path = every_file / "model-00002-of-00002.safetensors"
    with put_back(path):
        header, content = split_safetensors(path)
        name = data.draw(st.sampled_from(sorted(header)))
        place = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        header[name][place] = data.draw(st.sampled_from([*ODD_VALUES, [8], [8, 8], [0, 32], "F16"]))
        path.write_bytes(join_safetensors(header, content))
        used_or_refused(every_file)
