"""The ``tokenizer.json`` of a BERT model, and those of others, which are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.tokenization.tokenizer_json import read_tokenizer
from support.models import tokenizer_json
from support.tiny import PIECE_IDS, VOCABULARY

Json = dict[str, Any]


def changed(**parts: Any) -> Json:
    """Return a ``tokenizer.json`` with changed fields in its parts, or other parts."""
    content = tokenizer_json(VOCABULARY)
    for name, fields in parts.items():
        content[name] = {**content[name], **fields} if isinstance(fields, dict) else fields
    return content


NO_VOCABULARY = "is damaged: its model has no valid vocabulary"
NO_PART = "is not the tokenizer of a BERT model: its "


def unsupported(part: str, key: str, found: object, supported: object) -> str:
    return (
        f"is not supported: the {key} of its {part} is {found!r}, but must be {supported!r} as in "
        "BERT's own tokenizer"
    )


REFUSED: dict[str, tuple[Json, str]] = {
    **{
        f"{kind} model": (
            changed(model={"type": kind}),
            unsupported("model", "type", kind, "WordPiece"),
        )
        for kind in ("BPE", "Unigram", "WordLevel")
    },
    "no parts": ({}, f"{NO_PART}model is None"),
    "no model": (changed(model=None), f"{NO_PART}model is None"),
    "model is a string": (changed(model="x"), f"{NO_PART}model is 'x'"),
    "no normalizer": (changed(normalizer=None), f"{NO_PART}normalizer is None"),
    "normalizer is a list": (changed(normalizer=[1]), f"{NO_PART}normalizer is [1]"),
    "no pre-tokenizer": (changed(pre_tokenizer=None), f"{NO_PART}pre_tokenizer is None"),
    "no vocabulary": (changed(model={"vocab": None}), NO_VOCABULARY),
    "vocabulary is a list": (changed(model={"vocab": list(VOCABULARY)}), NO_VOCABULARY),
    "id is a string": (changed(model={"vocab": {**PIECE_IDS, "a": "7"}}), NO_VOCABULARY),
    "id is a fraction": (changed(model={"vocab": {**PIECE_IDS, "a": 7.5}}), NO_VOCABULARY),
    "id is true": (changed(model={"vocab": {**PIECE_IDS, "a": True}}), NO_VOCABULARY),
    "id is negative": (changed(model={"vocab": {**PIECE_IDS, "a": -1}}), NO_VOCABULARY),
    "piece is a lone surrogate": (
        changed(model={"vocab": {**PIECE_IDS, "\ud800": 7}}),
        "is damaged: a piece is not valid text: 'utf-8' codec can't encode character '\\ud800'",
    ),
    "other continuation mark": (
        changed(model={"continuing_subword_prefix": "@@"}),
        unsupported("model", "continuing_subword_prefix", "@@", "##"),
    ),
    "other unknown token": (
        changed(model={"unk_token": "a"}),
        unsupported("model", "unk_token", "a", "[UNK]"),
    ),
    "other limit of characters": (
        changed(model={"max_input_chars_per_word": 5}),
        unsupported("model", "max_input_chars_per_word", 5, 100),
    ),
    **{
        f"{kind} normalizer": (
            changed(normalizer={"type": kind}),
            unsupported("normalizer", "type", kind, "BertNormalizer"),
        )
        for kind in ("Lowercase", "NFC", "Sequence", None)
    },
    "no cleaning": (
        changed(normalizer={"clean_text": False}),
        unsupported("normalizer", "clean_text", False, True),
    ),
    "ideographs not separated": (
        changed(normalizer={"handle_chinese_chars": False}),
        unsupported("normalizer", "handle_chinese_chars", False, True),
    ),
    "other pre-tokenizer": (
        changed(pre_tokenizer={"type": "Whitespace"}),
        unsupported("pre_tokenizer", "type", "Whitespace", "BertPreTokenizer"),
    ),
    "lowercase is a string": (
        changed(normalizer={"lowercase": "no"}),
        "is damaged: lowercase is 'no'",
    ),
    "strip_accents is a number": (
        changed(normalizer={"strip_accents": 0}),
        "is damaged: strip_accents is 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_or_damaged_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    content, message = REFUSED[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        read_tokenizer(path)
    assert str(caught.value).startswith(f"{path} {message}")


def test_omitted_settings_have_the_values_of_bert(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(
        json.dumps({"model": {"vocab": PIECE_IDS}, "normalizer": {}, "pre_tokenizer": {}})
    )
    tokenizer = read_tokenizer(path)
    assert (tokenizer.ids, tokenizer.do_lower_case) == (PIECE_IDS, True)
    assert tokenizer.strip_accents is None
