"""The reference of the Python API names what the package exports."""

from __future__ import annotations

import inspect
import re

import pytest

import bert_tokemb
from bert_tokemb import errors
from bert_tokemb.types import Tally
from support.pages import blocks, read

PAGE = "docs/python-api.md"


@pytest.mark.parametrize("name", ["embed", "open_local", "ServerEncoder"])
def test_signature_is_documented(name: str) -> None:
    (shown,) = (block.text for block in blocks(PAGE, "text") if block.text.startswith(name))
    namespace: dict[str, object] = {}
    exec(f"def {shown.strip()}: ...", namespace)  # noqa: S102
    documented = inspect.signature(namespace[name]).parameters.values()
    actual = inspect.signature(getattr(bert_tokemb, name)).parameters.values()
    assert [(p.name, p.kind, p.default) for p in documented] == [
        (p.name, p.kind, p.default) for p in actual
    ]


def test_every_public_name_is_documented() -> None:
    table = read(PAGE).partition("exported by `bert_tokemb`")[2].partition("\n\nThe package")[0]
    assert set(re.findall(r"`(\w+)`", table)) == {*bert_tokemb.__all__}


def test_every_field_of_a_tally_is_documented() -> None:
    section = read(PAGE).partition("## Counts")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) | {"examples"} == {
        *Tally.__dataclass_fields__
    }


def test_documented_errors_exist() -> None:
    section = read(PAGE).partition("## Errors")[2]
    for name in re.findall(r"^\| `(\w+)`", section, re.MULTILINE):
        assert issubclass(getattr(errors, name), errors.TokembError)
