"""Batches of alike length, out of a look-ahead of bounded size.

A batch is padded to its longest sentence. So a stretch of the text is read ahead, sorted by
length and cut into batches; the arrays that come back wait on a *shelf* until the stretch is
complete, and leave it in the text's order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .types import Budget, Counts, FloatArray, P, Prepared, Sentence

__all__ = ["Shelf", "cut_into_batches", "read_ahead"]

# What a sentence takes besides its vectors: the array itself, its words and basic tokens. Those
# of ASCII words are shared or share their characters, an ideograph is a string of its own.
_OVERHEAD = 1024
_OVERHEAD_PER_WORD = 256
_OVERHEAD_PER_ASCII = 8
_OVERHEAD_PER_CHARACTER = 100


@dataclass(slots=True)
class Shelf:
    """A stretch of consecutive lines; the arrays of its sentences, as far as they came."""

    first_line: int
    last_line: int = 0
    sentences: int = 0
    """Lines that are not blank."""
    arrays: dict[int, FloatArray] = field(default_factory=dict)
    """By line; none for blank ones."""
    words: dict[int, Sequence[str]] = field(default_factory=dict)
    """By line; none for blank ones."""
    odd_words: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """By line, the first unknown word or word without pieces, and whether it is the latter."""
    counts: Counts = field(default_factory=Counts)

    @property
    def complete(self) -> bool:
        """Whether the array of every sentence is here."""
        return len(self.arrays) == self.sentences


def read_ahead(
    lines: Iterable[str], prepare: Callable[[Sentence], P], bytes_per_word: int, size: int
) -> Iterator[tuple[Shelf, list[P]]]:
    """Yield stretches whose results take about ``size`` bytes, at least one sentence each."""
    shelf, prepared, used = Shelf(first_line=1), list[P](), 0
    for number, line in enumerate(lines, 1):
        shelf.last_line = number
        words = line.split()
        if not words:
            continue
        shelf.sentences += 1
        prepared.append(prepare(Sentence(number, words)))
        used += _OVERHEAD + len(words) * (bytes_per_word + _OVERHEAD_PER_WORD)
        used += len(line) * (_OVERHEAD_PER_ASCII if line.isascii() else _OVERHEAD_PER_CHARACTER)
        if used >= size:
            yield shelf, prepared
            shelf, prepared, used = Shelf(first_line=number + 1), [], 0
    if shelf.last_line:
        yield shelf, prepared


def cut_into_batches(prepared: Iterable[P], budget: Budget) -> Iterator[Sequence[P]]:
    """Sort sentences, longest first, and cut them where the budget is full when padded.

    Where it asks for uniform batches, they are also cut where the length changes.

    The longest come first so that one that is too long is met at once.
    """
    batch: list[P] = []
    for one in sorted(prepared, key=lambda one: one.length, reverse=True):
        if batch and _is_full(batch, one, budget):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _is_full(batch: Sequence[Prepared], one: Prepared, budget: Budget) -> bool:
    return (
        len(batch) >= budget.sentences
        or batch[0].length * (len(batch) + 1) > budget.pieces
        or (budget.uniform and one.length < batch[0].length)
    )
