"""Sentences that a server would cut, encoded in windows.

First the server is asked for a few words at a time, until the pieces of every word are known. Then
it is sent the windows as pieces, which it does not tokenize again. The pieces of a word do not
depend on the words around it, so the windows are the same as those of the local encoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from ...errors import PiecesRefusedError
from ...tokenization.alignment import align
from ...tokenization.basic import UNKNOWN
from ...tokenization.windows import windows_of
from ...types import BatchLimits, EncodedBatch, FloatArray, Sentence
from ..vectors import join_windows
from .connection import Text
from .requests import Request, RequestQueue
from .sentences import as_text, estimate_pieces, padded_batches

__all__ = ["LongSentenceEncoder"]

T = TypeVar("T")


class LongSentenceEncoder:
    """Encodes long sentences, one after the other.

    Args:
        requests: Requests to the server.
        batch_limits: The most pieces and sentences of a request.
        max_in_flight: The most requests that are in flight at the same time.
        max_seq_len: The server's setting; None for NONE.
        width: The width of the server's vectors.
        dtype: Their data type.
        no_special_token: Whether the server was started with ``-no_special_token``.
    """

    def __init__(
        self,
        requests: RequestQueue,
        batch_limits: BatchLimits,
        max_in_flight: int,
        max_seq_len: int | None,
        *,
        width: int,
        dtype: np.dtype[Any],
        no_special_token: bool,
    ) -> None:
        self._requests = requests
        self._batch_limits = batch_limits
        self._max_in_flight = max_in_flight
        self._fixed_length = max_seq_len
        self._width = width
        self._dtype = dtype
        # Such a server does not enclose pieces in special tokens, although it does so with text.
        self._enclosing = (["[CLS]"], ["[SEP]"]) if no_special_token else ([], [])

    def encode(
        self, sentence: Sentence, tokens: Sequence[Sequence[str]], limit: int
    ) -> EncodedBatch:
        """Return the vectors of a sentence.

        Args:
            sentence: A sentence of more than ``limit`` pieces.
            tokens: The basic tokens of each word.
            limit: The most pieces that the server accepts, special tokens excluded.

        Raises:
            PiecesRefusedError: if the server does not take pieces as they are.
            ServerError: if the server does not answer.
        """
        pieces = self.pieces(sentence, tokens, limit)
        counts = np.fromiter(map(len, pieces), np.intp, len(pieces))
        flat = list(chain.from_iterable(pieces))
        windows = windows_of(counts.tolist(), limit)
        return join_windows(
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
        """Return the pieces of each word; see :meth:`encode` for the arguments."""
        pieces: list[Sequence[str]] = [()] * len(tokens)
        spans = deque(_spans(tokens, limit))
        while spans:
            batch = list(islice(_drain(spans), self._max_in_flight * self._batch_limits.sentences))
            texts = [as_text(sentence.words[start:end]) for start, end in batch]
            for (start, end), own in zip(batch, self._pieces(texts, sentence.line), strict=True):
                counts = align(tokens[start:end], own)
                if counts is not None:
                    rest = iter(own)
                    pieces[start:end] = [list(islice(rest, count)) for count in counts]
                elif end - start > 1:
                    middle = (start + end) // 2
                    spans.extend([(start, middle), (middle, end)])
                elif len(own) < limit:  # the server treats some of its characters differently
                    pieces[start] = own
                else:
                    pieces[start] = self._long_word(tokens[start], sentence.line, limit)
        return pieces

    def _long_word(self, tokens: Sequence[str], line: int, limit: int) -> list[str]:
        """Return the pieces of a word that has at least ``limit`` of them."""
        pieces: list[str] = []
        for token, own in zip(tokens, self._pieces(tokens, line), strict=True):
            pieces += own
            if len(own) >= limit:
                pieces += self._rest_of_token(token, own, line, limit)
        return pieces

    def _rest_of_token(self, token: str, known: Sequence[str], line: int, limit: int) -> list[str]:
        """Return the pieces of a token after the first ones, which are known.

        Each piece is the longest prefix of the rest that is in the vocabulary, as in BERT's
        ``tokenization.py``. The server is sent all prefixes as pieces, and returns ``[UNK]`` for
        those that are not in the vocabulary.
        """
        rest: list[str] = []
        done = sum(len(piece.removeprefix("##")) for piece in known)
        while done < len(token):
            longest_first = [f"##{token[done:end]}" for end in range(len(token), done, -1)]
            lists = [longest_first[i : i + limit] for i in range(0, len(longest_first), limit)]
            replies = chain.from_iterable(self._pieces(lists, line))
            piece = next((piece for piece in replies if piece != UNKNOWN), None)
            if piece is None:  # the server treats some of its characters differently
                break
            rest.append(piece)
            done += len(piece) - 2
        return rest

    def _pieces(self, texts: Sequence[Text], line: int) -> list[list[str]]:
        """Return the pieces of each text, or of each list of pieces."""
        found: list[list[str]] = []
        for request in self._send(texts, line):
            found += [pieces[1:-1] for pieces in self._requests.wait(request).pieces]
        return found

    def _vectors(self, windows: Sequence[list[str]], line: int) -> Iterator[FloatArray]:
        """Yield the vectors of each window, ``(t, c)``; the first row belongs to ``[CLS]``."""
        done = 0
        for request in self._send(windows, line):
            reply = self._requests.wait(request)
            for own, vectors in zip(reply.pieces, reply.vectors, strict=True):
                if own[1:-1] != windows[done]:
                    raise PiecesRefusedError(line)
                done += 1
                yield vectors

    def _send(self, texts: Sequence[Text], line: int) -> Iterator[Request]:
        """Send texts in batches; yield the requests while later ones are in flight."""
        in_flight: deque[Request] = deque()
        before, after = self._enclosing
        sent = (text if isinstance(text, str) else [*before, *text, *after] for text in texts)
        for batch in padded_batches(sent, self._batch_limits, self._fixed_length):
            in_flight.append(self._requests.send(batch, [line] * len(batch)))
            if len(in_flight) >= self._max_in_flight:
                yield in_flight.popleft()
        yield from _drain(in_flight)


def _spans(tokens: Sequence[Sequence[str]], limit: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of words that are so short that the server will rarely cut them."""
    start = size = 0
    for j, own in enumerate(tokens):
        length = estimate_pieces(own)
        if j > start and 2 * (size + length) > limit:
            yield start, j
            start, size = j, 0
        size += length
    yield start, len(tokens)


def _drain(queue: deque[T]) -> Iterator[T]:
    while queue:
        yield queue.popleft()
