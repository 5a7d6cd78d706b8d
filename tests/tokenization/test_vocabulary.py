"""Vocabularies, tokenizer settings, and whether a model is cased."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.errors import CasedUnknownError, ModelError
from bert_tokemb.tokenization.files import read_tokenizer
from bert_tokemb.tokenization.vocabulary import Vocabulary, read_google_vocabulary
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.models import minilm_vocabulary, tokenizer_json
from support.tiny import CASED_VOCABULARY, PIECE_IDS, VOCABULARY

Json = dict[str, Any]


def write_vocabulary(directory: Path, pieces: Sequence[str], end: str = "\n") -> Path:
    path = directory / "vocab.txt"
    path.write_bytes("".join(f"{piece}{end}" for piece in pieces).encode())
    return path


def write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content), "utf-8")


def read_vocabulary(directory: Path, cased: bool | None = None) -> Vocabulary:
    """Return the vocabulary of a directory in the layout of Hugging Face."""
    tokenizer = read_tokenizer(directory, cased)
    assert isinstance(tokenizer, PieceTokenizer)
    return tokenizer.vocabulary


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# --- vocab.txt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("rest", ["", "\n\n", "\n \n"])
def test_line_ends_and_trailing_lines_are_ignored(end: str, rest: str, tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path, VOCABULARY, end)
    path.write_bytes(path.read_bytes().rstrip() + rest.encode())
    assert read_vocabulary(tmp_path).ids == PIECE_IDS


def test_last_of_equal_pieces_wins(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, ["a", "[CLS]", "[SEP]", "[UNK]", "a"])
    assert read_vocabulary(tmp_path).ids["a"] == 4


LACKS = "vocab.txt is not the vocabulary of a BERT model: it lacks "
LACKS_ALL = f"{LACKS}[CLS], [SEP], [UNK]"
NOT_UTF8 = "vocab.txt is damaged: 'utf-8' codec can't decode byte "


@pytest.mark.parametrize("layout", ["Hugging Face", "Google"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", LACKS_ALL, id="empty"),
        pytest.param(b"\n\n\n", LACKS_ALL, id="blank lines"),
        pytest.param(b"<s>\n</s>\n<unk>\n", LACKS_ALL, id="other special tokens"),
        pytest.param(b"[CLS]\n[SEP]\na\n", f"{LACKS}[UNK]", id="no [UNK]"),
        pytest.param(b"[cls]\n[SEP]\n[UNK]\n", f"{LACKS}[CLS]", id="lower case"),
        pytest.param(b"[PAD] [UNK] [CLS] [SEP]\n", LACKS_ALL, id="one line"),
        pytest.param(b"[CLS]\t0\n[SEP]\t1\n[UNK]\t2\n", LACKS_ALL, id="with ids"),
        pytest.param(bytes(100), LACKS_ALL, id="zeros"),
        pytest.param(
            b"[CLS]\n[SEP]\n[UNK]\n\xe4\n",
            f"{NOT_UTF8}0xe4 in position 18: invalid continuation byte",
            id="Latin-1",
        ),
        pytest.param(
            "[CLS]\n[SEP]\n[UNK]".encode("utf-16"),
            f"{NOT_UTF8}0xff in position 0: invalid start byte",
            id="UTF-16",
        ),
    ],
)
def test_invalid_vocabulary_is_refused(
    content: bytes, message: str, layout: str, tmp_path: Path
) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        read_google_vocabulary(path) if layout == "Google" else read_vocabulary(tmp_path)
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_missing_vocabulary_of_hugging_face_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        read_vocabulary(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} has no tokenizer: neither tokenizer.json nor vocab.txt"
    )


def test_missing_vocabulary_of_google_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    with pytest.raises(ModelError) as caught:
        read_google_vocabulary(path)
    assert str(caught.value) == f"cannot read {path}: No such file or directory"


# --- tokenizer_config.json ----------------------------------------------------------------------


BAD_SETTINGS: list[tuple[Json, str]] = [
    *(
        (
            {"tokenizer_class": name},
            f"names a {name}, but there is no tokenizer.json: write one by ",
        )
        for name in ("RobertaTokenizer", "XLMRobertaTokenizerFast", "BertJapaneseTokenizer")
    ),
    ({"tokenizer_class": ["x"]}, "names a ['x'], but there is no tokenizer.json: write one by "),
    (
        {"tokenize_chinese_chars": False},
        "has tokenize_chinese_chars false, but there is no tokenizer.json: write one by ",
    ),
    *(
        ({name: value}, f"is damaged: {name} is {value!r}")
        for name in ("do_lower_case", "strip_accents")
        for value in ("false", "", 0, 1.0, [], {})
    ),
    ({"do_lower_case": None}, "is damaged: do_lower_case is None"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_unsupported_tokenizer_settings_are_refused(
    settings: Json, message: str, tmp_path: Path
) -> None:
    write_vocabulary(tmp_path, VOCABULARY)
    write_json(tmp_path / "tokenizer_config.json", settings)
    with pytest.raises(ModelError) as caught:
        read_vocabulary(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/tokenizer_config.json {message}")


@pytest.mark.parametrize(
    "name",
    ["BertTokenizer", "BertTokenizerFast", "ElectraTokenizer", "PreTrainedTokenizerFast", None],
)
def test_tokenizer_settings_of_bert_are_accepted(name: str | None, tmp_path: Path) -> None:
    write_vocabulary(tmp_path, VOCABULARY)
    settings = {"tokenizer_class": name, "tokenize_chinese_chars": True, "never_split": None}
    write_json(tmp_path / "tokenizer_config.json", settings)
    assert read_vocabulary(tmp_path).ids == PIECE_IDS


def test_settings_of_sentence_transformers_are_ignored(tmp_path: Path) -> None:
    write_vocabulary(tmp_path, VOCABULARY)
    settings = {"max_seq_length": 3, "do_lower_case": False}
    write_json(tmp_path / "sentence_bert_config.json", settings)
    assert read_vocabulary(tmp_path).do_lower_case


NORMALIZATION: list[tuple[Json | None, Json | None, bool | None, tuple[bool, bool]]] = [
    # tokenizer_config.json; normalizer of tokenizer.json; argument cased; do_lower_case and
    # strip_accents.
    (None, None, None, (True, True)),
    ({}, None, None, (True, True)),
    ({"do_lower_case": True}, None, None, (True, True)),
    ({"do_lower_case": False}, None, None, (False, False)),
    ({"do_lower_case": True, "strip_accents": None}, None, None, (True, True)),
    ({"do_lower_case": True, "strip_accents": False}, None, None, (True, False)),
    ({"do_lower_case": False, "strip_accents": True}, None, None, (False, True)),
    ({"strip_accents": False}, None, None, (True, False)),
    (None, {"lowercase": True}, None, (True, True)),
    (None, {"lowercase": False}, None, (False, False)),
    (None, {"lowercase": True, "strip_accents": False}, None, (True, False)),
    (None, {"lowercase": False, "strip_accents": True}, None, (False, True)),
    ({}, {"lowercase": False}, None, (False, False)),
    ({"do_lower_case": False}, {"lowercase": True}, None, (False, False)),
    ({"do_lower_case": True}, {"lowercase": False}, None, (True, True)),
    (None, None, True, (False, False)),
    (None, None, False, (True, True)),
    ({"do_lower_case": True}, None, True, (False, False)),
    ({"do_lower_case": False}, None, False, (True, True)),
    (None, {"lowercase": True}, True, (False, False)),
    ({"do_lower_case": True, "strip_accents": False}, None, False, (True, False)),
]


@pytest.mark.parametrize("has_vocab_txt", [True, False])
@pytest.mark.parametrize(("settings", "normalizer", "cased", "expected"), NORMALIZATION)
def test_normalization_follows_argument_then_settings_then_tokenizer(
    settings: Json | None,
    normalizer: Json | None,
    cased: bool | None,
    expected: tuple[bool, bool],
    has_vocab_txt: bool,
    tmp_path: Path,
) -> None:
    if has_vocab_txt:
        write_vocabulary(tmp_path, VOCABULARY)
    if settings is not None:
        write_json(tmp_path / "tokenizer_config.json", settings)
    if normalizer is not None or not has_vocab_txt:
        content = tokenizer_json(VOCABULARY, **(normalizer or {}))
        write_json(tmp_path / "tokenizer.json", content)
    vocabulary = read_vocabulary(tmp_path, cased)
    assert (vocabulary.do_lower_case, vocabulary.strip_accents) == expected
    assert vocabulary.ids == PIECE_IDS


# --- Cased or uncased ---------------------------------------------------------------------------


def test_google_vocabulary_is_assumed_to_be_uncased(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary = read_google_vocabulary(write_vocabulary(tmp_path, VOCABULARY))
    assert (vocabulary.do_lower_case, vocabulary.strip_accents) == (True, True)
    (message,) = logged(caplog)
    assert message == (
        f"{tmp_path} does not say whether the model is cased; lower-casing words on the assumption "
        "that it is not"
    )
    (record,) = caplog.records
    assert (record.levelno, record.assumed) == (logging.WARNING, "uncased")


@pytest.mark.parametrize("pieces", [VOCABULARY, CASED_VOCABULARY])
@pytest.mark.parametrize("cased", [True, False])
def test_argument_cased_decides_without_warning(
    cased: bool, pieces: Sequence[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vocabulary = read_google_vocabulary(write_vocabulary(tmp_path, pieces), cased)
    assert (vocabulary.do_lower_case, vocabulary.strip_accents) == (not cased, not cased)
    assert not logged(caplog)


@pytest.mark.parametrize("piece", ["Hello", "##Ing", "É", "iPhone", "[a]B", "Я", "[B", "C]", "Ａ"])
def test_google_vocabulary_with_capital_letters_needs_argument_cased(
    piece: str, tmp_path: Path
) -> None:
    path = write_vocabulary(tmp_path, [*VOCABULARY, piece])
    with pytest.raises(CasedUnknownError) as caught:
        read_google_vocabulary(path)
    assert str(caught.value) == (
        f"{path} has pieces with capital letters ({piece!r}), so the model seems to be cased, but "
        "nothing in its directory says so"
    )


@pytest.mark.parametrize("piece", ["[unused1]", "[MASK]", "[NEW]", "ß", "ı", "東", "[", "]", "[]"])
def test_special_tokens_and_caseless_letters_are_not_capitals(piece: str, tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path, [*VOCABULARY, piece])
    assert read_google_vocabulary(path).do_lower_case


def test_vocabulary_of_default_model_is_not_taken_for_cased(tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path, minilm_vocabulary())
    assert read_google_vocabulary(path).do_lower_case


def test_hugging_face_vocabulary_is_read_without_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_vocabulary(tmp_path, VOCABULARY)
    read_vocabulary(tmp_path)
    assert not logged(caplog)
