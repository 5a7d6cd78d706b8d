"""Windows: overlapping parts of a sentence that is too long for the model.

A window consists of whole words. The vectors of each word are taken from the window in which its
shorter context, before or after it, is longest. All lengths are in pieces, so only the number of
pieces of each word is needed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf
from typing import NamedTuple

__all__ = ["Window", "windows_of"]


class Window(NamedTuple):
    """The pieces ``start`` to ``end - 1`` of a sentence.

    The vectors of ``kept_start`` to ``kept_end - 1`` are taken from this window. The kept ranges of
    all windows adjoin, so that each piece has one vector.
    """

    start: int
    end: int
    kept_start: int
    kept_end: int


def windows_of(counts: Sequence[int], limit: int) -> list[Window]:
    """Cover a sentence with windows, each of which starts about half a window after the previous.

    Args:
        counts: The number of pieces of each word. Words of more than ``limit`` pieces are split.
        limit: The most pieces in a window, special tokens excluded.

    >>> for window in windows_of([1, 1, 1, 2, 1, 1, 1], 4):
    ...     print(window)
    Window(start=0, end=3, kept_start=0, kept_end=3)
    Window(start=2, end=6, kept_start=3, kept_end=6)
    Window(start=5, end=8, kept_start=6, kept_end=8)
    """
    edges = _edges(counts, limit)
    spans = list(_spans(edges, limit))
    borders = [_border(edges, span, following) for span, following in pairwise(spans)]
    kept = pairwise([0, *borders, edges[-1]])
    return [Window(*span, *own) for span, own in zip(spans, kept, strict=True)]


def _edges(counts: Sequence[int], limit: int) -> list[int]:
    """Return the positions between pieces at which a window may start or end."""
    sizes: list[int] = []
    for count in counts:
        sizes += [count] if count <= limit else [1] * count
    return list(accumulate((size for size in sizes if size), initial=0))


def _spans(edges: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each window; both increase from window to window."""
    start, last = 0, len(edges) - 1
    while (end := bisect_right(edges, edges[start] + limit) - 1) < last:
        yield edges[start], edges[end]
        # Usually the next window starts at half of this one. If a long word follows, it starts
        # late enough to contain that word, but not after the end of this window.
        half = edges[start] + max(1, limit // 2)
        start = min(bisect_left(edges, max(half, edges[end + 1] - limit)), end)
    # The last window starts as early as possible, for more context.
    yield edges[bisect_left(edges, edges[-1] - limit)], edges[-1]


def _border(edges: Sequence[int], span: tuple[int, int], following: tuple[int, int]) -> int:
    """Return the first piece that has more context in the following window.

    From window to window the context before a word shrinks, and the context after it grows. So if
    the following window is not better, no later one is.
    """
    unit = bisect_left(edges, following[0])
    while _context(edges, unit, following) <= _context(edges, unit, span):
        unit += 1
    return edges[unit]


def _context(edges: Sequence[int], unit: int, span: tuple[int, int]) -> float:
    """Return the length of the shorter context of a word; negative if it is not in the window."""
    before = edges[unit] - span[0] if span[0] else inf
    after = span[1] - edges[unit + 1] if span[1] < edges[-1] else inf
    return min(before, after)
