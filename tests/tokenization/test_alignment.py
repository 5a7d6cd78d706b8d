"""Which pieces belong to which word."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from bert_tokemb.tokenization.alignment import align, align_closely, spell, unknown_words
from bert_tokemb.tokenization.basic import basic_tokens
from support.cases import CASES, Case
from support.models import minilm_vocabulary, toy_vocabulary
from support.texts import words

EXACT = [case for case in CASES if not case.newer]
NEWER = [case for case in CASES if case.newer]


def tokens_of(words: list[str], *, cased: bool) -> list[tuple[str, ...]]:
    return [basic_tokens(word, not cased) for word in words]


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_exact_cases(case: Case) -> None:
    tokens = tokens_of(case.words, cased=case.cased)
    assert align(tokens, case.flat) == case.counts
    unknown = unknown_words(case.flat, case.counts)
    assert unknown == ["[UNK]" in own for own in case.pieces]
    assert align_closely(tokens, case.flat) == case.counts


AMBIGUOUS = "a deleted word beside an unknown one: only asking tells which is which"


@pytest.mark.parametrize("case", NEWER, ids=str)
def test_newer_cases_are_met_closely(case: Case, request: pytest.FixtureRequest) -> None:
    tokens = tokens_of(case.words, cased=case.cased)
    if case.why == AMBIGUOUS:
        request.applymarker(pytest.mark.xfail(strict=True, reason="nothing here can tell"))
    assert align_closely(tokens, case.flat) == case.counts


@cache
def library(vocabulary: str, cased: bool) -> Tokenizer:
    """BERT's tokenizer as the `tokenizers` library has it."""
    pieces = minilm_vocabulary() if vocabulary == "real" else toy_vocabulary(cased=cased)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))  # noqa: S106
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    tokenizer.encode_special_tokens = True  # the words [SEP] and [UNK] are text
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=not cased, lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@pytest.mark.parametrize(
    ("vocabulary", "cased"), [("toy", False), ("toy", True), ("real", False), ("real", True)]
)
@given(
    sentence=st.lists(
        words() | st.sampled_from(["[UNK]", "[SEP]", "##ing", "|||", "hankcs", "hello"]),
        min_size=1,
        max_size=8,
    )
)
@example(sentence=["[UNK]", "é", "東京", "☃", "\u00ad", "don't"])
def test_agrees_with_the_librarys_word_ids(
    vocabulary: str, cased: bool, sentence: list[str]
) -> None:
    encoding = library(vocabulary, cased).encode(
        sentence, is_pretokenized=True, add_special_tokens=False
    )
    expected = [encoding.word_ids.count(j) for j in range(len(sentence))]
    tokens = tokens_of(sentence, cased=cased)
    assert align(tokens, encoding.tokens) == expected
    assert align_closely(tokens, encoding.tokens) == expected


PIECES = st.lists(
    st.text("ab[#", min_size=1, max_size=3) | st.sampled_from(["[UNK]", "##a", "##ab"]), max_size=9
)


@given(tokens=st.lists(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)), pieces=PIECES)
def test_nothing_is_lost_however_badly_they_fit(tokens: list[list[str]], pieces: list[str]) -> None:
    counts = align_closely(tokens, pieces)
    assert len(counts) == len(tokens)
    assert sum(counts) == (len(pieces) if tokens else 0)
    exactly = align(tokens, pieces)
    if exactly is not None:
        assert exactly == counts
        # Exactly means: every word's pieces spell its tokens, or are unknown.
        done = 0
        for word, count in zip(tokens, counts, strict=True):
            spelled = spell(pieces[done : done + count])
            assert len(spelled) == len(word)
            assert all(s in (token, "[UNK]") for s, token in zip(spelled, word, strict=True))
            done += count


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        (["hello", "wor"], "the last piece is missing"),
        (["hello"], "the last word is missing"),
        (["hello", "world", "!"], "there is one too many"),
        (["world", "hello"], "they are in another order"),
        (["##hello", "world"], "a word begins in its middle"),
        (["hello", "[UNK]", "[UNK]"], "there is one unknown too many"),
    ],
)
def test_what_does_not_fit_is_not_called_exact(pieces: list[str], why: str) -> None:
    assert align([["hello"], ["world"]], pieces) is None, why


def test_close_alignment_of_a_long_sentence_is_quick_and_right() -> None:
    """Only what lies between the first and the last difference is compared by characters."""
    sentence = [["hello"], ["☃"], ["world"]] * 2000
    pieces = ["hello", "world"] * 2000
    tokens = [*sentence[:900], ["hel☃lo"], *sentence[900:]]
    expected = [[1, 0, 1][j % 3] for j in range(len(sentence))]
    expected.insert(900, 2)
    pieces[600:600] = ["hel", "##lo"]
    few = [token if token != ["☃"] else [] for token in tokens]
    assert align_closely(few, pieces) == expected
