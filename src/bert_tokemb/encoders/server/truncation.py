"""Finding the sentences that a server has truncated.

A server silently truncates sentences that are longer than its ``max_seq_len`` or, if that is NONE,
than its model accepts. No setting contains the limit of the model: it is found when a sentence has
been truncated.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import maxsize
from typing import NamedTuple

from ...tokenization.alignment import align, align_closely, spell
from ...types import BatchLimits
from .requests import HARMLESS, RequestQueue
from .sentences import SPECIAL, ServerSentence, as_text, minimum_pieces, padded_batches

__all__ = ["Alignment", "LengthLimit"]

_MANY = 1024  # pieces; most models accept fewer


class Alignment(NamedTuple):
    """The number of pieces of each word of a sentence."""

    counts: list[int]
    exact: bool
    """False for a guess."""


class LengthLimit:
    """The most pieces of a sentence that a server accepts.

    Args:
        requests: Requests to the server.
        max_seq_len: The server's setting; None for NONE.
        batch_limits: The most sentences and pieces of a request.
    """

    def __init__(
        self, requests: RequestQueue, max_seq_len: int | None, batch_limits: BatchLimits
    ) -> None:
        self._requests = requests
        self._batch_limits = batch_limits
        self._fixed_length = max_seq_len
        self.pieces = max_seq_len - SPECIAL if max_seq_len else maxsize
        """The limit, special tokens excluded; ``sys.maxsize`` while it is unknown."""
        # The most pieces in any reply so far. A sentence with fewer pieces was not cut. The limit
        # is at least 2, since the server refuses to start with a smaller `-max_seq_len` than 4.
        self._longest_reply = self.pieces if max_seq_len else 2

    def surely_exceeded_by(self, sentence: ServerSentence) -> bool:
        """Return whether a sentence is too long for any vocabulary."""
        # The second condition implies the first, but takes longer to compute.
        return (
            sum(map(len, sentence.tokens)) > self.pieces and minimum_pieces(sentence) > self.pieces
        )

    def observe(self, replies: Sequence[Sequence[str]]) -> None:
        """Take note of the lengths of replies, given as pieces without special tokens."""
        self._longest_reply = max([self._longest_reply, *map(len, replies)])

    def find(self) -> int:
        """Return the limit; if it is unknown, send sentences until one is cut."""
        n = _MANY
        while self.pieces == maxsize:
            (pieces,) = self._pieces_of([as_text([HARMLESS] * n)], line=1)
            if len(pieces) < n:
                self.pieces = len(pieces)
            n *= 2
        return self.pieces

    def align(self, sentence: ServerSentence, pieces: Sequence[str]) -> Alignment | None:
        """Align the words of a sentence with the pieces of the reply.

        Returns:
            The alignment, or None if the server has cut the sentence.
        """
        counts = align(sentence.tokens, pieces)
        if counts is not None:
            return Alignment(counts, exact=True)
        return self._align_by_asking(sentence, pieces)

    def _align_by_asking(self, sentence: ServerSentence, pieces: Sequence[str]) -> Alignment | None:
        """Align a sentence whose pieces do not spell our basic tokens.

        Either the server has cut it, or the server treats some characters differently, because
        its Python has another Unicode table. The pieces of a word do not depend on the words
        around it, so the server is asked for the doubtful words alone.
        """
        may_be_cut = len(pieces) >= self._longest_reply
        if may_be_cut and len(pieces) < minimum_pieces(sentence):
            self.pieces = len(pieces)
            return None
        words, line = sentence.sentence.words, sentence.sentence.line
        doubtful = [j for j, word in enumerate(words) if not word.isascii()]
        texts = [as_text([words[j]]) for j in doubtful]
        if may_be_cut:
            # With a word appended, the reply is longer wherever the limit allows it.
            texts.append(as_text([*words, HARMLESS]))
        alone = dict(zip(doubtful, self._pieces_of(texts, line), strict=False))
        tokens = [spell(alone[j]) if j in alone else own for j, own in enumerate(sentence.tokens)]
        counts = align(tokens, pieces)
        # A word whose pieces reach the limit may itself have been cut.
        if len(pieces) >= self._longest_reply and (
            counts is None or any(len(own) >= len(pieces) for own in alone.values())
        ):
            self.pieces = len(pieces)
            return None
        if counts is None:
            return Alignment(align_closely(sentence.tokens, pieces), exact=False)
        return Alignment(counts, exact=True)

    def _pieces_of(self, texts: Sequence[str], line: int) -> list[list[str]]:
        """Ask for the pieces of some texts, any of which may be cut."""
        found: list[list[str]] = []
        for batch in padded_batches(texts, self._batch_limits, self._fixed_length):
            reply = self._requests.wait(self._requests.send(batch, [line] * len(batch)))
            found += [pieces[1:-1] for pieces in reply.pieces]
        self.observe(found)
        return found
