"""BERT's basic tokenizer against an independent one, the `tokenizers` library's."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from bert_tokemb.tokenization.basic import _decompose, basic_tokens
from support.texts import words


def reference(word: str, do_lower_case: bool) -> list[str]:
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=do_lower_case,
        lowercase=do_lower_case,
    )
    text = normalizer.normalize_str(word)
    return [token for token, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


@pytest.mark.parametrize("do_lower_case", [True, False])
@given(word=words())
def test_agrees_with_the_library(word: str, do_lower_case: bool) -> None:
    assert list(basic_tokens(word, do_lower_case)) == reference(word, do_lower_case)


@given(word=st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_tokens_are_never_blank_or_split_further(word: str) -> None:
    for do_lower_case in (True, False):
        for token in basic_tokens(word, do_lower_case):
            assert basic_tokens(token, do_lower_case=False) == (token,)


@given(
    words=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6),
)
def test_a_sentence_gives_what_its_words_give(words: list[str]) -> None:
    """What lets a sentence's pieces be dealt out to its words, and words be asked for alone."""
    split = " ".join(words).split()
    for do_lower_case in (True, False):
        alone = [token for word in split for token in basic_tokens(word, do_lower_case)]
        assert list(basic_tokens(" ".join(split), do_lower_case)) == alone


@pytest.mark.parametrize("length", [1, 63, 64, 65, 5000])
def test_remembered_or_not_a_word_gives_the_same(length: int) -> None:
    assert basic_tokens("É" * length, True) == ("e" * length,)
    assert basic_tokens("!" * length, True) == ("!",) * length


@given(text=st.text("a\u00e9\u1ea5\uac01\u0301\u0327\u0316\u302e\u0344", min_size=65, max_size=90))
def test_long_words_are_decomposed_as_short_ones(text: str) -> None:
    """Marks of several classes, one of which stays when accents are stripped."""
    assert _decompose(text) == unicodedata.normalize("NFD", text)
