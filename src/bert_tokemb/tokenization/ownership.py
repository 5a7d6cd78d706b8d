"""Which words own the pieces of a whole line.

A tokenizer of the ``tokenizers`` library may merge characters of neighbouring words into one piece,
so its pieces are assigned to words by the characters that they spell. To find out how a word is
spelled, it is tokenized after another word, where it is normalized as in its line. The library
also reports offsets of pieces, but these are wrong for some normalizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from .tokenizer import TokenizedWords

__all__ = ["Spelling", "assign"]

# The most comparisons of characters for a guess; beyond that, positions are interpolated.
_MAX_COMPARISONS = 1 << 22

Owners = tuple[int, int]
"""The first and the last word that a piece spells parts of."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """The characters of a word's pieces."""

    text: str
    """The space before it, if it has pieces for one, and its own characters."""
    separators: int
    """How many characters at the beginning stand for that space."""


def assign(
    words: Sequence[Spelling], pieces: Sequence[str], ids: Sequence[int], marker: str
) -> TokenizedWords:
    """Return the pieces of each word.

    A piece that spells parts of several words belongs to each of them. A piece that spells only a
    space belongs to the next word that has other pieces, at the end of the line to the last word.

    Args:
        words: How the words are spelled.
        pieces: What each piece of the line spells.
        ids: The ids of the pieces.
        marker: The character that stands for a space.

    >>> words = [Spelling("new", 0), Spelling("▁york", 1), Spelling("", 0), Spelling("▁x", 1)]
    >>> assign(words, ["new▁yo", "rk", "▁", "x"], [5, 6, 7, 8], "▁")
    TokenizedWords(pieces=[(5,), (5, 6), (), (7, 8)], shared=[0, 1, 0, 0], inexact=False)
    """
    owners, inexact = _owners(words, pieces, marker)
    return _collect(_with_spaces(owners, len(words) - 1), words, ids, inexact)


def _owners(
    words: Sequence[Spelling], pieces: Sequence[str], marker: str
) -> tuple[list[Owners | None], bool]:
    """Return the owners of each piece, None for a space, and whether they are a guess."""
    spelled = "".join(pieces)
    if "".join(word.text for word in words) == spelled:
        labels: list[int | None] = []
        for j, word in enumerate(words):
            labels += [None] * word.separators + [j] * (len(word.text) - word.separators)
        return list(_ranges(labels, map(len, pieces))), False
    # Spaces may differ: added tokens take them, and some normalizers join them.
    expected = [word.text.replace(marker, "") for word in words]
    own = [j for j, text in enumerate(expected) for _ in text]
    found = [piece.replace(marker, "") for piece in pieces]
    if inexact := "".join(expected) != "".join(found):
        own = _guess("".join(expected), "".join(found), own)
    return list(_ranges(own, map(len, found))), inexact


def _ranges(labels: Sequence[int | None], lengths: Iterator[int]) -> Iterator[Owners | None]:
    """Yield the owners of each piece, given those of its characters."""
    end = 0
    for length in lengths:
        start, end = end, end + length
        own = [label for label in labels[start:end] if label is not None]
        yield (own[0], own[-1]) if own else None


def _guess(expected: str, found: str, own: Sequence[int]) -> list[int]:
    """Return the words of the characters that were found, in order.

    Args:
        expected: The characters of all words.
        found: The characters of all pieces.
        own: The word of each expected character.
    """
    if not own:
        return [0] * len(found)
    start = _common_prefix(expected, found)
    end = _common_prefix(expected[start:][::-1], found[start:][::-1])
    a, b = expected[start : len(expected) - end], found[start : len(found) - end]
    # Pairs of positions that correspond; between them, positions are interpolated.
    fixed = [(0, 0), (start, start)]
    if len(a) * len(b) <= _MAX_COMPARISONS:
        for block in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
            i, j = start + block.a, start + block.b
            fixed += [(i, j), (i + block.size, j + block.size)]
    fixed += [(start + len(a), start + len(b)), (len(expected), len(found))]
    return [own[min(i, len(own) - 1)] for i in _interpolate(fixed)]


def _common_prefix(a: str, b: str) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def _interpolate(fixed: Sequence[tuple[int, int]]) -> Iterator[int]:
    for (i, j), (i_end, j_end) in pairwise(fixed):
        for position in range(j, j_end):
            yield i + (position - j) * (i_end - i) // (j_end - j)


def _with_spaces(owners: Sequence[Owners | None], last: int) -> list[Owners]:
    """Return the owners of each piece, those of spaces included."""
    filled: list[Owners] = []
    following = (last, last)
    for own in reversed(owners):
        if own is not None:
            following = (own[0], own[0])
        filled.append(own or following)
    return filled[::-1]


def _collect(
    owners: Sequence[Owners], words: Sequence[Spelling], ids: Sequence[int], inexact: bool
) -> TokenizedWords:
    starts, ends = [0] * len(words), [0] * len(words)
    for k, (first, last) in enumerate(owners):
        for j in range(first, last + 1):
            # A word between the two that spells nothing has no part in the piece.
            if j in (first, last) or len(words[j].text) > words[j].separators:
                if not ends[j]:
                    starts[j] = k
                ends[j] = k + 1
    pieces, shared, done = [], [], 0
    for start, end in zip(starts, ends, strict=True):
        pieces.append(tuple(ids[start:end]))
        shared.append(done - start if end else 0)
        done = max(done, end)
    return TokenizedWords(pieces, shared if any(shared) else (), inexact)
