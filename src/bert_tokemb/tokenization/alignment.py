"""Alignment: which pieces belong to which word.

A server returns the pieces of a sentence, not of its words. The basic tokens of each word are known
(:mod:`bert_tokemb.tokenization.basic`), and each of them yields either one ``[UNK]`` or pieces that
spell it, all but the first marked with ``##``. That determines the alignment: see :func:`align`. It
fails only if the server's Unicode version treats a character differently; :func:`align_closely`
then finds an approximation.

Both return the number of pieces of each word. That is all there is to know, because pieces are
assigned in order and none is left over: word ``j`` starts where word ``j - 1`` ends.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ..types import IntArray
from .basic import UNKNOWN

__all__ = ["align", "align_closely", "first_rows", "spell", "unknown_words"]

Words = Sequence[Sequence[str]]
"""The basic tokens of each word."""


def align(words: Words, pieces: Sequence[str]) -> list[int] | None:
    """Return the number of pieces of each word, or None if the pieces do not spell the words.

    >>> align([["hello"], ["hank"], [], ["i", "'", "m"]], ["hello", "han", "##k", "i", "'", "m"])
    [1, 2, 0, 3]
    >>> align([["hello"], ["hank"]], ["hello", "[UNK]"])
    [1, 1]
    >>> align([["hello"], ["hank"]], ["hello", "han"]) is None
    True
    """
    tokens = list(chain.from_iterable(words))
    spelled = spell(pieces)
    if spelled != tokens and not (
        len(spelled) == len(tokens)
        and all(s in (token, UNKNOWN) for s, token in zip(spelled, tokens, strict=True))
    ):
        return None
    # A token owns the pieces from its first one up to the first one of the next token.
    firsts = [i for i, piece in enumerate(pieces) if not piece.startswith("##")]
    firsts.append(len(pieces))
    counts, done = [], 0
    for word in words:
        end = done + len(word)
        counts.append(firsts[end] - firsts[done])
        done = end
    return counts


def spell(pieces: Sequence[str]) -> list[str]:
    """Join pieces into the basic tokens that they spell.

    >>> spell(["han", "##k", "!"])
    ['hank', '!']
    """
    return " ".join(pieces).replace(" ##", "").split(" ") if pieces else []


def unknown_words(pieces: Sequence[str], counts: Sequence[int]) -> list[bool]:
    """Return for each word whether one of its pieces is ``[UNK]``.

    >>> unknown_words(["hello", "[UNK]"], [1, 0, 1])
    [False, False, True]
    """
    if UNKNOWN not in pieces:
        return [False] * len(counts)
    unknown, done = [], 0
    for count in counts:
        unknown.append(UNKNOWN in pieces[done : done + count])
        done += count
    return unknown


def align_closely(words: Words, pieces: Sequence[str]) -> list[int]:
    """Return the number of pieces of each word in the alignment with the fewest edits.

    For pieces that do not spell the words, because a server with an older Unicode version deletes
    some characters and splits or normalizes others differently. An edit inserts or deletes one
    character; ``[UNK]`` matches any one token. Every piece is assigned to some word, unless there
    are no words.

    >>> align_closely([["ab"], ["☃"], ["cd"]], ["a", "##b", "cd"])
    [2, 0, 1]
    """
    if not words:
        return []
    ours = [_Token(token, j) for j, word in enumerate(words) for token in word]
    groups = list(_groups(pieces))
    # The search takes quadratic time, so it is limited to what lies between the first and the last
    # difference.
    front = _count_equal(ours, groups)
    back = _count_equal(ours[front:][::-1], groups[front:][::-1])
    counts = [0] * len(words)
    for token, group in zip(ours[:front], groups[:front], strict=True):
        counts[token.word] += len(group)
    ours_end, groups_end = len(ours) - back, len(groups) - back
    for token, group in zip(ours[ours_end:], groups[groups_end:], strict=True):
        counts[token.word] += len(group)
    middle = list(chain.from_iterable(groups[front:groups_end]))
    fallback = ours[front - 1].word if front else 0
    for word in _nearest_words(ours[front:ours_end], middle, fallback):
        counts[word] += 1
    return counts


@dataclass(frozen=True, slots=True)
class _Token:
    """A basic token, and the index of its word."""

    text: str
    word: int


def _groups(pieces: Sequence[str]) -> Iterator[list[str]]:
    """Yield the pieces of each of the server's tokens."""
    group: list[str] = []
    for piece in pieces:
        if group and not piece.startswith("##"):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _count_equal(ours: Sequence[_Token], groups: Sequence[list[str]]) -> int:
    """Return the number of leading tokens that are spelled by their pieces."""
    n = 0
    for token, group in zip(ours, groups, strict=False):
        if spell(group) != [token.text]:
            break
        n += 1
    return n


def _nearest_words(ours: Sequence[_Token], pieces: Sequence[str], word: int) -> Iterator[int]:
    """Yield the word of each piece.

    A piece that matches nothing is assigned to the same word as the piece before it, the first one
    to ``word``.
    """
    theirs = [(char, i) for i, piece in enumerate(pieces) for char in _characters(piece)]
    matched: dict[int, int] = {}
    for a, b in _least_edits(ours, [char for char, _ in theirs]):
        matched.setdefault(theirs[b][1], ours[a].word)
    for i in range(len(pieces)):
        word = matched.get(i, word)
        yield word


def _characters(piece: str) -> Sequence[str]:
    if piece == UNKNOWN:
        return (UNKNOWN,)
    return piece[2:] if piece.startswith("##") else piece


def _least_edits(ours: Sequence[_Token], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Match the characters of our tokens with theirs by the fewest insertions and deletions.

    One ``[UNK]`` of theirs matches one whole token of ours at no cost. Returns pairs of indices
    ``(our token, their character)`` in order.
    """
    # costs[i][j] is the number of edits between the first i characters of ours and j of theirs.
    flat = [(char, k) for k, token in enumerate(ours) for char in token.text]
    starts, i = {}, 0
    for token in ours:
        starts[i + len(token.text)] = i
        i += len(token.text)
    # Compact arrays, because the table can be large.
    costs = [array("i", range(len(theirs) + 1))]
    for i, (char, _) in enumerate(flat, 1):
        above, row = costs[-1], array("i", [i])
        token_start = costs[starts[i]] if i in starts else None
        for j, other in enumerate(theirs, 1):
            cost = min(above[j], row[-1]) + 1
            if char == other:
                cost = min(cost, above[j - 1])
            if token_start is not None and other == UNKNOWN:
                cost = min(cost, token_start[j - 1])
            row.append(cost)
        costs.append(row)
    return _walk_back(costs, flat, theirs, starts)


def _walk_back(
    costs: Sequence[Sequence[int]],
    flat: Sequence[tuple[str, int]],
    theirs: Sequence[str],
    starts: dict[int, int],
) -> list[tuple[int, int]]:
    """Return the pairs of an optimal path through the table of costs."""
    pairs = []
    i, j = len(flat), len(theirs)
    while i and j:
        char, token = flat[i - 1]
        cost = costs[i][j]
        if char == theirs[j - 1] and cost == costs[i - 1][j - 1]:
            i, j = i - 1, j - 1
            pairs.append((token, j))
        elif theirs[j - 1] == UNKNOWN and i in starts and cost == costs[starts[i]][j - 1]:
            i, j = starts[i], j - 1
            pairs.append((token, j))
        elif cost == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def first_rows(counts: IntArray, words: Sequence[int], t: int, special: int = 1) -> IntArray:
    """Return the row of each word's first piece among the ``b * t`` vectors of a padded batch.

    Args:
        counts: ``(w,)``, the number of pieces of each word of all sentences.
        words: ``(b,)``, the number of words of each sentence.
        t: Rows of each sentence: special tokens, its pieces, special tokens and padding.
        special: The number of special tokens before the pieces.

    >>> first_rows(np.array([1, 2, 0, 3]), [2, 2], 7).tolist()
    [1, 2, 8, 8]
    """
    before: IntArray = np.cumsum(counts) - counts
    first = np.cumsum(words) - words
    starts = np.append(before, counts.sum())[first]
    before += np.repeat(np.arange(len(words)) * t + special - starts, words)
    return before
