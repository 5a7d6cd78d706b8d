"""Batches of alike length, out of a look-ahead of bounded size.

A batch is padded to its longest sentence. So a stretch of the text is read ahead, sorted by
length and cut into batches; the arrays that come back wait on a *shelf* until the stretch is
complete, and leave it in the text's order. Equal sentences of a stretch are encoded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .types import Budget, Embedded, P, Prepared, Sentence

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
    mark: Any = None
    """What the caller wants to know of the text's state behind the last line."""
    wanted: Counter[int] = field(default_factory=Counter)
    """For each sentence that is encoded, by its line, how many lines have not had it yet."""
    equal: dict[int, int] = field(default_factory=dict)
    """For each sentence that was there before, the line of the one that is encoded."""
    done: dict[int, Embedded] = field(default_factory=dict)
    """By line, what was encoded and not taken for the last time."""

    @property
    def complete(self) -> bool:
        """Whether every sentence is here."""
        return len(self.done) == len(self.wanted)

    def take(self, line: int) -> Embedded | None:
        """Take a line's sentence, in the lines' order; None for a blank line."""
        first = self.equal.pop(line, line)
        if first not in self.done:
            return None
        self.wanted[first] -= 1
        if self.wanted[first]:
            # The array itself goes to the last one, so that whoever has another may write to it.
            one = self.done[first]
            return replace(one, line=line, array=one.array.copy())
        return replace(self.done.pop(first), line=line)


def read_ahead(
    lines: Iterable[tuple[int, str]],
    prepare: Callable[[Sentence], P],
    bytes_per_word: int,
    size: int,
    mark: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[Shelf, list[P]]]:
    """Yield stretches whose results take about ``size`` bytes, at least one sentence each.

    Args:
        lines: Numbered.
        prepare: Makes of a sentence what is encoded.
        bytes_per_word: What the result takes.
        size: How much of the text is read.
        mark: Called behind the last line of each stretch.
    """
    shelf: Shelf | None = None
    prepared, known, used = list[P](), dict[str, int](), 0
    for number, line in lines:
        if shelf is None:
            shelf, prepared, known, used = Shelf(first_line=number), [], {}, 0
        shelf.last_line = number
        if words := line.split():
            first = known.setdefault(" ".join(words), number)
            shelf.wanted[first] += 1
            if first == number:
                prepared.append(prepare(Sentence(number, words)))
            else:
                shelf.equal[number] = first
            used += _OVERHEAD + len(words) * (bytes_per_word + _OVERHEAD_PER_WORD)
            used += len(line) * (_OVERHEAD_PER_ASCII if line.isascii() else _OVERHEAD_PER_CHARACTER)
            if used >= size:
                shelf.mark = mark()
                yield shelf, prepared
                shelf = None
    if shelf is not None:
        shelf.mark = mark()
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
