"""The rules by which words are tokenized one by one, each by itself."""

from __future__ import annotations

from typing import Any

import pytest

from bert_tokemb.tokenization.locality import Locality, find_locality

Json = dict[str, Any]

METASPACE: Json = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
WHITESPACE: Json = {"type": "WhitespaceSplit"}
BYTE_LEVEL: Json = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


def locality(
    normalizer: Json | None = None, pre_tokenizer: Json | None = METASPACE, *added: Json
) -> Locality:
    content = {
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "Unigram", "vocab": [["<unk>", 0.0]]},
    }
    return find_locality(content, lambda text: text)


def added(content: str, **settings: bool) -> Json:
    names = ("special", "lstrip", "rstrip", "normalized", "single_word")
    return {"content": content, **dict.fromkeys(names, False), **settings}


def sequence(kind: str, *parts: Json) -> Json:
    return {"type": "Sequence", kind: list(parts)}


def split(pattern: Json, behavior: str, **settings: bool) -> Json:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False, **settings}


@pytest.mark.parametrize(
    ("token", "is_local"),
    [
        (added("fox"), True),
        (added("fox", lstrip=True), False),
        (added("fox", rstrip=True), False),
        (added("red fox"), False),
        # Special tokens are not searched for.
        (added("fox", lstrip=True, rstrip=True, special=True), True),
        (added("red fox", special=True), True),
        # There is one space between two words.
        (added("  "), True),
        (added(" \t\n"), True),
        (added(" "), False),
    ],
)
def test_added_tokens_may_reach_over_a_space(token: Json, is_local: bool) -> None:
    assert locality(None, METASPACE, token).is_local == is_local


def test_run_of_spaces_may_reach_over_spaces_that_the_normalizer_makes() -> None:
    """Words keep such spaces only if the pre-tokenizer drops them."""
    assert not locality(None, WHITESPACE, added("  ")).is_local


@pytest.mark.parametrize("kind", ["Strip", "Prepend"])
def test_text_after_an_added_token_starts_like_a_line(kind: str) -> None:
    assert locality({"type": kind}).is_local
    assert not locality({"type": kind}, METASPACE, added("fox")).is_local
    assert locality({"type": kind}, METASPACE, added("<s>", special=True)).is_local


def replace(**pattern: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": "-"}


@pytest.mark.parametrize(
    ("normalizer", "is_local"),
    [
        (None, True),
        ({"type": "NFKC"}, True),
        ({"type": "ByteLevel"}, False),
        ({"type": "one of a later version"}, False),
        (replace(String="``"), True),
        (replace(String="a b"), False),
        (replace(String="a\u3000"), False),
        (replace(Regex=" {2,}"), True),
        (replace(Regex="(?<=[a-z]) (?=[a-z])"), False),
        (replace(Regex="[^a-z]"), False),
        (sequence("normalizers", {"type": "NFC"}, {"type": "Lowercase"}), True),
        (sequence("normalizers", {"type": "NFC"}, {"type": "ByteLevel"}), False),
    ],
)
def test_normalizer_may_join_characters_over_a_space(
    normalizer: Json | None, is_local: bool
) -> None:
    assert locality(normalizer).is_local == is_local


SPACE, OTHER = {"String": " "}, {"Regex": "[0-9]+"}


@pytest.mark.parametrize(
    ("pre_tokenizer", "is_local"),
    [
        (None, False),
        (METASPACE, True),
        ({**METASPACE, "split": False}, False),
        (BYTE_LEVEL, True),
        ({**BYTE_LEVEL, "use_regex": False}, False),
        # Older files have neither setting.
        ({"type": "ByteLevel"}, True),
        (WHITESPACE, True),
        ({"type": "BertPreTokenizer"}, True),
        (split(SPACE, "Removed"), True),
        (split(SPACE, "Isolated"), True),
        (split(SPACE, "MergedWithNext"), True),
        (split(SPACE, "MergedWithPrevious"), False),
        (split(SPACE, "Contiguous"), False),
        (split(SPACE, "Removed", invert=True), False),
        (split(OTHER, "Isolated"), False),
        ({"type": "Digits"}, False),
    ],
)
def test_pre_tokenizer_may_leave_words_together(pre_tokenizer: Json | None, is_local: bool) -> None:
    assert locality(None, pre_tokenizer).is_local == is_local


@pytest.mark.parametrize(
    ("before", "is_local"),
    [
        ({"type": "Digits", "individual_digits": True}, True),
        ({"type": "Punctuation", "behavior": "Isolated"}, True),
        (split(OTHER, "Isolated"), False),
        ({"type": "UnicodeScripts"}, False),
        ({**BYTE_LEVEL, "use_regex": False}, False),  # spaces become other characters
    ],
)
def test_step_before_the_split_at_spaces_may_change_them(before: Json, is_local: bool) -> None:
    for last in (WHITESPACE, METASPACE, BYTE_LEVEL):
        steps = sequence("pretokenizers", before, last)
        assert locality(None, steps).is_local == is_local
