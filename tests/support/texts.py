"""Texts that are hard on a tokenizer."""

from __future__ import annotations

import unicodedata
from random import Random

from hypothesis import strategies as st

__all__ = ["differs", "random_words", "words"]

OLD = unicodedata.ucd_3_2_0
"""Unicode 3.2. What was assigned by then is the same in every table since, but for a few."""


def random_words(random: Random, number: int) -> list[str]:
    """Words of characters from all over Unicode, one that is white space aside."""
    planes = [(0x21, 0x7F), (0x80, 0x2FF), (0x300, 0x1FFF), (0x2000, 0xD7FF)]
    planes += [(0xE000, 0xFFFF), (0x10000, 0x1FFFF), (0x20000, 0x323AF), (0xE0000, 0x10FFFF)]
    words: list[str] = []
    while len(words) < number:
        planes_here = random.choices(planes, k=random.randint(1, 3))
        codes = [random.randint(*random.choice(planes_here)) for _ in range(random.randint(1, 5))]
        words += "".join(map(chr, codes)).split()
    return words


def differs(char: str) -> bool:
    """Where the `tokenizers` library is known to differ from BERT, or its Unicode table from ours.

    The genuine server decides these; see the alignment cases.
    """
    return (
        char in "Σσς"  # lower-cases a final sigma otherwise
        or 0x2B820 <= ord(char) <= 0x2CEAF  # splits not all of these ideographs
        or OLD.category(char) != unicodedata.category(char)  # its table may be another one
        or OLD.category(char).startswith("C")  # unassigned ones are not deleted by all versions
    )


def words(exclude: str = "") -> st.SearchStrategy[str]:
    """Words of which the library and BERT make the same."""
    chars = st.characters(exclude_categories=["Cs"]).filter(
        lambda char: not char.isspace() and not differs(char) and char not in exclude
    )
    likely = st.sampled_from("aZé'İß東京-.,|[]#\u0301\u00ad한ﬁñΑλ1²")
    return st.text(chars | likely, min_size=1, max_size=12)
