"""Texts that are hard on a tokenizer."""

from __future__ import annotations

from random import Random

__all__ = ["random_words"]


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
