"""The local encoder: rows, pieces and lengths of hard words and sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tokemb import Tally, embed
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.errors import LongSentenceError, UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.tokenization.vocabulary import Vocabulary
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from bert_tokemb.types import Sentence
from support.models import tokenizer_json
from support.texts import EXAMPLES
from support.tiny import PIECE_IDS, VOCABULARY, run, start


@pytest.fixture(scope="module")
def encoder(engine: Engine) -> Iterator[LocalEncoder]:
    with LocalEncoder(engine) as encoder:
        yield encoder


@EXAMPLES
def test_rows_equal_words(encoder: LocalEncoder, examples: int) -> None:
    tokenizer = PieceTokenizer(Vocabulary(PIECE_IDS, True, True))

    @settings(max_examples=examples // 2)
    @given(st.lists(st.text(st.characters(), max_size=40), max_size=12))
    def check(lines: list[str]) -> None:
        tally = Tally()
        arrays = list(embed(lines, encoder, "first", tally=tally))
        assert [array.shape for array in arrays] == [(len(line.split()), 96) for line in lines]
        pieces = [tokenizer.split(word) for line in lines for word in line.split()]
        rows = np.concatenate([np.zeros((0, 96)), *arrays])
        for own, row in zip(pieces, rows, strict=True):
            assert row.any() == bool(own)
        assert tally.empty_words == sum(not own for own in pieces)
        assert tally.unknown_words == sum(tokenizer.unknown in own for own in pieces)

    check()


def test_word_vectors_are_made_of_the_vectors_of_their_pieces(
    encoder: LocalEncoder, engine: Engine
) -> None:
    line = "\u200b hankcs played un☃ the \xad 東京 !"
    names = ["[CLS]", "hank", "##cs", "play", "##ed", "[UNK]", "the", "東", "京", "!", "[SEP]"]
    vectors = run(engine, np.array([[PIECE_IDS[name] for name in names]], np.int32))[0]
    owned = [[], [1, 2], [3, 4], [5], [6], [], [7, 8], [9]]
    (array,) = embed([line], encoder, "avg")
    for row, own in zip(array, owned, strict=True):
        expected = vectors[own].mean(0) if own else np.zeros(96)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-5)


THE_MODEL = "the 62 that the model accepts in addition to [CLS] and [SEP]"
ALLOWED = "the maximum sequence length allows in addition to [CLS] and [SEP]"


@pytest.mark.parametrize(
    ("limit", "words", "message"),
    [
        (None, ["a"] * 63, f"(63 words) has 63 pieces, more than {THE_MODEL}"),
        (None, ["." * 1000], f"(1 word) has 1000 pieces, more than {THE_MODEL}"),
        (64, ["hankcs"] * 32, f"(32 words) has 64 pieces, more than {THE_MODEL}"),
        (10, ["a"] * 9, f"(9 words) has 9 pieces, more than the 8 that {ALLOWED}"),
        (3, ["hankcs"], f"(1 word) has 2 pieces, more than the 1 that {ALLOWED}"),
    ],
)
def test_long_sentence_is_refused_with_its_length_and_the_limit(
    limit: int | None, words: list[str], message: str, engine: Engine
) -> None:
    with LocalEncoder(engine, max_seq_len=limit, long_sentences="error") as encoder:
        with pytest.raises(LongSentenceError) as caught:
            encoder.prepare(Sentence(7, words))
    assert str(caught.value) == f"line 7 {message}"


@pytest.mark.parametrize("limit", [None, 3, 10, 64])
def test_sentence_as_long_as_the_limit_is_accepted(limit: int | None, engine: Engine) -> None:
    most = (limit or 64) - 2
    with LocalEncoder(engine, max_seq_len=limit, long_sentences="error") as encoder:
        assert encoder.prepare(Sentence(1, ["a"] * most)).length == most + 2
        assert next(embed(["a " * most], encoder)).shape == (most, 96)


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 65, 10**9])
def test_max_seq_len_beyond_the_model_is_refused(limit: int, engine: Engine) -> None:
    message = f"max_seq_len must be from 3 to 64, the limit of the model, not {limit}"
    with pytest.raises(UsageError, match=message):
        LocalEncoder(engine, max_seq_len=limit)


def test_max_seq_length_of_sentence_transformers_is_ignored(tiny: Path) -> None:
    settings = {"max_seq_length": 3, "do_lower_case": False}
    (tiny / "sentence_bert_config.json").write_text(json.dumps(settings))
    with LocalEncoder(start(tiny)) as encoder:
        assert next(embed(["a " * 62], encoder)).shape == (62, 32)


def test_truncation_and_padding_of_tokenizer_json_are_ignored(tiny: Path) -> None:
    content = tokenizer_json(VOCABULARY)
    assert content["truncation"]["max_length"] == 3
    assert content["padding"]["strategy"] == {"Fixed": 128}
    (tiny / "vocab.txt").unlink()
    (tiny / "tokenizer.json").write_text(json.dumps(content))
    with LocalEncoder(start(tiny)) as encoder:
        assert next(embed(["hello world " * 20], encoder)).shape == (40, 32)
