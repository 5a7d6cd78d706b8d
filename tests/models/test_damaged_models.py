"""A damaged model is either used or refused with one sentence, never a traceback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.damage import ODD_VALUES, places
from support.models import (
    INDEX,
    TINY,
    join_safetensors,
    split_safetensors,
    tokenizer_json,
    write_hugging_face,
)
from support.tiny import VOCABULARY, used_or_refused

FILES = (
    *("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json", INDEX),
    "model-00001-of-00002.safetensors",
)

number_of_examples = pytest.mark.parametrize(
    "examples", [60, pytest.param(400, marks=pytest.mark.slow)]
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with every kind of file."""
    config = {**TINY, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    directory = write_hugging_face(
        tmp_path_factory.mktemp("damaged") / "model",
        config,
        VOCABULARY,
        shards=2,
        settings={"do_lower_case": True, "strip_accents": None, "tokenizer_class": "BertTokenizer"},
    )
    (directory / "tokenizer.json").write_text(json.dumps(tokenizer_json(VOCABULARY)))
    return directory


@contextmanager
def restored(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, and write it back at the end."""
    content = path.read_bytes()
    try:
        yield content
    finally:
        path.write_bytes(content)


def check(examples: int, damage: Callable[..., None], *strategies: Any) -> None:
    """Call a function with so many random arguments."""
    settings(max_examples=examples)(given(*strategies)(damage))()


@number_of_examples
def test_replaced_bytes_are_used_or_refused(model: Path, examples: int) -> None:
    def damage(name: str, part: float, put: bytes, taken: int) -> None:
        with restored(model / name) as content:
            at = int(part**3 * len(content))  # mostly near the beginning
            (model / name).write_bytes(content[:at] + put + content[at + taken :])
            used_or_refused(model)

    strategies = (st.sampled_from(FILES), st.floats(0, 1), st.binary(max_size=6), st.integers(0, 6))
    check(examples, damage, *strategies)


@number_of_examples
def test_truncated_files_are_used_or_refused(model: Path, examples: int) -> None:
    def damage(name: str, part: float) -> None:
        with restored(model / name) as content:
            (model / name).write_bytes(content[: int(part**3 * len(content))])
            used_or_refused(model)

    check(examples, damage, st.sampled_from(FILES), st.floats(0, 1))


@number_of_examples
def test_random_bytes_are_used_or_refused(model: Path, examples: int) -> None:
    def damage(name: str, content: bytes) -> None:
        with restored(model / name):
            (model / name).write_bytes(content)
            used_or_refused(model)

    check(examples, damage, st.sampled_from(FILES), st.binary(max_size=200))


@number_of_examples
def test_replaced_json_values_are_used_or_refused(model: Path, examples: int) -> None:
    def damage(data: st.DataObject) -> None:
        path = model / data.draw(st.sampled_from([name for name in FILES if "json" in name]))
        with restored(path) as content:
            root = {"root": json.loads(content)}
            place = ("root", *data.draw(st.sampled_from(list(places(root["root"])))))
            at: Any = root
            for name in place[:-1]:
                at = at[name]
            at[place[-1]] = copy.deepcopy(data.draw(st.sampled_from(ODD_VALUES)))
            path.write_text(json.dumps(root["root"]), "utf-8")
            used_or_refused(model)

    check(examples, damage, st.data())


@number_of_examples
def test_replaced_header_values_are_used_or_refused(model: Path, examples: int) -> None:
    def damage(data: st.DataObject) -> None:
        path = model / "model-00002-of-00002.safetensors"
        with restored(path):
            header, content = split_safetensors(path)
            name = data.draw(st.sampled_from(sorted(header)))
            place = data.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
            values = [*ODD_VALUES, [8], [8, 8], [0, 32], "F16"]
            header[name][place] = data.draw(st.sampled_from(values))
            path.write_bytes(join_safetensors(header, content))
            used_or_refused(model)

    check(examples, damage, st.data())
