"""Tokenizers of Japanese BERTs, for words that count as those of MeCab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.errors import CasedRefusedError, ModelError
from bert_tokemb.tokenization.files import read_tokenizer
from bert_tokemb.tokenization.japanese import JapaneseTokenizer

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PIECES = (*SPECIAL, "東京", "京", "東", "都", "##都", "は", "カ", "##タ", "abc", "ab", "a")
MECAB = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}


def split(directory: Path, line: str, **settings: Any) -> list[list[str]]:
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES), "utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps({**MECAB, **settings}))
    tokenizer = read_tokenizer(directory)
    assert isinstance(tokenizer, JapaneseTokenizer)
    tokens = tokenizer.tokenize(line.split())
    assert not tokens.shared
    return [[tokenizer.piece(i) for i in own] for own in tokens.pieces]


@pytest.mark.parametrize(
    ("settings", "line", "pieces"),
    [
        # Ideographs are not separated, unlike in BERT's own tokenizer.
        ({}, "東京都 は 東京", [["東京", "##都"], ["は"], ["東京"]]),
        ({"subword_tokenizer_type": "wordpiece"}, "京都", [["京", "##都"]]),
        ({"subword_tokenizer_type": "character"}, "東京都 は", [["東", "京", "都"], ["は"]]),
        ({"subword_tokenizer_type": "character"}, "京☃", [["京", "[UNK]"]]),
        ({}, "京☃ abc", [["[UNK]"], ["abc"]]),
        # Compatibility characters are normalized, and may become several parts.
        ({}, "ｶﾀ ＡＢＣ", [["カ", "##タ"], ["[UNK]"]]),
        ({"mecab_kwargs": {"normalize_text": False}}, "ｶﾀ", [["[UNK]"]]),
        ({}, "a\u00b4", [["a", "[UNK]"]]),
        ({"do_lower_case": True}, "ABC ＡＢ", [["abc"], ["ab"]]),
        ({"do_lower_case": False}, "ABC", [["[UNK]"]]),
        ({}, "a" * 101, [["[UNK]"]]),
    ],
)
def test_words_count_as_those_of_mecab(
    settings: dict[str, Any], line: str, pieces: list[list[str]], tmp_path: Path
) -> None:
    assert split(tmp_path, line, **settings) == pieces


@pytest.mark.parametrize("subwords", ["sentencepiece", 7])
def test_other_subwords_are_refused(subwords: object, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        split(tmp_path, "a", subword_tokenizer_type=subwords)
    assert str(caught.value) == (
        f"{tmp_path}/tokenizer_config.json has subword_tokenizer_type {subwords!r}, which is not "
        "supported (supported: wordpiece, character)"
    )


def test_settings_name_mecab(tmp_path: Path) -> None:
    split(tmp_path, "a", subword_tokenizer_type="character", do_lower_case=True)
    assert read_tokenizer(tmp_path).settings == {
        "tokenizer": "MeCab, character",
        "do_lower_case": True,
    }


def test_cased_is_refused(tmp_path: Path) -> None:
    split(tmp_path, "a")
    with pytest.raises(CasedRefusedError, match="is the tokenizer of a model .MeCab. that decides"):
        read_tokenizer(tmp_path, cased=True)


def test_vocabulary_without_special_tokens_is_refused(tmp_path: Path) -> None:
    split(tmp_path, "a")
    (tmp_path / "vocab.txt").write_text("a\n")
    with pytest.raises(ModelError, match="it lacks .CLS., .SEP., .UNK."):
        read_tokenizer(tmp_path)
