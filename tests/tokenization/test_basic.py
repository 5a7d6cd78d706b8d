"""BERT's basic tokenizer against an independent one, that of the ``tokenizers`` library."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from bert_tokemb.tokenization.basic import basic_tokens, cache_short_words
from support.texts import EXAMPLES, words

CHARACTERS = st.characters(exclude_categories=["Cs"])


def reference(word: str, do_lower_case: bool) -> list[str]:
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=do_lower_case,
        lowercase=do_lower_case,
    )
    text = normalizer.normalize_str(word)
    return [token for token, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


@EXAMPLES
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_basic_tokens_equal_those_of_the_library(do_lower_case: bool, examples: int) -> None:
    @settings(max_examples=examples)
    @given(word=words())
    def check(word: str) -> None:
        assert list(basic_tokens(word, do_lower_case)) == reference(word, do_lower_case)

    check()


@EXAMPLES
def test_basic_tokens_are_not_split_further(examples: int) -> None:
    @settings(max_examples=examples)
    @given(word=st.text(CHARACTERS, max_size=80))
    def check(word: str) -> None:
        for do_lower_case in (True, False):
            for token in basic_tokens(word, do_lower_case):
                assert basic_tokens(token, do_lower_case=False) == (token,)

    check()


@EXAMPLES
def test_basic_tokens_of_sentence_are_those_of_its_words(examples: int) -> None:
    """This allows assigning the pieces of a sentence to its words, and sending words alone."""

    @settings(max_examples=examples)
    @given(words=st.lists(st.text(CHARACTERS, min_size=1), max_size=6))
    def check(words: list[str]) -> None:
        split = " ".join(words).split()
        for do_lower_case in (True, False):
            alone = [token for word in split for token in basic_tokens(word, do_lower_case)]
            assert list(basic_tokens(" ".join(split), do_lower_case)) == alone

    check()


@pytest.mark.parametrize("length", [1, 63, 64, 65, 5000])
def test_basic_tokens_of_long_and_short_words_agree(length: int) -> None:
    assert basic_tokens("É" * length, True) == ("e" * length,)
    assert basic_tokens("!" * length, True) == ("!",) * length


SPACING_MARKS = "\u302e\U0001d165\U0001d16d"
"""Combining marks of three classes that are not stripped, so that their order can be seen."""


@EXAMPLES
def test_accents_of_long_words_are_stripped_like_those_of_short_ones(examples: int) -> None:
    """Long words are decomposed by code of our own, which sorts marks by their class."""

    @settings(max_examples=examples)
    @given(
        st.text(
            f"a\u00e9\u1ea5\uac01\u0301\u0327\u0316\u0344{SPACING_MARKS}", min_size=65, max_size=90
        )
    )
    def check(text: str) -> None:
        decomposed = unicodedata.normalize("NFD", text)
        stripped = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
        assert "".join(basic_tokens(text, do_lower_case=True)) == stripped

    check()


# The first and last assigned characters of the blocks; U+2CEB0 is of extension F.
@pytest.mark.parametrize(
    ("char", "is_separated"),
    [
        *((char, True) for char in "\u3400\u4db5\u4e00\u9fd5\uf900\ufad9"),
        *((char, True) for char in "\U00020000\U0002a6d6\U0002a700\U0002b734\U0002b740"),
        *((char, True) for char in "\U0002b81d\U0002b820\U0002cea1\U0002f800\U0002fa1d"),
        *((char, False) for char in "\u33ff\u4dc0\ua000\ufb00\U0002ceb0\u30ab"),
    ],
    ids=ascii,
)
def test_ideographs_of_the_original_blocks_are_separated(char: str, is_separated: bool) -> None:
    expected = ("a", char, "b") if is_separated else (f"a{char}b",)
    assert basic_tokens(f"a{char}b", do_lower_case=False) == expected


def test_only_short_words_are_cached() -> None:
    calls: list[str] = []

    @cache_short_words
    def length(word: str) -> int:
        calls.append(word)
        return len(word)

    assert [length("a" * n) for n in (64, 64, 65, 65)] == [64, 64, 65, 65]
    assert calls == ["a" * 64, "a" * 65, "a" * 65]
