"""Windows of long sentences, and the part that is kept of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_tokemb.tokenization.windows import Window, windows_of
from support.texts import EXAMPLES


def units_of(counts: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges that no window may split: words, or pieces of words that are too long."""
    done = 0
    for count in counts:
        if count <= limit:
            yield done, done + count
        else:
            yield from ((done + i, done + i + 1) for i in range(count))
        done += count


def context(unit: tuple[int, int], window: Window, end: int) -> float:
    """Return the length of the shorter context of a unit, -1 if it is not in the window."""
    if not window.start <= unit[0] <= unit[1] <= window.end:
        return -1
    before = inf if window.start == 0 else unit[0] - window.start
    after = inf if window.end == end else window.end - unit[1]
    return min(before, after)


counts_of_words = st.lists(st.integers(0, 12) | st.just(1), min_size=1, max_size=60)


@EXAMPLES
def test_words_are_taken_from_the_window_with_most_context(examples: int) -> None:
    @settings(max_examples=examples)
    @given(counts_of_words, st.integers(1, 25))
    @example([1] * 5 + [3, 8], 5)
    def check(counts: list[int], limit: int) -> None:
        windows, end = windows_of(counts, limit), sum(counts)
        assert all(window.end - window.start <= limit for window in windows)
        for unit in units_of(counts, limit):
            if unit[0] < unit[1]:
                best = max(windows, key=lambda window: context(unit, window, end))  # the first
                assert context(unit, best, end) >= 0
                assert best.kept_start <= unit[0]
                assert unit[1] <= best.kept_end
        assert [windows[0].kept_start, windows[-1].kept_end] == [0, end]
        assert all(a.kept_end == b.kept_start for a, b in pairwise(windows))
        assert all(a.start < b.start <= a.end < b.end for a, b in pairwise(windows))

    check()


@pytest.mark.parametrize("limit", [10, 64, 510])
def test_context_is_at_least_a_quarter_of_a_window(limit: int) -> None:
    n = 10 * limit + 7
    windows = windows_of([1] * n, limit)
    shortest = min(
        max(context((i, i + 1), window, n) for window in windows[max(0, i // limit - 1) :])
        for i in range(n)
    )
    assert shortest >= limit // 4 - 1
    # That costs about twice the computation.
    assert sum(window.end - window.start for window in windows) < 2.1 * n


def test_last_window_is_as_long_as_the_others() -> None:
    assert windows_of([1] * 11, 10) == [Window(0, 10, 0, 6), Window(1, 11, 6, 11)]


def test_sentence_within_the_limit_is_one_window() -> None:
    assert windows_of([2, 0, 3], 5) == [Window(0, 5, 0, 5)]
