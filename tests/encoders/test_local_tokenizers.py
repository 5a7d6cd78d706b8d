"""The local encoder with tokenizers other than BERT's, on the graph of a BERT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_tokemb import LocalEncoder, Tally, embed, open_local
from bert_tokemb.errors import LongSentenceError, RefusedWordError, UsageError
from bert_tokemb.types import Sentence
from support.models import TINY
from support.texts import EXAMPLES
from support.tiny import refusal, run, start
from support.toys import ADDED, TOYS, toy, write_toy

WIDTH = TINY["hidden_size"]
PHRASE = "byte-level BPE with an added phrase"
XLMR = "Unigram like XLM-R"
NO_UNKNOWN = "BPE without unknown piece"


def template(*items: str) -> dict[str, object]:
    """Return a post-processor that puts special tokens around the sentence, ``$A``."""
    ids = {"<s>": 0, "</s>": 2}
    return {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}}
            if item == "$A"
            else {"SpecialToken": {"id": item, "type_id": 0}}
            for item in items
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {
            item: {"id": item, "ids": [ids[item]], "tokens": [item]} for item in ids
        },
    }


TEMPLATES = {
    "one on each side": template("<s>", "$A", "</s>"),
    "only at the end": template("$A", "</s>"),
    "two at the beginning": template("<s>", "<s>", "$A", "</s>"),
    "none": None,
}


@pytest.fixture(scope="module")
def phrase(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalEncoder]:
    directory = write_toy(tmp_path_factory.mktemp("phrase") / "model", PHRASE)
    with LocalEncoder(start(directory)) as encoder:
        yield encoder


@EXAMPLES
@pytest.mark.parametrize("name", [XLMR, "BPE without pre-tokenizer", "byte-level BPE"])
def test_rows_equal_words(name: str, examples: int, tmp_path: Path) -> None:
    with LocalEncoder(start(write_toy(tmp_path / "model", name))) as encoder:

        @settings(max_examples=examples // 3)
        @given(st.lists(st.text(max_size=40), max_size=5))
        def check(lines: list[str]) -> None:
            tally = Tally()
            arrays = list(embed(lines, encoder, tally=tally))
            assert [array.shape for array in arrays] == [
                (len(line.split()), WIDTH) for line in lines
            ]
            empty = sum((~array.any(1)).sum() for array in arrays)
            assert tally.empty_words == empty

        check()


@pytest.mark.parametrize("around", TEMPLATES)
def test_the_model_receives_what_its_tokenizer_produces(around: str, tmp_path: Path) -> None:
    directory = write_toy(tmp_path / "model", "byte-level BPE", post_processor=TEMPLATES[around])
    line = "the foxes don't"
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = tokenizer.encode(line).ids
    engine = start(directory)
    vectors = run(engine, np.array([ids], np.int32))[0]
    with LocalEncoder(engine) as encoder:
        (array,) = embed([line], encoder, "first")
        (batch,) = encoder.encode([[encoder.prepare(Sentence(1, line.split()))]])
    prefix = {"only at the end": 0, "none": 0, "two at the beginning": 2}.get(around, 1)
    assert batch.starts[0] == prefix
    np.testing.assert_allclose(array, vectors[batch.starts], rtol=0, atol=1e-5)


def test_sentences_are_padded_with_the_padding_of_the_model(tmp_path: Path) -> None:
    """Roberta counts positions by the pieces that are not padding."""
    engine = start(write_toy(tmp_path / "model", "byte-level BPE"))
    config = replace(engine.model.config, pad_token_id=1)
    engine.model = replace(engine.model, config=config)
    received: list[np.ndarray] = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(engine, name)

        def run(self, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> np.ndarray:
            received.append(np.where(mask, -1, ids))
            return engine.run(ids, types, mask)

    with LocalEncoder(Spy()) as encoder:
        list(encoder.encode([[encoder.prepare(Sentence(n, ["a"] * n)) for n in (1, 3)]]))
    assert received[0].tolist() == [[-1, -1, -1, 1, 1], [-1] * 5]


@pytest.mark.parametrize(("around", "special"), [("none", 0), ("two at the beginning", 3)])
def test_number_of_special_tokens_is_that_of_the_template(
    around: str, special: int, tmp_path: Path
) -> None:
    directory = write_toy(tmp_path / "model", "byte-level BPE", post_processor=TEMPLATES[around])
    engine = start(directory)
    least = f"max_seq_len must be from {special + 1} to 64, the limit of the model, not {special}"
    with pytest.raises(UsageError, match=least):
        LocalEncoder(engine, max_seq_len=special)
    with LocalEncoder(engine, long_sentences="error") as encoder:
        most = 64 - special
        assert next(embed(["a " * most], encoder)).shape == (most, WIDTH)
        with pytest.raises(LongSentenceError) as caught:
            next(embed(["a " * (most + 1)], encoder))
    added = " in addition to <s> and <s> and </s>" if special else ""
    assert str(caught.value) == (
        f"line 1 ({most + 1} words) has {most + 1} pieces, more than the {most} that the model "
        f"accepts{added}"
    )


def test_shared_piece_is_part_of_each_word(phrase: LocalEncoder) -> None:
    line = f"a {ADDED} cat"
    tally = Tally()
    first, last = (next(embed([line], phrase, name, tally=tally)) for name in ("first", "last"))
    np.testing.assert_array_equal(last[1], first[2])
    np.testing.assert_array_equal(first[2], last[2])
    assert (first[1] != first[2]).any()
    assert (tally.shared_sentences, tally.inexact_sentences) == (2, 0)
    assert tally.examples == {"shared_sentences": [1, 2]}


def test_shared_pieces_do_not_change_other_sentences(phrase: LocalEncoder) -> None:
    lines = ["the cat", f"a {ADDED} cat", "the big cat", f"{ADDED} {ADDED}", "a"]
    prepared = [phrase.prepare(Sentence(i, line.split())) for i, line in enumerate(lines)]
    (batch,) = phrase.encode([prepared])  # padded, as for GPUs
    assert sorted(batch.shared) == [1, 3]
    rows = iter(zip(batch.starts, batch.counts, strict=True))
    for line in lines:
        for vector in next(embed([line], phrase, "first")):
            start_row, count = next(rows)
            assert count
            np.testing.assert_allclose(batch.vectors[start_row], vector, rtol=0, atol=1e-5)


@pytest.mark.parametrize("limit", [5, 9, 20])
def test_windows_contain_both_words_of_a_shared_piece(limit: int, phrase: LocalEncoder) -> None:
    line = f"the {ADDED} cat " * 30
    with LocalEncoder(phrase._engine, max_seq_len=limit) as encoder:
        prepared = encoder.prepare(Sentence(1, line.split()))
        tally = Tally()
        (first,) = embed([line], encoder, "first", tally=tally)
        (last,) = embed([line], encoder, "last")
    assert first.shape == (120, WIDTH)
    np.testing.assert_array_equal(last[1::4], first[2::4])
    assert (tally.windowed_sentences, tally.shared_sentences) == (1, 1)
    assert (
        prepared.length
        == sum(window.kept_end - window.kept_start for window in prepared.windows) + 2
    )
    pieces, shared = prepared.tokens.pieces, prepared.tokens.shared
    ends = np.cumsum([len(own) for own in pieces]) - np.cumsum(shared)
    before_phrase = ends[1::4] - 1
    assert not {window.start for window in prepared.windows} & set(before_phrase.tolist())


def test_windows_have_the_vectors_of_their_pieces(tmp_path: Path) -> None:
    directory = write_toy(
        tmp_path / "model", XLMR, post_processor=TEMPLATES["two at the beginning"]
    )
    line = "the quick brown fox " * 40
    engine = start(directory)
    with LocalEncoder(engine, max_seq_len=20) as encoder:
        prepared = encoder.prepare(Sentence(1, line.split()))
        (array,) = embed([line], encoder, "first")
    window = prepared.windows[1]
    ids = [i for own in prepared.tokens.pieces for i in own][window.start : window.end]
    vectors = run(engine, np.array([[0, 0, *ids, 2]], np.int32))[0, 2:-1]
    starts = np.cumsum([0, *map(len, prepared.tokens.pieces)])
    kept = [j for j, start in enumerate(starts) if window.kept_start <= start < window.kept_end]
    assert len(kept) > 1
    np.testing.assert_allclose(array[kept], vectors[starts[kept] - window.start], rtol=0, atol=1e-5)


def test_unknown_words_and_words_without_pieces_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    with LocalEncoder(start(write_toy(tmp_path / "unigram", XLMR))) as encoder:
        (array,) = embed(["the ☃ \xad fox"], encoder, tally=tally)
        assert encoder.unknown_piece == "<unk>"
        with pytest.raises(RefusedWordError, match="the word '☃' is unknown to the model"):
            next(embed(["the ☃"], encoder, strict=True))
        with pytest.raises(RefusedWordError, match="has no pieces: the tokenizer deletes all"):
            next(embed(["the \xad fox"], encoder, strict=True))
    assert (tally.unknown_words, tally.empty_words) == (1, 1)
    assert array.any(1).tolist() == [True, True, False, True]


def test_byte_level_tokenizer_has_no_unknown_words(tmp_path: Path) -> None:
    tally = Tally()
    with LocalEncoder(start(write_toy(tmp_path / "model", "byte-level BPE"))) as encoder:
        (array,) = embed(["☃ \xad \u200b [UNK] <unk>"], encoder, strict=True, tally=tally)
        assert encoder.unknown_piece is None
    assert array.any(1).all()


def test_guessed_alignment_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    with open_local(str(write_toy(tmp_path / "model", XLMR))) as encoder:
        arrays = list(embed(["the fox", "the \u0600 \u0301x fox"], encoder, tally=tally))
        (windowed,) = embed(["the \u0600 \u0301x fox " * 30], encoder, tally=tally)
    assert [len(array) for array in arrays] == [2, 4]
    assert len(windowed) == 120
    assert tally.inexact_sentences == 2
    assert tally.examples["inexact_sentences"] == [2, 3]


def test_vectors_do_not_depend_on_other_sentences(tmp_path: Path) -> None:
    lines = [" ".join(f"the fox {ADDED} ☃ don't".split()[: 1 + i % 6]) for i in range(60)]
    model = str(write_toy(tmp_path / "model", PHRASE))
    with open_local(model, threads=3) as several, open_local(model, threads=1) as single:
        together = list(embed(lines, several))
        alone = [next(embed([line], single)) for line in lines]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(a, b)


def test_settings_and_fingerprint_identify_the_tokenizer(tmp_path: Path) -> None:
    content = json.loads(toy(XLMR))
    with open_local(str(write_toy(tmp_path / "a", XLMR))) as one:
        with open_local(str(write_toy(tmp_path / "b", XLMR, normalizer=None))) as other:
            assert one.settings == other.settings
            assert one.settings["tokenizer"] == "Unigram"
            assert "do_lower_case" not in one.settings
            a, b = one.fingerprint(), other.fingerprint()
    assert content["normalizer"]
    assert a.pop("tokenizer") != b.pop("tokenizer")
    assert a == b


@pytest.mark.parametrize("name", ["byte-level BPE", XLMR, "WordPiece with NFKC"])
@pytest.mark.parametrize("change", [-1, 300])
def test_vocabulary_of_another_size_is_refused(name: str, change: int, tmp_path: Path) -> None:
    directory = write_toy(tmp_path / "model", name)
    config = json.loads((directory / "config.json").read_text())
    config["vocab_size"] += change
    (directory / "config.json").write_text(json.dumps(config))
    message = refusal(directory)
    assert message.startswith("the vocabulary in DIR has ")
    assert message.endswith("they do not belong together")


@pytest.mark.parametrize("cased", [True, False])
def test_cased_is_refused_if_the_tokenizer_decides(cased: bool, tmp_path: Path) -> None:
    assert refusal(write_toy(tmp_path / "model", XLMR), cased=cased) == (
        "tokenizer.json is the tokenizer of a model (Unigram) that decides by itself whether "
        "capitals and accents are kept"
    )


@pytest.mark.parametrize("name", TOYS)
def test_every_kind_of_tokenizer_is_loaded(name: str, tmp_path: Path) -> None:
    with LocalEncoder(start(write_toy(tmp_path / "model", name))) as encoder:
        assert next(embed(["the fox ☃ <s>"], encoder)).shape == (4, WIDTH)
        assert all(
            isinstance(piece, str)
            for own in encoder.pieces(Sentence(1, ["fox", "☃"]))
            for piece in own
        )
