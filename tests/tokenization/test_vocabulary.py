"""Vocabularies, tokenizers and their settings, and whether a model is cased."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb import embed
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.errors import ModelError
from bert_tokemb.tokenization.vocabulary import read_google_vocabulary, read_vocabulary
from support.checkpoints import write_google
from support.models import TINY, minilm_vocabulary, tokenizer_json, write_hugging_face
from support.tiny import CASED_VOCABULARY, PIECE_IDS, PIECES, VOCABULARY, refusal, start, write_tiny

Json = dict[str, Any]

# --- Vocabularies -----------------------------------------------------------------------------


def write_vocabulary(path: Path, pieces: Sequence[str], end: str = "\n") -> None:
    path.write_bytes("".join(f"{piece}{end}" for piece in pieces).encode())


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n"])
@pytest.mark.parametrize("rest", ["", "\n\n", "\n \n"])
def test_ends_of_lines(end: str, rest: str, tiny: Path) -> None:
    path = tiny / "vocab.txt"
    write_vocabulary(path, VOCABULARY, end)
    path.write_bytes(path.read_bytes().rstrip() + rest.encode())
    assert read_vocabulary(tiny).ids == {piece: i for i, piece in enumerate(VOCABULARY)}


NO_VOCABULARY = "vocab.txt is no vocabulary of a BERT: it has no "
BAD_VOCABULARIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", f"{NO_VOCABULARY}[CLS], [SEP], [UNK]"),
    "blank lines": (b"\n\n\n", f"{NO_VOCABULARY}[CLS], [SEP], [UNK]"),
    "other special pieces": (b"<s>\n</s>\n<unk>\n", f"{NO_VOCABULARY}[CLS], [SEP], [UNK]"),
    "no [UNK]": (b"[CLS]\n[SEP]\na\n", f"{NO_VOCABULARY}[UNK]"),
    "in small letters": (b"[cls]\n[SEP]\n[UNK]\n", f"{NO_VOCABULARY}[CLS]"),
    "in one line": (b"[PAD] [UNK] [CLS] [SEP]\n", f"{NO_VOCABULARY}[CLS], [SEP], [UNK]"),
    "with numbers": (b"[CLS]\t0\n[SEP]\t1\n[UNK]\t2\n", f"{NO_VOCABULARY}[CLS], [SEP], [UNK]"),
    "not UTF-8": (b"[CLS]\n[SEP]\n[UNK]\n\xe4\n", "vocab.txt is damaged: it is not UTF-8 ("),
    "UTF-16": ("[CLS]\n[SEP]\n[UNK]".encode("utf-16"), "vocab.txt is damaged: it is not UTF-8 ("),
    "zeros": (bytes(100), NO_VOCABULARY),
    "too large": (
        "".join(f"{piece}\n" for piece in [*VOCABULARY, "more"]).encode(),
        f"the vocabulary in DIR has {PIECES + 1} pieces, but the model only {PIECES}: they do not",
    ),
}


@pytest.mark.parametrize("layout", ["Hugging Face's", "Google's"])
@pytest.mark.parametrize("name", BAD_VOCABULARIES)
def test_bad_vocabularies(name: str, layout: str, tmp_path: Path) -> None:
    content, said = BAD_VOCABULARIES[name]
    make = write_google if layout == "Google's" else write_tiny
    directory = make(tmp_path / "model")
    (directory / "vocab.txt").write_bytes(content)
    assert refusal(directory, cased=False).startswith(said)


def test_a_vocabulary_cut_short_is_told(tiny: Path) -> None:
    """Most words would be unknown, and nobody would know why."""
    write_vocabulary(tiny / "vocab.txt", VOCABULARY[: PIECES // 2])
    assert "vocabulary" in refusal(tiny)


def test_a_model_may_have_a_few_pieces_more(tmp_path: Path) -> None:
    """As those have whose number of pieces was made a multiple of 8 or 64."""
    config = {**TINY, "vocab_size": (PIECES + 63) // 64 * 64}
    start(write_hugging_face(tmp_path / "model", config, VOCABULARY))


@pytest.mark.parametrize(("more", "fits"), [(128, True), (129, False)])
def test_how_many_more(more: int, fits: bool, tmp_path: Path) -> None:
    config = {**TINY, "vocab_size": PIECES + more}
    directory = write_hugging_face(tmp_path / "model", config, VOCABULARY)
    if fits:
        start(directory)
    else:
        assert "they do not belong together" in refusal(directory)


def test_neither_vocabulary(tiny: Path) -> None:
    (tiny / "vocab.txt").unlink()
    assert refusal(tiny) == (
        "DIR has neither vocab.txt nor tokenizer.json: only WordPiece models (BERT) are supported"
    )


def test_no_vocabulary_of_google(tmp_path: Path) -> None:
    directory = write_google(tmp_path / "google")
    (directory / "vocab.txt").unlink()
    assert refusal(directory) == "cannot read vocab.txt: No such file or directory"


def changed(**parts: Any) -> Json:
    """Return a `tokenizer.json` with other fields in its parts, or other parts."""
    found = tokenizer_json(VOCABULARY)
    for name, fields in parts.items():
        found[name] = {**found[name], **fields} if isinstance(fields, dict) else fields
    return found


NO_MODEL = "tokenizer.json is damaged: its model has no vocabulary"
BAD_TOKENIZERS: dict[str, tuple[Json, str]] = {
    **{
        f"a {kind} tokenizer": (
            changed(model={"type": kind}),
            f"tokenizer.json has a model with type '{kind}': only 'WordPiece' is supported",
        )
        for kind in ("BPE", "Unigram", "WordLevel")
    },
    "no model": (changed(model=None), "tokenizer.json is not a BERT's: its model is None"),
    "a model that is text": (
        changed(model="x"),
        "tokenizer.json is not a BERT's: its model is 'x'",
    ),
    "no vocabulary": (changed(model={"vocab": None}), NO_MODEL),
    "a list for a vocabulary": (changed(model={"vocab": list(VOCABULARY)}), NO_MODEL),
    "an id that is text": (changed(model={"vocab": {**PIECE_IDS, "a": "7"}}), NO_MODEL),
    "an id that is broken": (changed(model={"vocab": {**PIECE_IDS, "a": 7.5}}), NO_MODEL),
    "an id that is true": (changed(model={"vocab": {**PIECE_IDS, "a": True}}), NO_MODEL),
    "an id that is negative": (changed(model={"vocab": {**PIECE_IDS, "a": -1}}), NO_MODEL),
    "an id too large": (
        changed(model={"vocab": {**PIECE_IDS, "a": PIECES}}),
        f"the vocabulary in DIR has {PIECES + 1} pieces, but the model only {PIECES}",
    ),
    "an immense id": (
        changed(model={"vocab": {**PIECE_IDS, "a": 2**70}}),
        f"the vocabulary in DIR has {2**70 + 1} pieces, but the model only {PIECES}",
    ),
    "no special pieces": (
        changed(model={"vocab": {"a": 0}}),
        "tokenizer.json is no vocabulary of a BERT: it has no [CLS], [SEP], [UNK]",
    ),
    "empty": ({}, "tokenizer.json "),
    "a piece that is no text": (
        changed(model={"vocab": {**PIECE_IDS, "\ud800": 7}}),
        "tokenizer.json is damaged",
    ),
    "another mark": (
        changed(model={"continuing_subword_prefix": "@@"}),
        "tokenizer.json has a model with continuing_subword_prefix '@@': only '##' is supported",
    ),
    "another unknown piece": (changed(model={"unk_token": "a"}), "tokenizer.json "),
    "another limit of a word": (
        changed(model={"max_input_chars_per_word": 5}),
        "tokenizer.json ",
    ),
    **{
        f"normalised by {kind}": (
            changed(normalizer={"type": kind}),
            f"tokenizer.json has a normalizer with type {kind!r}: only 'BertNormalizer' is",
        )
        for kind in ("Lowercase", "NFC", "Sequence", None)
    },
    "not normalised": (
        changed(normalizer=None),
        "tokenizer.json is not a BERT's: its normalizer is None",
    ),
    "a normaliser that is a list": (
        changed(normalizer=[1]),
        "tokenizer.json is not a BERT's: its normalizer is [1]",
    ),
    "not cleaned": (changed(normalizer={"clean_text": False}), "tokenizer.json "),
    "ideographs together": (
        changed(normalizer={"handle_chinese_chars": False}),
        "tokenizer.json has a normalizer with handle_chinese_chars False: only True is supported",
    ),
    "split otherwise": (changed(pre_tokenizer={"type": "Whitespace"}), "tokenizer.json "),
    "lowercase that is text": (changed(normalizer={"lowercase": "no"}), "tokenizer.json "),
    "strip_accents that is a number": (changed(normalizer={"strip_accents": 0}), "tokenizer.json "),
}


@pytest.mark.parametrize("name", BAD_TOKENIZERS)
def test_bad_tokenizers(name: str, tiny: Path) -> None:
    content, said = BAD_TOKENIZERS[name]
    (tiny / "vocab.txt").unlink()
    (tiny / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        LocalEncoder(start(tiny))
    assert str(caught.value).replace(f"{tiny}/", "").replace(str(tiny), "DIR").startswith(said)


BAD_SETTINGS: dict[str, tuple[Json, str]] = {
    **{
        kind: ({"tokenizer_class": kind}, f"names a {kind}: only WordPiece models (BERT) are")
        for kind in ("RobertaTokenizer", "XLMRobertaTokenizerFast", "BertJapaneseTokenizer")
    },
    "a class that is a list": ({"tokenizer_class": ["x"]}, "names a ['x']: only WordPiece models"),
    "ideographs together": (
        {"tokenize_chinese_chars": False},
        "says tokenize_chinese_chars: false, but only tokenizers that part ideographs are",
    ),
    **{
        f"{name} {value!r}": ({name: value}, f"is damaged: {name} is {value!r}")
        for name in ("do_lower_case", "strip_accents")
        for value in ("false", "", 0, 1.0, [], {})
    },
    "do_lower_case None": ({"do_lower_case": None}, "is damaged: do_lower_case is None"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_settings(name: str, tiny: Path) -> None:
    content, said = BAD_SETTINGS[name]
    (tiny / "tokenizer_config.json").write_text(json.dumps(content))
    assert refusal(tiny).startswith(f"tokenizer_config.json {said}")


@pytest.mark.parametrize(
    "kind", ["BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None]
)
def test_settings_of_a_bert(kind: str | None, tiny: Path) -> None:
    settings = {"tokenizer_class": kind, "tokenize_chinese_chars": True, "never_split": None}
    (tiny / "tokenizer_config.json").write_text(json.dumps(settings))
    start(tiny)


FOLDING: list[tuple[Json | None, Json | None, bool | None, tuple[bool, bool]]] = [
    # What the settings say, what the normaliser says, what the user says: lower, strip.
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


@pytest.mark.parametrize("vocab_txt", [True, False])
@pytest.mark.parametrize(("said", "normalizer", "cased", "folded"), FOLDING)
def test_folding(
    said: Json | None,
    normalizer: Json | None,
    cased: bool | None,
    folded: tuple[bool, bool],
    vocab_txt: bool,
    tiny: Path,
) -> None:
    if said is not None:
        (tiny / "tokenizer_config.json").write_text(json.dumps(said))
    if normalizer is not None or not vocab_txt:
        tokenizer = tokenizer_json(VOCABULARY, **(normalizer or {}))
        (tiny / "tokenizer.json").write_text(json.dumps(tokenizer))
    if not vocab_txt:
        (tiny / "vocab.txt").unlink()
    found = read_vocabulary(tiny, cased)
    assert (found.do_lower_case, found.strip_accents) == folded
    assert found.ids == PIECE_IDS


def test_settings_of_sentence_vectors_are_not_ours(tiny: Path) -> None:
    settings = {"max_seq_length": 3, "do_lower_case": False}
    (tiny / "sentence_bert_config.json").write_text(json.dumps(settings))
    assert read_vocabulary(tiny).do_lower_case
    with LocalEncoder(start(tiny)) as encoder:
        assert next(embed(["a " * 62], encoder)).shape == (62, 32)


def test_truncation_and_padding_are_not_ours(tiny: Path) -> None:
    """The toy `tokenizer.json` cuts after 3 pieces, and pads to 128."""
    (tiny / "vocab.txt").unlink()
    (tiny / "tokenizer.json").write_text(json.dumps(tokenizer_json(VOCABULARY)))
    with LocalEncoder(start(tiny)) as encoder:
        assert next(embed(["hello world " * 20], encoder)).shape == (40, 32)


# --- Is a model of Google's cased? ------------------------------------------------------------


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_lower_case_unless_told_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = write_google(tmp_path / "google")
    found = read_google_vocabulary(directory / "vocab.txt")
    assert (found.do_lower_case, found.strip_accents) == (True, True)
    assert logged(caplog) == [
        (
            f"{directory} does not tell whether the model is cased; words are lower-cased (--cased "
            "would keep them)"
        )
    ]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("vocabulary", [VOCABULARY, CASED_VOCABULARY])
@pytest.mark.parametrize("cased", [True, False])
def test_the_user_knows(
    cased: bool, vocabulary: Sequence[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_vocabulary(tmp_path / "vocab.txt", vocabulary)
    found = read_google_vocabulary(tmp_path / "vocab.txt", cased)
    assert (found.do_lower_case, found.strip_accents) == (not cased, not cased)
    assert not logged(caplog)


@pytest.mark.parametrize("piece", ["Hello", "##Ing", "É", "iPhone", "[a]B", "Я", "[B", "C]", "Ａ"])
def test_pieces_with_capitals(piece: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    write_vocabulary(path, [*VOCABULARY, piece])
    with pytest.raises(ModelError) as caught:
        read_google_vocabulary(path)
    assert str(caught.value) == (
        f"{path} holds pieces with capitals ({piece!r}), so the model seems to be cased, but "
        "nothing in its directory says so: give --cased, or --uncased"
    )


@pytest.mark.parametrize("piece", ["[unused1]", "[MASK]", "[NEW]", "ß", "ı", "東", "[", "]", "[]"])
def test_pieces_without_capitals(piece: str, tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "vocab.txt", [*VOCABULARY, piece])
    read_google_vocabulary(tmp_path / "vocab.txt")


def test_a_real_vocabulary_is_not_taken_for_cased(tmp_path: Path) -> None:
    write_vocabulary(tmp_path / "vocab.txt", minilm_vocabulary())
    assert read_google_vocabulary(tmp_path / "vocab.txt").do_lower_case


def test_hugging_face_says_it_itself(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    start(tiny)
    assert not logged(caplog)
