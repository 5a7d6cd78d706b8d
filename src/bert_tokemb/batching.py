"""Batches of similar length from a look-ahead of bounded size, and results back in input order.

A batch is padded to its longest sentence. A chunk of consecutive lines is therefore read ahead,
sorted by length and cut into batches. The results wait in a *reorder buffer* until the chunk is
complete, and leave it in input order. Equal sentences of a chunk are encoded once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .types import BatchLimits, EmbeddedSentence, P, PreparedSentence, Sentence

__all__ = ["ReorderBuffer", "make_batches", "read_chunks"]

# Bytes that a sentence takes in addition to its vectors: the array object, its words and its basic
# tokens. ASCII words share objects or characters; each ideograph is a string of its own.
_PER_SENTENCE = 1024
_PER_WORD = 256
_PER_ASCII_CHARACTER = 8
_PER_CHARACTER = 100


@dataclass(slots=True)
class ReorderBuffer:
    """The results of one chunk, until the chunk is complete."""

    first_line: int
    last_line: int = 0
    resume_point: Any = None
    """The state of the text after the last line, as the caller recorded it."""
    remaining_uses: Counter[int] = field(default_factory=Counter)
    """Maps the line of each encoded sentence to the number of lines that still need its result."""
    duplicate_of: dict[int, int] = field(default_factory=dict)
    """Maps the line of each repeated sentence to that of the equal sentence that is encoded."""
    done: dict[int, EmbeddedSentence] = field(default_factory=dict)
    """Maps lines to results that are still needed."""

    @property
    def complete(self) -> bool:
        """Whether every sentence has its result."""
        return len(self.done) == len(self.remaining_uses)

    def take(self, line: int) -> EmbeddedSentence | None:
        """Return the result of a line, or None for a blank line. Call it once for each line."""
        encoded = self.duplicate_of.pop(line, line)
        if encoded not in self.done:
            return None
        self.remaining_uses[encoded] -= 1
        if self.remaining_uses[encoded]:
            # Copies for all but the last, so that each array can be written to.
            sentence = self.done[encoded]
            return replace(sentence, line=line, array=sentence.array.copy())
        return replace(self.done.pop(encoded), line=line)


def read_chunks(
    lines: Iterable[tuple[int, str]],
    prepare: Callable[[Sentence], P],
    bytes_per_word: int,
    look_ahead: int,
    record: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[ReorderBuffer, list[P]]]:
    """Yield chunks of lines with at least one sentence each.

    Args:
        lines: Line numbers and lines.
        prepare: Prepares a sentence for its encoder.
        bytes_per_word: Size of a word's vector.
        look_ahead: Bytes that the results of a chunk take, approximately.
        record: Called after the last line of each chunk; returns its ``resume_point``.

    Yields:
        An empty reorder buffer, and the distinct sentences to encode.
    """
    buffer: ReorderBuffer | None = None
    prepared, first_seen, size = list[P](), dict[str, int](), 0
    for number, line in lines:
        if buffer is None:
            buffer, prepared, first_seen, size = ReorderBuffer(number), [], {}, 0
        buffer.last_line = number
        if words := line.split():
            encoded = first_seen.setdefault(" ".join(words), number)
            buffer.remaining_uses[encoded] += 1
            if encoded == number:
                prepared.append(prepare(Sentence(number, words)))
            else:
                buffer.duplicate_of[number] = encoded
            size += _PER_SENTENCE + len(words) * (bytes_per_word + _PER_WORD)
            size += len(line) * (_PER_ASCII_CHARACTER if line.isascii() else _PER_CHARACTER)
            if size >= look_ahead:
                buffer.resume_point = record()
                yield buffer, prepared
                buffer = None
    if buffer is not None:
        buffer.resume_point = record()
        yield buffer, prepared


def make_batches(prepared: Iterable[P], limits: BatchLimits) -> Iterator[Sequence[P]]:
    """Sort sentences by length and cut them into batches that respect the limits.

    The longest come first, so that a sentence that is too long is found at once.
    """
    batch: list[P] = []
    for sentence in sorted(prepared, key=lambda one: one.length, reverse=True):
        if batch and _is_full(batch, sentence, limits):
            yield batch
            batch = []
        batch.append(sentence)
    if batch:
        yield batch


def _is_full(
    batch: Sequence[PreparedSentence], following: PreparedSentence, limits: BatchLimits
) -> bool:
    longest = batch[0].length
    return (
        len(batch) >= limits.sentences
        or longest * (len(batch) + 1) > limits.pieces
        or (limits.uniform and following.length < longest)
    )
