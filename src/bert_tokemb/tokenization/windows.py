"""Sentences that are too long for the model, in overlapping windows.

A window is a run of whole words that the model takes at once. Every word takes its vectors from
the window in which it has the most context on its poorer side. All is counted in pieces, so that
only the number of each word's pieces need be known.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

__all__ = ["Window", "windows_of"]


class Window(NamedTuple):
    """The pieces ``start`` to ``end - 1`` of a sentence, computed together.

    The vectors of ``kept_start`` to ``kept_end - 1`` are taken from it. Those of all windows
    follow one another, so that every piece has one vector.
    """

    start: int
    end: int
    kept_start: int
    kept_end: int


def windows_of(counts: Sequence[int], limit: int) -> list[Window]:
    """Cover a sentence with windows, each of which begins about half a window after the last.

    Args:
        counts: The pieces of each word. A word of more than ``limit`` pieces is cut apart, and
            no other.
        limit: The most pieces of a window, special ones not counted.

    >>> for window in windows_of([1, 1, 1, 2, 1, 1, 1], 4):
    ...     print(window.start, window.end, "of which", window.kept_start, window.kept_end)
    0 3 of which 0 3
    2 6 of which 3 6
    5 8 of which 6 8
    """
    edges = _edges(counts, limit)
    spans = list(_spans(edges, limit))
    borders = [_border(edges, span, following) for span, following in pairwise(spans)]
    kept = pairwise([0, *borders, edges[-1]])
    return [Window(*span, *own) for span, own in zip(spans, kept, strict=True)]


def _edges(counts: Sequence[int], limit: int) -> list[int]:
    """Return the places where the pieces may be cut, both ends included."""
    sizes: list[int] = []
    for count in counts:
        sizes += [count] if count <= limit else [1] * count
    return list(accumulate((size for size in sizes if size), initial=0))


def _spans(edges: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the first piece of each window, and the one behind its last.

    Both grow from each window to the next.
    """
    start, last = 0, len(edges) - 1
    while (end := bisect_right(edges, edges[start] + limit) - 1) < last:
        yield edges[start], edges[end]
        # Sooner or later than the half where a long word follows: as late as leaves no gap, as
        # early as lets the next window go further.
        half = edges[start] + max(1, limit // 2)
        start = min(bisect_left(edges, max(half, edges[end + 1] - limit)), end)
    # The last one begins as early as it may: context costs nothing there.
    yield edges[bisect_left(edges, edges[-1] - limit)], edges[-1]


def _border(edges: Sequence[int], span: tuple[int, int], following: tuple[int, int]) -> int:
    """Return the first piece that is better off in the following window.

    From window to window the context before a word only shrinks, and that behind it only grows:
    if the next is no better, no later one is.
    """
    unit = bisect_left(edges, following[0])
    while _context(edges, unit, following) <= _context(edges, unit, span):
        unit += 1
    return edges[unit]


def _context(edges: Sequence[int], unit: int, span: tuple[int, int]) -> float:
    """Count the pieces on the poorer side; negative for what is not in the window."""
    before = edges[unit] - span[0] if span[0] else inf
    behind = span[1] - edges[unit + 1] if span[1] < edges[-1] else inf
    return min(before, behind)
