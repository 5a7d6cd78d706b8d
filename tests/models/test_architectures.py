"""The registry of architectures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bert_tokemb
from bert_tokemb.errors import ModelError
from bert_tokemb.models.architectures import ARCHITECTURES, bert, find_architecture

PACKAGE = Path(bert_tokemb.__file__).parent
CONFIG = Path("config.json")


def test_architecture_is_found_by_model_type() -> None:
    assert find_architecture(CONFIG, {"model_type": "bert"}) is bert


def test_googles_releases_have_no_model_type() -> None:
    assert find_architecture(CONFIG, {}) is bert


@pytest.mark.parametrize("model_type", ["gpt2", "BERT", "", None, 1, ["bert"]])
def test_unknown_model_type_is_refused(model_type: object) -> None:
    with pytest.raises(ModelError) as caught:
        find_architecture(CONFIG, {"model_type": model_type})
    assert str(caught.value) == (
        f"config.json has model_type {model_type!r}, which is not supported (supported: "
        f"{', '.join(ARCHITECTURES)})"
    )


def test_only_architecture_modules_name_architecture_details() -> None:
    """A new architecture must not change anything outside its own module."""
    own = re.compile(
        r"model_type\b|LayerNorm\.|encoder[./]layer[._]|word_embeddings|attention\.self"
    )
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "architectures":
            assert not own.search(path.read_text("utf-8")), path
