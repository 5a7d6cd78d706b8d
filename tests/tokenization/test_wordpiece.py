"""Words into pieces, and sentences into vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tokemb import Tally, embed
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.errors import LongSentenceError, UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.tokenization.basic import basic_tokens
from bert_tokemb.tokenization.vocabulary import Vocabulary
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from bert_tokemb.types import Sentence
from support.cases import CASES, Case
from support.models import minilm_vocabulary
from support.tiny import CASED_VOCABULARY, PIECE_IDS, VOCABULARY, run

# --- Words into pieces ------------------------------------------------------------------------


def tokenizer_of(
    vocabulary: Sequence[str], lower: bool = True, strip: bool | None = None
) -> Callable[[str], list[str]]:
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    split = PieceTokenizer(Vocabulary(ids, lower, lower if strip is None else strip)).split
    return lambda word: [vocabulary[i] for i in split(word)]


@pytest.mark.parametrize("case", [case for case in CASES if not case.newer], ids=str)
def test_pieces_are_those_of_the_genuine_server(case: Case) -> None:
    vocabulary = CASED_VOCABULARY if case.cased else VOCABULARY
    pieces = tokenizer_of(vocabulary, lower=not case.cased)
    assert [pieces(word) for word in case.words] == case.pieces


@pytest.mark.parametrize(
    ("word", "lower", "strip", "expected"),
    [
        ("É", True, True, ["e"]),
        ("É", True, False, ["[UNK]"]),
        ("É", False, False, ["É"]),
        ("É", False, True, ["E"]),
        ("Éa", False, False, ["É", "##a"]),
        ("é", True, False, ["é"]),
        ("HELLO", True, None, ["hello"]),
        ("HELLO", False, None, ["H", "##E", "##L", "##L", "##O"]),
        ("hello" + "\u0301", False, True, ["hello"]),
        ("hello" + "\u0301", True, False, ["[UNK]"]),
    ],
)
def test_folding_of_words(word: str, lower: bool, strip: bool | None, expected: list[str]) -> None:
    cased = tuple(piece for piece in CASED_VOCABULARY if piece != "##\u0301")
    without = tuple(piece for piece in cased if piece != "é")
    vocabulary = without if expected == ["[UNK]"] else cased
    assert tokenizer_of(vocabulary, lower, strip)(word) == expected


@pytest.mark.parametrize("word", ["", "\u200b", "\xad\ufeff", "\x00", "\ufffd", "\ue000", "\u0301"])
def test_words_without_pieces(word: str) -> None:
    assert tokenizer_of(VOCABULARY)(word) == []


@pytest.mark.parametrize("letters", [64, 65, 99, 100])
def test_long_words(letters: int) -> None:
    pieces = tokenizer_of(VOCABULARY)
    assert "".join(pieces("a" * letters)).replace("##", "") == "a" * letters
    assert pieces("☃" * letters) == ["[UNK]"]


def test_words_that_are_too_long() -> None:
    pieces = tokenizer_of(VOCABULARY)
    assert pieces("a" * 101) == ["[UNK]"]
    assert pieces("a" * 100_000) == ["[UNK]"]
    assert pieces("a" * 100 + "-" + "b" * 101 + "!") == [*pieces("a" * 100), "-", "[UNK]", "!"]
    # Characters are counted, not bytes, and those that fall off are not.
    assert pieces("é" * 100) == ["e", *["##e"] * 99]
    assert pieces("東" * 300) == ["東"] * 300


def greedy(word: str, vocabulary: Mapping[str, int], lower: bool) -> list[int]:
    """Split as the original does, the longest piece first."""
    ids: list[int] = []
    for token in basic_tokens(word, lower):
        own: list[int] = []
        start = 0
        while start < len(token) <= 100:
            ends = range(len(token), start, -1)
            spelled = (("##" if start else "") + token[start:end] for end in ends)
            found = next((piece for piece in spelled if piece in vocabulary), None)
            if found is None:
                own = []
                break
            own.append(vocabulary[found])
            start += len(found) - 2 * (start > 0)
        ids += own or [vocabulary["[UNK]"]]
    return ids


WORDS = st.one_of(
    st.text(st.characters(), max_size=12),
    st.text(st.sampled_from("aehlo wrdsABZ'.-é東#[]\u200b\u0301"), max_size=130),
    st.lists(st.sampled_from(["hello", "play", "ing", "##ing", "un", "aff", "Z"])).map("".join),
)


@given(WORDS, st.booleans())
def test_the_longest_piece_first(word: str, lower: bool) -> None:
    vocabulary = VOCABULARY if lower else CASED_VOCABULARY
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    assert tokenizer_of(vocabulary, lower)(word) == [
        vocabulary[i] for i in greedy(word, ids, lower)
    ]


PLAIN = """
It was the best of times, it was the worst of times -- don't you think so? "Well," said
Dr. O'Hara-Smith (aged 47), I've paid $3.50 at https://example.org/a?b=c%20d&e=f#g & 10:30!!!
Les élèves français mangent naïvement à l'hôtel; Øresund, Łódź, İstanbul, straße, Αθήνα.
日本語のテキスト 東京2020 한국어 Привет мир ภาษาไทย नमस्ते שלום مرحبا 😀 ½ ① ﬁ Ｈｅｌｌｏ
"""


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_pieces_are_those_of_the_tokenizers_library(lower: bool, strip: bool | None) -> None:
    from tokenizers import BertWordPieceTokenizer

    vocabulary = minilm_vocabulary()
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    theirs = BertWordPieceTokenizer(ids, lowercase=lower, strip_accents=strip)
    pieces = tokenizer_of(vocabulary, lower, strip)
    for word in PLAIN.split():
        assert pieces(word) == theirs.encode(word, add_special_tokens=False).tokens


# --- Sentences into vectors -------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(engine: Engine) -> Iterator[LocalEncoder]:
    with LocalEncoder(engine) as encoder:
        yield encoder


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(), max_size=40), max_size=12))
def test_rows_equal_words(encoder: LocalEncoder, lines: list[str]) -> None:
    counts = Tally()
    arrays = list(embed(lines, encoder, "first", tally=counts))
    assert [array.shape for array in arrays] == [(len(line.split()), 96) for line in lines]
    words = [word for line in lines for word in line.split()]
    pieces = tokenizer_of(VOCABULARY)
    rows = np.concatenate([np.zeros((0, 96)), *arrays])
    for word, row in zip(words, rows, strict=True):
        assert row.any() == bool(pieces(word))
    assert counts.empty_words == sum(not pieces(word) for word in words)
    assert counts.unknown_words == sum("[UNK]" in pieces(word) for word in words)


def test_vectors_are_those_of_the_pieces(encoder: LocalEncoder, engine: Engine) -> None:
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
    ("limit", "words", "said"),
    [
        (None, ["a"] * 63, f"(63 words) has 63 pieces, more than {THE_MODEL}"),
        (None, ["." * 1000], f"(1 word) has 1000 pieces, more than {THE_MODEL}"),
        (64, ["hankcs"] * 32, f"(32 words) has 64 pieces, more than {THE_MODEL}"),
        (10, ["a"] * 9, f"(9 words) has 9 pieces, more than the 8 that {ALLOWED}"),
        (3, ["hankcs"], f"(1 word) has 2 pieces, more than the 1 that {ALLOWED}"),
    ],
)
def test_sentences_that_are_too_long(
    limit: int | None, words: list[str], said: str, engine: Engine
) -> None:
    with LocalEncoder(engine, max_seq_len=limit, long_sentences="error") as encoder:
        with pytest.raises(LongSentenceError) as caught:
            encoder.prepare(Sentence(7, words))
    assert str(caught.value) == f"line 7 {said}"


def test_sentences_as_long_as_can_be(engine: Engine) -> None:
    for limit in (None, 3, 10, 64):
        most = (limit or 64) - 2
        with LocalEncoder(engine, max_seq_len=limit) as encoder:
            assert encoder.prepare(Sentence(1, ["a"] * most)).length == most + 2
            assert next(embed(["a " * most], encoder)).shape == (most, 96)


@pytest.mark.parametrize("limit", [-1, 0, 1, 2, 65, 10**9])
def test_limits_that_cannot_be_meant(limit: int, engine: Engine) -> None:
    said = f"max_seq_len must be from 3 to 64, the limit of the model, not {limit}"
    with pytest.raises(UsageError, match=said):
        LocalEncoder(engine, max_seq_len=limit)
