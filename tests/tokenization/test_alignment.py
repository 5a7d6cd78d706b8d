"""Alignment of pieces with words: labelled cases, and properties."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from bert_tokemb.tokenization.alignment import align, align_closely, spell, unknown_words
from bert_tokemb.tokenization.basic import basic_tokens
from support.cases import CASES, Case
from support.models import minilm_vocabulary, toy_vocabulary
from support.texts import EXAMPLES, words

EXACT = [case for case in CASES if not case.newer]
NEWER = [
    pytest.param(
        case, marks=pytest.mark.xfail(strict=True, reason=case.xfail) if case.xfail else ()
    )
    for case in CASES
    if case.newer
]


def tokens_of(words: list[str], *, cased: bool) -> list[tuple[str, ...]]:
    return [basic_tokens(word, not cased) for word in words]


@pytest.mark.parametrize("case", EXACT, ids=str)
def test_align_assigns_the_pieces_of_labelled_cases(case: Case) -> None:
    tokens = tokens_of(case.words, cased=case.cased)
    assert align(tokens, case.flat) == case.counts
    unknown = unknown_words(case.flat, case.counts)
    assert unknown == ["[UNK]" in own for own in case.pieces]
    assert align_closely(tokens, case.flat) == case.counts


@pytest.mark.parametrize("case", NEWER, ids=str)
def test_align_closely_assigns_the_pieces_of_an_older_unicode_version(case: Case) -> None:
    tokens = tokens_of(case.words, cased=case.cased)
    assert align_closely(tokens, case.flat) == case.counts


@cache
def library(vocabulary: str, cased: bool) -> Tokenizer:
    """Return BERT's tokenizer as implemented by the ``tokenizers`` library."""
    pieces = minilm_vocabulary() if vocabulary == "real" else toy_vocabulary(cased=cased)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))  # noqa: S106
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    tokenizer.encode_special_tokens = True  # the words [SEP] and [UNK] are text
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=not cased, lowercase=not cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


@EXAMPLES
@pytest.mark.parametrize(
    ("vocabulary", "cased"), [("toy", False), ("toy", True), ("real", False), ("real", True)]
)
def test_alignment_equals_word_ids_of_the_library(
    vocabulary: str, cased: bool, examples: int
) -> None:
    likely = st.sampled_from(["[UNK]", "[SEP]", "##ing", "|||", "hankcs", "hello"])

    @settings(max_examples=examples)
    @given(sentence=st.lists(words() | likely, min_size=1, max_size=8))
    @example(sentence=["[UNK]", "é", "東京", "☃", "\u00ad", "don't"])
    def check(sentence: list[str]) -> None:
        encoding = library(vocabulary, cased).encode(
            sentence, is_pretokenized=True, add_special_tokens=False
        )
        expected = [encoding.word_ids.count(j) for j in range(len(sentence))]
        tokens = tokens_of(sentence, cased=cased)
        assert align(tokens, encoding.tokens) == expected
        assert align_closely(tokens, encoding.tokens) == expected

    check()


TOKENS = st.lists(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
PIECES = st.lists(
    st.text("ab[#", min_size=1, max_size=3) | st.sampled_from(["[UNK]", "##a", "##ab"]), max_size=9
)


@EXAMPLES
def test_align_closely_assigns_every_piece(examples: int) -> None:
    @settings(max_examples=examples)
    @given(tokens=TOKENS, pieces=PIECES)
    def check(tokens: list[list[str]], pieces: list[str]) -> None:
        counts = align_closely(tokens, pieces)
        assert len(counts) == len(tokens)
        assert sum(counts) == (len(pieces) if tokens else 0)
        exact = align(tokens, pieces)
        if exact is not None:
            assert exact == counts
            # The pieces of each word spell its tokens, or are unknown.
            done = 0
            for word, count in zip(tokens, counts, strict=True):
                spelled = spell(pieces[done : done + count])
                assert len(spelled) == len(word)
                assert all(s in (token, "[UNK]") for s, token in zip(spelled, word, strict=True))
                done += count

    check()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(["hello", "wor"], id="incomplete last word"),
        pytest.param(["hello"], id="missing last word"),
        pytest.param(["hello", "world", "!"], id="additional piece"),
        pytest.param(["world", "hello"], id="other order"),
        pytest.param(["##hello", "world"], id="continuation first"),
        pytest.param(["hello", "[UNK]", "[UNK]"], id="additional unknown piece"),
    ],
)
def test_align_returns_none_for_pieces_of_other_words(pieces: list[str]) -> None:
    assert align([["hello"], ["world"]], pieces) is None


def test_align_closely_handles_long_sentences() -> None:
    """A table of all 20,000 by 20,000 characters would take minutes and a gigabyte."""
    sentence = [["hello"], ["☃"], ["world"]] * 2000
    pieces = ["hello", "world"] * 2000
    tokens = [*sentence[:900], ["hel☃lo"], *sentence[900:]]
    expected = [[1, 0, 1][j % 3] for j in range(len(sentence))]
    expected.insert(900, 2)
    pieces[600:600] = ["hel", "##lo"]
    tokens = [token if token != ["☃"] else [] for token in tokens]
    assert align_closely(tokens, pieces) == expected
