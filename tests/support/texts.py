"""Difficult texts for tokenizers, and the number of examples of property tests."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest
from hypothesis import strategies as st

__all__ = ["EXAMPLES", "differs", "random_words", "words"]

EXAMPLES = pytest.mark.parametrize("examples", [50, pytest.param(1000, marks=pytest.mark.slow)])
"""Runs a property test with few examples, and with many as a slow test."""

OLD = unicodedata.ucd_3_2_0
"""Unicode 3.2. All later versions agree on nearly every character that it assigns."""


def random_words(random: Random, number: int) -> list[str]:
    """Return random words of characters from all planes of Unicode, without white space."""
    planes = [(0x21, 0x7F), (0x80, 0x2FF), (0x300, 0x1FFF), (0x2000, 0xD7FF)]
    planes += [(0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x323AF), (0xE0000, 0x10FFFF)]
    words: list[str] = []
    while len(words) < number:
        planes_here = random.choices(planes, k=random.randint(1, 3))
        codes = [random.randint(*random.choice(planes_here)) for _ in range(random.randint(1, 5))]
        words += "".join(map(chr, codes)).split()
    return words


def differs(char: str) -> bool:
    """Return whether the ``tokenizers`` library may treat a character differently from BERT.

    This includes characters that depend on the Unicode version of Python. The alignment
    cases, which are checked against the genuine server, cover these characters.
    """
    return (
        char in "Σσς"  # final sigma is lower-cased differently
        or 0x2B820 <= ord(char) <= 0x2CEAF  # not all of these ideographs are separated
        or OLD.category(char) != unicodedata.category(char)  # depends on the Unicode version
        or OLD.category(char).startswith("C")  # not deleted by all versions if unassigned
    )


def words(exclude: str = "") -> st.SearchStrategy[str]:
    """Return a strategy for words that the ``tokenizers`` library treats like BERT."""
    chars = st.characters(exclude_categories=["Cs"]).filter(
        lambda char: not char.isspace() and not differs(char) and char not in exclude
    )
    likely = st.sampled_from("aZé'İß東京-.,|[]#\u0301\u00ad한ﬁñΑλ1²")
    return st.text(chars | likely, min_size=1, max_size=12)
