"""Which pieces belong to which word.

A server gives the pieces of a sentence, not of its words. The basic tokens of every word are
known beforehand (:mod:`bert_tokemb.tokenization.basic`), and each of them gives either one
``[UNK]`` or pieces that spell it, the second and later ones marked with ``##``: so the pieces
can be dealt out to the words without guessing, :func:`align`. Only where the server's idea of
a character differs from ours does that fail, and :func:`align_closely` does what is nearest.

Both return how many pieces each word has. Pieces are dealt out in order and none is left over,
so the counts say everything: word ``j`` starts where word ``j - 1`` ends.
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
    """Count each word's pieces, or return None where tokens and pieces do not fit.

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
    # Each token owns the pieces from its first up to the next token's first.
    firsts = [i for i, piece in enumerate(pieces) if not piece.startswith("##")]
    firsts.append(len(pieces))
    counts, done = [], 0
    for word in words:
        end = done + len(word)
        counts.append(firsts[end] - firsts[done])
        done = end
    return counts


def spell(pieces: Sequence[str]) -> list[str]:
    """Join the pieces of each token: what ``pieces`` say the tokens were.

    >>> spell(["han", "##k", "!"])
    ['hank', '!']
    """
    return " ".join(pieces).replace(" ##", "").split(" ") if pieces else []


def unknown_words(pieces: Sequence[str], counts: Sequence[int]) -> list[bool]:
    """Tell for each word whether one of its pieces is ``[UNK]``.

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
    """Count each word's pieces so that as few characters as possible disagree.

    For pieces that do not spell the words: a server whose Unicode table is older deletes
    characters, splits or folds others differently. ``[UNK]`` may stand for any one token.
    Total: every piece goes to some word, unless there are no words at all.

    >>> align_closely([["ab"], ["☃"], ["cd"]], ["a", "##b", "cd"])
    [2, 0, 1]
    """
    if not words:
        return []
    ours = [_Token(token, j) for j, word in enumerate(words) for token in word]
    groups = list(_groups(pieces))
    front = _common(ours, groups)
    back = _common(ours[front:][::-1], groups[front:][::-1])
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
    text: str
    word: int


def _groups(pieces: Sequence[str]) -> Iterator[list[str]]:
    """Yield the pieces of one token after another."""
    group: list[str] = []
    for piece in pieces:
        if group and not piece.startswith("##"):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _common(ours: Sequence[_Token], groups: Sequence[list[str]]) -> int:
    """Count the leading tokens that their pieces spell."""
    n = 0
    for token, group in zip(ours, groups, strict=False):
        if spell(group) != [token.text]:
            break
        n += 1
    return n


def _nearest_words(ours: Sequence[_Token], pieces: Sequence[str], word: int) -> Iterator[int]:
    """Yield the word of each piece; ``word`` is where a piece goes that matches nothing."""
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
    """Pair characters at the least number of insertions and deletions.

    Dynamic programming over the characters of our tokens against theirs, where one ``[UNK]``
    of theirs may stand for one whole token of ours at no cost. Returns ``(token, their
    character)`` pairs in order.
    """
    # costs[i][j]: the least number of edits after i characters of ours and j of theirs.
    flat = [(char, k) for k, token in enumerate(ours) for char in token.text]
    starts, i = {}, 0
    for token in ours:
        starts[i + len(token.text)] = i
        i += len(token.text)
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


def first_rows(counts: IntArray, words: Sequence[int], t: int) -> IntArray:
    """Return where each word's pieces begin among the ``b * t`` rows of a batch's vectors.

    Args:
        counts: ``(w,)``, the pieces of each word of all sentences.
        words: ``(b,)``, the words of each sentence.
        t: The rows of each sentence: ``[CLS]``, its pieces, ``[SEP]``, and padding.

    >>> first_rows(np.array([1, 2, 0, 3]), [2, 2], 7).tolist()
    [1, 2, 8, 8]
    """
    before: IntArray = np.cumsum(counts) - counts
    # A sentence's first piece is in the row behind [CLS], whatever was before.
    first = np.cumsum(words) - words
    starts = np.append(before, counts.sum())[first]
    before += np.repeat(np.arange(len(words)) * t + 1 - starts, words)
    return before
