"""Which files of a directory make its tokenizer, and which are refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from bert_tokemb.errors import CasedRefusedError, ModelError
from bert_tokemb.tokenization.files import read_tokenizer
from bert_tokemb.tokenization.library import LibraryTokenizer
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.models import tokenizer_json
from support.tiny import PIECE_IDS, VOCABULARY
from support.toys import toy


def write_json(directory: Path, name: str, content: dict[str, Any]) -> None:
    (directory / name).write_text(json.dumps(content))


def first_pieces(directory: Path, line: str) -> list[str]:
    tokenizer = read_tokenizer(directory)
    return [tokenizer.piece(i) for i in tokenizer.tokenize(line.split()).pieces[0]]


def test_tokenizer_json_wins_over_the_files_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(toy("Unigram like XLM-R"))
    for name in ("vocab.txt", "vocab.json", "sentencepiece.bpe.model"):
        (tmp_path / name).write_text("something else")
    assert read_tokenizer(tmp_path).settings["tokenizer"] == "Unigram"


@pytest.mark.parametrize(
    "name", ["spm.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "merges.txt"]
)
def test_other_files_are_to_be_converted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ModelError) as caught:
        read_tokenizer(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has {name}, but no tokenizer.json: write one by python -c 'from transformers "
        f'import AutoTokenizer as A; d = "{tmp_path}"; A.from_pretrained(d).save_pretrained(d)\', '
        "with transformers, sentencepiece and protobuf installed"
    )


def test_cased_is_refused_for_other_tokenizers(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(toy("byte-level BPE"))
    with pytest.raises(CasedRefusedError):
        read_tokenizer(tmp_path, cased=False)


@pytest.mark.parametrize("setting", [True, False, None])
@pytest.mark.parametrize("name", ["byte-level BPE", "byte-level BPE with prefix space"])
def test_add_prefix_space_is_that_of_the_settings(
    name: str, setting: bool | None, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(toy(name))
    write_json(tmp_path, "tokenizer_config.json", {"add_prefix_space": setting})
    expected = name.endswith("prefix space") if setting is None else setting
    library = Tokenizer.from_buffer(toy(name))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=expected)
    assert (
        first_pieces(tmp_path, "the fox") == library.encode("the", add_special_tokens=False).tokens
    )


@pytest.mark.parametrize("token", ["fox", {"content": "fox"}, None])
def test_token_with_a_role_is_text(token: object, tmp_path: Path) -> None:
    """Some files do not mark the special tokens around a sentence as special."""
    (tmp_path / "tokenizer.json").write_bytes(toy("byte-level BPE with digits"))
    write_json(tmp_path, "tokenizer_config.json", {"cls_token": token})
    assert (first_pieces(tmp_path, "xfoxx") == ["x", "fox", "x"]) == (token is None)


def test_special_tokens_of_bert_may_be_marked_by_their_role(tmp_path: Path) -> None:
    added = {"id": 2, "content": "[CLS]", "special": False, "single_word": False}
    added |= {"lstrip": False, "rstrip": False, "normalized": False}
    content = {**tokenizer_json(VOCABULARY), "added_tokens": [added]}
    write_json(tmp_path, "tokenizer.json", content)
    write_json(tmp_path, "tokenizer_config.json", {"cls_token": "[CLS]"})
    assert isinstance(read_tokenizer(tmp_path), PieceTokenizer)


def test_changed_setting_changes_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(toy("byte-level BPE"))
    digests = set()
    for setting in (True, False):
        write_json(tmp_path, "tokenizer_config.json", {"add_prefix_space": setting})
        digests.add(read_tokenizer(tmp_path).fingerprint["tokenizer"])
    assert len(digests) == 2


def test_settings_of_other_tokenizers_are_not_applied(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(toy("Unigram like XLM-R"))
    before = read_tokenizer(tmp_path).fingerprint
    settings = {"add_prefix_space": True, "do_lower_case": True, "tokenize_chinese_chars": True}
    write_json(tmp_path, "tokenizer_config.json", settings)
    assert read_tokenizer(tmp_path).fingerprint == before


@pytest.mark.parametrize(
    ("settings", "pieces"),
    [
        ({}, ["東", "京"]),
        ({"tokenize_chinese_chars": True}, ["東", "京"]),
        ({"tokenize_chinese_chars": False}, ["[UNK]"]),
    ],
)
def test_ideographs_are_separated_unless_the_settings_say_otherwise(
    settings: dict[str, bool], pieces: Sequence[str], tmp_path: Path
) -> None:
    write_json(tmp_path, "tokenizer.json", tokenizer_json(VOCABULARY))
    write_json(tmp_path, "tokenizer_config.json", settings)
    assert first_pieces(tmp_path, "東京") == pieces
    kind = LibraryTokenizer if pieces == ["[UNK]"] else PieceTokenizer
    assert isinstance(read_tokenizer(tmp_path), kind)


@pytest.mark.parametrize(
    ("lower", "pieces"), [(True, ["the"]), (False, ["[UNK]"]), (None, ["the"])]
)
def test_lower_case_of_the_settings_is_used_with_other_settings(
    lower: bool | None, pieces: Sequence[str], tmp_path: Path
) -> None:
    write_json(tmp_path, "tokenizer.json", tokenizer_json(VOCABULARY))
    settings = {"tokenize_chinese_chars": False, "strip_accents": None}
    if lower is not None:
        settings["do_lower_case"] = lower
    write_json(tmp_path, "tokenizer_config.json", settings)
    assert isinstance(read_tokenizer(tmp_path), LibraryTokenizer)
    assert first_pieces(tmp_path, "THE") == pieces


@pytest.mark.parametrize("token", ["a", {"content": "a", "lstrip": False}])
def test_special_tokens_of_a_vocabulary_are_those_of_the_settings(
    token: object, tmp_path: Path
) -> None:
    """MPNet has ``<s>`` and ``</s>`` around its pieces."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), "utf-8")
    settings = {"tokenizer_class": "MPNetTokenizer", "cls_token": token, "sep_token": "b"}
    write_json(tmp_path, "tokenizer_config.json", settings)
    tokenizer = read_tokenizer(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix) == ((PIECE_IDS["a"],), (PIECE_IDS["b"],))


def test_missing_special_token_of_the_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY), "utf-8")
    write_json(tmp_path, "tokenizer_config.json", {"cls_token": "<s>"})
    with pytest.raises(ModelError, match="is not the vocabulary of a BERT model: it lacks <s>"):
        read_tokenizer(tmp_path)
