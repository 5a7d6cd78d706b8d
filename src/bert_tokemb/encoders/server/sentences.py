"""Sentences as they are sent to a server: their text, and estimates of their pieces.

The number of pieces depends on the vocabulary, which the client does not have.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ...types import BatchLimits, PreparedSentence
from .connection import Text

__all__ = [
    "SPECIAL",
    "ServerSentence",
    "as_text",
    "estimate_pieces",
    "minimum_pieces",
    "padded_batches",
]

SPECIAL = 2
"""``[CLS]`` and ``[SEP]``, which count towards ``max_seq_len``."""


@dataclass(frozen=True, slots=True)
class ServerSentence(PreparedSentence):
    """A sentence with the basic tokens of its words."""

    tokens: Sequence[Sequence[str]]


def as_text(words: Sequence[str]) -> str:
    """Join words so that the server splits them in the same way and reads a single sentence.

    The server reads ``a ||| b`` as a pair of sentences. BERT splits off punctuation in any case,
    so ``| | |`` has the same pieces.

    >>> as_text(["this", "|||", "that", "||||"])
    'this | | | that ||||'
    """
    return " ".join("| | |" if word == "|||" else word for word in words)


def estimate_pieces(tokens: Iterable[str]) -> int:
    """Estimate the number of pieces of basic tokens.

    Fitted to the vocabulary of bert-base-uncased and English web text, where tokens of up to 6
    characters have 1.0 to 1.1 pieces on average, and tokens of 12 characters 1.6.

    >>> estimate_pieces(["hello", "embeddings", "incomprehensible"])
    4
    """
    return sum(1 + max(0, len(token) - 6) // 6 for token in tokens)


def padded_batches(
    texts: Iterable[Text], limits: BatchLimits, fixed_length: int | None
) -> Iterator[list[Text]]:
    """Divide texts into requests, in order.

    A server pads all texts of a request to the longest, so a long text is not sent with many short
    ones.

    Args:
        texts: Sentences, or the pieces of sentences.
        limits: The most texts of a request, and the most pieces, padding included.
        fixed_length: The length to which the server pads all texts; None for that of the longest.

    >>> list(padded_batches(["a", "b", "c d e f g h"], BatchLimits(pieces=16, sentences=9), None))
    [['a', 'b'], ['c d e f g h']]
    """
    batch: list[Text] = []
    longest = 0
    for text in texts:
        pieces = estimate_pieces(text.split()) if isinstance(text, str) else len(text)
        length = fixed_length or SPECIAL + pieces
        longest = max(longest, length)
        if batch and (len(batch) >= limits.sentences or (len(batch) + 1) * longest > limits.pieces):
            yield batch
            batch, longest = [], length
        batch.append(text)
    if batch:
        yield batch


def minimum_pieces(sentence: ServerSentence) -> int:
    """Return how many pieces the sentence has at least: one for each of its basic tokens.

    Only words whose characters were all assigned by Unicode 3.2 (2002) count. A server with an
    older Unicode table than ours deletes newer characters, so that a word may have no pieces, or
    two of our tokens may be one of its tokens.
    """
    category = unicodedata.ucd_3_2_0.category
    return sum(
        len(tokens)
        for word, tokens in zip(sentence.sentence.words, sentence.tokens, strict=True)
        if word.isascii() or not any(category(char).startswith("C") for char in word)
    )
