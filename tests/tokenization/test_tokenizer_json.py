"""Which ``tokenizer.json`` is that of a BERT model, and which are damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.tokenization.files import read_tokenizer
from bert_tokemb.tokenization.library import LibraryTokenizer
from bert_tokemb.tokenization.tokenizer_json import is_bert, read_bert_tokenizer
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.models import tokenizer_json
from support.tiny import PIECE_IDS, VOCABULARY

Json = dict[str, Any]


def changed(**parts: Any) -> Json:
    """Return a ``tokenizer.json`` with changed fields in its parts, or other parts."""
    content = tokenizer_json(VOCABULARY)
    for name, fields in parts.items():
        content[name] = {**content.get(name, {}), **fields} if isinstance(fields, dict) else fields
    return content


NO_VOCABULARY = "is damaged: its model has no valid vocabulary"


DAMAGED: dict[str, tuple[Json, str]] = {
    "no parts": ({}, "is damaged: "),
    "no model": (changed(model=None), "is damaged: "),
    "model is a string": (changed(model="x"), "is damaged: "),
    "BPE without merges": (changed(model={"type": "BPE"}), "is damaged: "),
    "Unigram without scores": (changed(model={"type": "Unigram"}), "is damaged: "),
    "normalizer is a list": (changed(normalizer=[1]), "is damaged: "),
    "added token is a number": (changed(added_tokens=[7]), "is damaged: "),
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
    "lowercase is a string": (
        changed(normalizer={"lowercase": "no"}),
        "is damaged: lowercase is 'no'",
    ),
    "strip_accents is a number": (
        changed(normalizer={"strip_accents": 0}),
        "is damaged: strip_accents is 0",
    ),
    "no unknown piece": (
        changed(model={"unk_token": "<none>"}),
        "is damaged: its vocabulary has no unknown piece",
    ),
    "post_processor without type": (
        changed(post_processor={}),
        "is damaged: invalid post_processor: 'type'",
    ),
    "unknown post_processor": (
        changed(post_processor={"type": "Other"}),
        "has a post_processor 'Other', which is not supported",
    ),
    "post_processor without sentence": (
        changed(post_processor={"type": "TemplateProcessing", "single": [], "special_tokens": {}}),
        "is damaged: invalid post_processor: ",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_tokenizer_is_refused(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        read_tokenizer(tmp_path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_omitted_settings_have_the_values_of_bert(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    content = {"model": {"vocab": PIECE_IDS}, "normalizer": {}, "pre_tokenizer": {}}
    assert is_bert(path, content)
    tokenizer = read_bert_tokenizer(path, content)
    assert (tokenizer.ids, tokenizer.do_lower_case) == (PIECE_IDS, True)
    assert (tokenizer.strip_accents, tokenizer.special) == (None, None)


ADDED = {"content": "hank", "single_word": False, "lstrip": False, "rstrip": False}
ADDED = {**ADDED, "id": PIECE_IDS["hank"], "normalized": False}

LIKE_BERT: dict[str, Json] = {
    "as saved": changed(),
    "cased": changed(normalizer={"lowercase": False}),
    "special tokens": changed(added_tokens=[{**ADDED, "special": True}]),
    "BertProcessing": changed(
        post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    ),
    # As in MPNet: other special tokens around a sentence.
    "RobertaProcessing": changed(
        post_processor={
            "type": "RobertaProcessing",
            "sep": ["a", PIECE_IDS["a"]],
            "cls": ["b", PIECE_IDS["b"]],
            "trim_offsets": True,
            "add_prefix_space": False,
        }
    ),
}


@pytest.mark.parametrize("name", LIKE_BERT)
def test_tokenizers_like_that_of_bert_are_recognized(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(LIKE_BERT[name]))
    tokenizer = read_tokenizer(tmp_path)
    assert isinstance(tokenizer, PieceTokenizer)
    around = tokenizer.piece(tokenizer.cls) + tokenizer.piece(tokenizer.sep)
    assert around == ("ba" if name == "RobertaProcessing" else "[CLS][SEP]")


UNLIKE_BERT: dict[str, Json] = {
    "other normalizer": changed(normalizer={"type": "Lowercase"}),
    "no normalizer": changed(normalizer=None),
    "no cleaning": changed(normalizer={"clean_text": False}),
    "ideographs not separated": changed(normalizer={"handle_chinese_chars": False}),
    "other pre-tokenizer": changed(pre_tokenizer={"type": "Whitespace"}),
    "no pre-tokenizer": changed(pre_tokenizer=None),
    "other continuation mark": changed(model={"continuing_subword_prefix": "@@"}),
    "other unknown piece": changed(model={"unk_token": "a"}),
    "other limit of characters": changed(model={"max_input_chars_per_word": 5}),
    "added word": changed(added_tokens=[{**ADDED, "special": False}]),
    "two special tokens at the end": changed(
        post_processor={
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        }
    ),
}


@pytest.mark.parametrize("name", UNLIKE_BERT)
def test_other_word_pieces_are_left_to_the_library(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(UNLIKE_BERT[name]))
    tokenizer = read_tokenizer(tmp_path)
    assert isinstance(tokenizer, LibraryTokenizer)
    assert tokenizer.kind == "WordPiece"
    assert any(tokenizer.tokenize(["hank", "hanks"]).pieces)
