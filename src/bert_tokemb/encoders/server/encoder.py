"""Piece vectors from a running bert-serving-server (bert-as-service 1.10).

What is sent, and what the replies mean, is decided here. Facts about the server are from its
source (``bert_serving/server``, version 1.10.0).
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from math import inf
from sys import maxsize
from typing import Any

import numpy as np

from ...errors import LongSentenceError
from ...tokenization.alignment import align, align_closely, first_rows, spell, unknown_words
from ...tokenization.basic import basic_tokens
from ...types import BatchLimits, EncodedBatch, LongSentences, PreparedSentence, Sentence
from ..likeness import some_numbers
from .address import Address
from .connection import Reply, as_text
from .handshake import first_contact, identity_of
from .long_sentences import LongSentenceEncoder, estimate
from .requests import HARMLESS, Exchange, Request

__all__ = ["Address", "ServingEncoder"]

_SPECIAL = 2
"""``[CLS]`` and ``[SEP]``, which ``max_seq_len`` counts."""

# Measured with the genuine server on two cores, 6 layers of 384, 2,001 real sentences sorted by
# length: requests of 512 padded pieces took a tenth longer than of 1,024 or 2,048, those of 3,072
# no less. Replies wait in memory, so they are limited in bytes too.
_BUDGET = BatchLimits(pieces=2048, sentences=64)
_LARGEST_REPLY = 4 << 20
_MOST_UNDER_WAY = 8
_MANY = 1024  # pieces; most models take fewer


@dataclass(frozen=True, slots=True)
class ServingPrepared(PreparedSentence):
    """A sentence with the basic tokens of its words."""

    tokens: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A batch that was sent."""

    batch: Sequence[ServingPrepared]
    request: Request | None
    """None when nothing of it can be sent as it is."""
    long: list[ServingPrepared]
    """Sentences that are known to be too long."""


class ServingEncoder:
    """An encoder that asks a bert-serving-server; use it as a context manager.

    Args:
        address: Where the server listens.
        timeout: Seconds that one request may take before it is sent again.
        retries: How many times it is sent again.
        long_sentences: What becomes of one that the server would cut: ``window`` or ``error``.

    Raises:
        ValueError: the time-out is no positive number, or the retries are negative.
        ServerError: nobody answers, or the server was not started with
            ``-pooling_strategy NONE -show_tokens_to_client``.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 60.0,
        retries: int = 3,
        long_sentences: LongSentences = "window",
    ) -> None:
        if not 0 < timeout < inf or retries < 0:
            raise ValueError(f"timeout {timeout} and retries {retries} cannot be meant")
        self._address = address
        connection, self._config = first_contact(address)
        self._exchange = Exchange(address, connection, timeout, retries, self._config)
        with ExitStack() as closing:
            closing.callback(self._exchange.close)
            # The server does not tell its width. Asking shows too that its worker is alive:
            # once is enough, nothing was lost by a connection that has just been made.
            example = self._exchange.wait(self._exchange.send([HARMLESS], attempts=1)).vectors
            closing.pop_all()  # all is well: it stays open
        self._some_numbers = some_numbers(example)
        self._width = int(example.shape[2])
        self._dtype = example.dtype
        self._do_lower_case = bool(self._config.get("do_lower_case", True))
        fixed = self._config.get("max_seq_len")
        self._fixed_length = int(fixed) if fixed else None
        # The most pieces of a sentence: known beforehand, or since one was cut.
        self._limit = self._fixed_length - _SPECIAL if self._fixed_length else maxsize
        # The most pieces that one sentence was ever seen to come back with: no sentence with
        # fewer was cut. `-max_seq_len` is at least 4.
        self._longest_seen = self._limit if self._fixed_length else 2
        # One computed and one waiting for each worker, one on its way; but not more replies
        # than may wait in memory.
        workers = int(self._config.get("num_worker", 1))
        self._window = min(2 * workers + 1, _MOST_UNDER_WAY)
        self._in_windows = long_sentences == "window"
        self._long_sentences = LongSentenceEncoder(
            self._exchange,
            self.batch_limits,
            self._window,
            width=self._width,
            dtype=self._dtype,
            no_special_token=bool(self._config.get("no_special_token")),
        )

    @property
    def width(self) -> int:
        """``c``: the model's width, times the number of layers the server concatenates."""
        return self._width

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 from a server started with ``-fp16``."""
        return self._dtype

    @property
    def batch_limits(self) -> BatchLimits:
        """What was measured to suit the server; never more than it takes undivided."""
        most = int(self._config.get("max_batch_size", _BUDGET.sentences))
        pieces = _LARGEST_REPLY // (self._width * self._dtype.itemsize)
        return BatchLimits(min(_BUDGET.pieces, pieces), min(_BUDGET.sentences, most))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The server's settings that determine vectors and pieces; the address may change."""
        return {"encoder": "server", **identity_of(self._config)}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return components of the vectors of a fixed sentence."""
        return {"vectors": self._some_numbers}

    @property
    def source(self) -> Mapping[str, Any]:
        """The server's address."""
        return {"server": str(self._address)}

    def prepare(self, sentence: Sentence) -> ServingPrepared:
        """Split the words into basic tokens, and estimate the number of pieces."""
        lower = self._do_lower_case
        tokens = [basic_tokens(word, lower) for word in sentence.words]
        length = self._fixed_length or _SPECIAL + estimate(chain.from_iterable(tokens))
        return ServingPrepared(sentence, length, tokens)

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Ask for the pieces of each word, however many there are.

        Raises:
            ServerError: the server fell silent for good, or answers nonsense.
        """
        tokens = self.prepare(sentence).tokens
        if self._limit == maxsize:
            self._limit = self._find_limit()
        return self._long_sentences.pieces(sentence, tokens, self._limit)

    def encode(self, batches: Iterable[Sequence[ServingPrepared]]) -> Iterator[EncodedBatch]:
        """Yield the vectors of each batch; several requests are under way meanwhile.

        Raises:
            LongSentenceError: the server cut a sentence.
            ServerError: the server fell silent for good, or answers nonsense.
        """
        todo = iter(batches)
        window: deque[_UnderWay] = deque()
        while True:
            while len(window) < self._window and (batch := next(todo, None)) is not None:
                window.append(self._send(batch))
            if not window:
                return
            first = window.popleft()
            # No name here holds a reply while the caller works: each is some megabytes.
            if first.request:
                yield self._receive(first, first.request)
            for prepared in first.long:
                yield self._encode_long(prepared)

    def close(self) -> None:
        """Drop the connection."""
        self._exchange.close()

    def __enter__(self) -> ServingEncoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, batch: Sequence[ServingPrepared]) -> _UnderWay:
        long = [prepared for prepared in batch if self._is_surely_long(prepared)]
        short = [prepared for prepared in batch if prepared not in long] if long else batch
        if not short:
            return _UnderWay(short, None, long)
        texts = [as_text(prepared.sentence.words) for prepared in short]
        lines = [prepared.sentence.line for prepared in short]
        return _UnderWay(short, self._exchange.send(texts, lines), long)

    def _is_surely_long(self, prepared: ServingPrepared) -> bool:
        # The latter takes its time.
        return (
            sum(map(len, prepared.tokens)) > self._limit and _least_pieces(prepared) > self._limit
        )

    def _receive(self, sent: _UnderWay, request: Request) -> EncodedBatch:
        reply = self._exchange.wait(request)
        self._longest_seen = max(self._longest_seen, max(map(len, reply.pieces)) - _SPECIAL)
        return self._decode(sent, reply)

    def _decode(self, sent: _UnderWay, reply: Reply) -> EncodedBatch:
        """Tell which of the reply's vectors belong to which word, and which sentences were cut."""
        b, t, c = reply.vectors.shape
        counts: list[int] = []
        unknown: list[bool] = []
        words: list[int] = []
        sentences: list[Sentence] = []
        inexact: list[int] = []
        for prepared, pieces in zip(sent.batch, reply.pieces, strict=True):
            own, exact = pieces[1:-1], True
            aligned = align(prepared.tokens, own)
            if aligned is None:
                aligned, exact = self._align_by_asking(prepared, own)
            if aligned is None:
                sent.long.append(prepared)
                words.append(0)
                continue
            sentences.append(prepared.sentence)
            words.append(len(aligned))
            counts += aligned
            unknown += unknown_words(own, aligned)
            inexact += [] if exact else [prepared.sentence.line]
        pieces_of_words = np.array(counts, np.intp)
        return EncodedBatch(
            sentences=sentences,
            vectors=reply.vectors.reshape(b * t, c),
            starts=first_rows(pieces_of_words, words, t),
            counts=pieces_of_words,
            unknown=np.asarray(unknown, np.bool_),
            inexact=inexact,
        )

    def _align_by_asking(
        self, prepared: ServingPrepared, pieces: Sequence[str]
    ) -> tuple[list[int] | None, bool]:
        """Align a sentence whose pieces do not spell our tokens, or find that it was cut.

        Either the server cut it, or its characters differ from ours, since its Python has
        another Unicode table. What a word gives does not depend on the words around it, so the
        server is asked for the words that can differ, alone.

        Returns:
            The pieces of each word, or None for a sentence that was cut; and whether they are
            known rather than guessed.
        """
        sentence = prepared.sentence
        may_be_cut = len(pieces) >= self._longest_seen
        if may_be_cut and len(pieces) < _least_pieces(prepared):
            return self._note_cut(len(pieces))
        doubtful = [j for j, word in enumerate(sentence.words) if not word.isascii()]
        texts = [as_text([sentence.words[j]]) for j in doubtful]
        if may_be_cut:
            # With something behind it, it comes back longer wherever the limit allows that.
            texts.append(as_text([*sentence.words, HARMLESS]))
        answers = self._ask(texts, sentence.line)
        alone = dict(zip(doubtful, answers, strict=False))
        tokens = [spell(alone[j]) if j in alone else own for j, own in enumerate(prepared.tokens)]
        counts = align(tokens, pieces)
        # A word that fills the server alone may have been cut alone.
        if len(pieces) >= self._longest_seen and (
            counts is None or any(len(own) >= len(pieces) for own in alone.values())
        ):
            return self._note_cut(len(pieces))
        if counts is None:
            return align_closely(prepared.tokens, pieces), False
        return counts, True

    def _find_limit(self) -> int:
        """Return the most pieces of a sentence, where no setting tells it."""
        n = _MANY
        while True:
            (pieces,) = self._ask([as_text([HARMLESS] * n)], line=1)
            if len(pieces) < n:
                return len(pieces)
            n *= 2

    def _ask(self, texts: Sequence[str], line: int) -> list[list[str]]:
        """Return the pieces of each text, which are cut as any sentence's are."""
        answers: list[list[str]] = []
        most = self.batch_limits.sentences
        for i in range(0, len(texts), most):
            batch = list(texts[i : i + most])
            reply = self._exchange.wait(self._exchange.send(batch, [line] * len(batch)))
            answers += [pieces[1:-1] for pieces in reply.pieces]
        self._longest_seen = max([self._longest_seen, *map(len, answers)])
        return answers

    def _note_cut(self, limit: int) -> tuple[None, bool]:
        self._limit = limit
        return None, True

    def _encode_long(self, prepared: ServingPrepared) -> EncodedBatch:
        if not self._in_windows:
            raise self._too_long(prepared, self._limit)
        return self._long_sentences.encode(prepared.sentence, prepared.tokens, self._limit)

    def _too_long(self, prepared: ServingPrepared, limit: int) -> LongSentenceError:
        sentence = prepared.sentence
        return LongSentenceError(
            sentence.line,
            len(sentence.words),
            limit,
            "server" if self._fixed_length else "server's model",
        )


def _least_pieces(prepared: ServingPrepared) -> int:
    """Count the pieces that every server must have for a sentence: one for each basic token.

    Only words count whose characters were all assigned by Unicode 3.2 (2002). A newer one may
    be deleted by the server, alone or from between two tokens of ours that are one of its own.
    """
    category = unicodedata.ucd_3_2_0.category
    return sum(
        len(tokens)
        for word, tokens in zip(prepared.sentence.words, prepared.tokens, strict=True)
        if word.isascii() or not any(category(char).startswith("C") for char in word)
    )
