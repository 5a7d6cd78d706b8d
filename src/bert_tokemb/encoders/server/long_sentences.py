"""Sentences that a server would cut, asked for in windows.

The server is asked for some words at a time until the pieces of every word are known; then for
the windows, as pieces, which it takes as they are. What a word gives does not depend on the words
around it: so the windows are those that the embedded engine has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from ...errors import ServerError
from ...tokenization.alignment import align
from ...tokenization.basic import UNKNOWN
from ...tokenization.windows import windows_of
from ...types import BatchLimits, EncodedBatch, FloatArray, Sentence
from ..windowed import joined
from .connection import Text, as_text
from .requests import Exchange, Request

__all__ = ["LongSentenceEncoder", "estimate"]


class LongSentenceEncoder:
    """Gets the vectors of long sentences, one after the other.

    Args:
        exchange: With the server.
        budget: What is asked for at a time.
        under_way: How many requests are under way at a time.
        width: Of the server's vectors.
        dtype: Their type.
        no_special_token: Whether the server was started with ``-no_special_token``.
    """

    def __init__(
        self,
        exchange: Exchange,
        budget: BatchLimits,
        under_way: int,
        *,
        width: int,
        dtype: np.dtype[Any],
        no_special_token: bool,
    ) -> None:
        self._exchange = exchange
        self._width = width
        self._dtype = dtype
        self._budget = budget
        self._most = under_way
        # Then it puts none around pieces, which it does around a text.
        self._around = (["[CLS]"], ["[SEP]"]) if no_special_token else ([], [])

    def encode(
        self, sentence: Sentence, tokens: Sequence[Sequence[str]], limit: int
    ) -> EncodedBatch:
        """Return the vectors of a sentence.

        Args:
            sentence: One of more than ``limit`` pieces.
            tokens: The basic tokens of each word.
            limit: The most pieces that the server takes, special ones not counted.

        Raises:
            ServerError: the server fell silent, or takes pieces for others.
        """
        pieces = self.pieces(sentence, tokens, limit)
        counts = np.fromiter(map(len, pieces), np.intp, len(pieces))
        flat = list(chain.from_iterable(pieces))
        windows = windows_of(counts.tolist(), limit)
        return joined(
            sentence,
            counts,
            [UNKNOWN in own for own in pieces],
            windows,
            self._vectors([flat[window.start : window.end] for window in windows], sentence.line),
            np.empty((len(flat), self._width), self._dtype),
        )

    def pieces(
        self, sentence: Sentence, tokens: Sequence[Sequence[str]], limit: int
    ) -> list[Sequence[str]]:
        """Return the pieces of each word; arguments are those of :meth:`encode`."""
        pieces: list[Sequence[str]] = [()] * len(tokens)
        chunks = deque(_chunks(tokens, limit))
        while chunks:
            asked = list(islice(_drain(chunks), self._most * self._budget.sentences))
            texts = [as_text(sentence.words[start:end]) for start, end in asked]
            for (start, end), own in zip(asked, self._pieces(texts, sentence.line), strict=True):
                counts = align(tokens[start:end], own)
                if counts is not None:
                    rest = iter(own)
                    pieces[start:end] = [list(islice(rest, count)) for count in counts]
                elif end - start > 1:
                    middle = (start + end) // 2
                    chunks.extend([(start, middle), (middle, end)])
                elif len(own) < limit:  # a word whose characters are others to the server
                    pieces[start] = own
                else:
                    pieces[start] = self._learn_long_word(tokens[start], sentence.line, limit)
        return pieces

    def _learn_long_word(self, tokens: Sequence[str], line: int, limit: int) -> list[str]:
        """Return the pieces of a word of at least ``limit``."""
        pieces: list[str] = []
        for token, own in zip(tokens, self._pieces(tokens, line), strict=True):
            pieces += own
            if len(own) >= limit:
                pieces += self._learn_rest(token, own, line, limit)
        return pieces

    def _learn_rest(self, token: str, begin: Sequence[str], line: int, limit: int) -> list[str]:
        """Return the pieces of a token behind the first ones, which are given.

        Each is the longest piece there is (Wu et al. 2016, as BERT's ``tokenization.py`` has
        it). Pieces that the server does not have come back as ``[UNK]``.
        """
        rest: list[str] = []
        done = sum(len(piece.removeprefix("##")) for piece in begin)
        while done < len(token):
            longest_first = [f"##{token[done:end]}" for end in range(len(token), done, -1)]
            lists = [longest_first[i : i + limit] for i in range(0, len(longest_first), limit)]
            answers = chain.from_iterable(self._pieces(lists, line))
            piece = next((piece for piece in answers if piece != UNKNOWN), None)
            if piece is None:  # a server whose characters are not ours
                break
            rest.append(piece)
            done += len(piece) - 2
        return rest

    def _pieces(self, texts: Sequence[Text], line: int) -> list[list[str]]:
        """Return the pieces of each text, or of each list of pieces."""
        answers: list[list[str]] = []
        for request in self._requests(texts, line):
            answers += [pieces[1:-1] for pieces in self._exchange.wait(request).pieces]
        return answers

    def _vectors(self, windows: Sequence[list[str]], line: int) -> Iterator[FloatArray]:
        """Yield the vectors of each window, ``(t, c)`` with that of ``[CLS]`` first."""
        done = 0
        for request in self._requests(windows, line):
            reply = self._exchange.wait(request)
            for own, vectors in zip(reply.pieces, reply.vectors, strict=True):
                if own[1:-1] != windows[done]:
                    raise ServerError(
                        f"line {line}: the server was asked for pieces and gave others: give "
                        "--long-sentences error, and split the lines that are too long"
                    )
                done += 1
                yield vectors

    def _requests(self, texts: Sequence[Text], line: int) -> Iterator[Request]:
        """Send texts, some requests ahead of those that are looked at."""
        under_way: deque[Request] = deque()
        for batch in self._batches(texts):
            under_way.append(self._exchange.send(batch, [line] * len(batch)))
            if len(under_way) >= self._most:
                yield under_way.popleft()
        yield from _drain(under_way)

    def _batches(self, texts: Sequence[Text]) -> Iterator[list[Text]]:
        before, behind = self._around
        batch: list[Text] = []
        size = 0
        for text in texts:
            length = _length(text)
            if batch and (
                len(batch) >= self._budget.sentences or size + length > self._budget.pieces
            ):
                yield batch
                batch, size = [], 0
            batch.append(text if isinstance(text, str) else [*before, *text, *behind])
            size += length
        if batch:
            yield batch


def estimate(tokens: Iterable[str]) -> int:
    """Guess the pieces of basic tokens without the vocabulary.

    Fitted to bert-base-uncased's vocabulary and English web text, where tokens of up to 6
    characters have 1.0 to 1.1 pieces on average, of 12 characters 1.6.
    """
    return sum(1 + max(0, len(token) - 6) // 6 for token in tokens)


def _chunks(tokens: Sequence[Sequence[str]], limit: int) -> Iterator[tuple[int, int]]:
    """Yield runs of words, first and last but one, that a server will hardly cut."""
    start = size = 0
    for j, own in enumerate(tokens):
        length = estimate(own)
        if j > start and 2 * (size + length) > limit:
            yield start, j
            start, size = j, 0
        size += length
    yield start, len(tokens)


def _length(text: Text) -> int:
    return estimate(text.split()) if isinstance(text, str) else len(text)


T = TypeVar("T")


def _drain(queue: deque[T]) -> Iterator[T]:
    while queue:
        yield queue.popleft()
