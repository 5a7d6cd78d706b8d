"""The encoder that uses a bert-serving-server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any

import numpy as np

from ...errors import LongSentenceError
from ...tokenization.alignment import first_rows, unknown_words
from ...tokenization.basic import UNKNOWN, basic_tokens
from ...types import BatchLimits, EncodedBatch, Layer, LongSentences, Sentence
from ..vectors import sample_components
from .address import Address
from .connection import Reply
from .handshake import identity, open_connection
from .long_sentences import LongSentenceEncoder
from .requests import HARMLESS, Request, RequestQueue
from .sentences import SPECIAL, ServerSentence, as_text, estimate_pieces
from .truncation import LengthLimit

__all__ = ["ServerEncoder"]

# Measured with the genuine server on two cores, 6 layers of 384, and 2,001 real sentences sorted
# by length: requests of 512 padded pieces took a tenth longer than those of 1,024 or 2,048, and
# those of 3,072 were not faster. Replies wait in memory, so their bytes are limited, too.
_LIMITS = BatchLimits(pieces=2048, sentences=64)
_MAX_REPLY_BYTES = 4 << 20
_MAX_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class _Sent:
    """A batch that was sent."""

    sentences: Sequence[ServerSentence]
    request: Request | None
    """None if all sentences of the batch are too long."""
    long: list[ServerSentence]
    """Sentences of the batch that are too long, found before sending or in the reply."""


class ServerEncoder:
    """An encoder that uses a bert-serving-server; a context manager.

    Args:
        address: The address of the server.
        timeout: Seconds without a reply after which a request is sent again.
        retries: How often a request is sent again.
        long_sentences: What to do with a sentence that the server would cut: ``window`` or
            ``error``.

    Raises:
        ValueError: if ``timeout`` is not positive and finite, or if ``retries`` is negative.
        ServerUnreachableError: if no server answers.
        ServerSettingsError: if the server was started without ``-pooling_strategy NONE`` or
            ``-show_tokens_to_client``.
        ServerError: if the server does not answer a first request.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 60.0,
        retries: int = 3,
        long_sentences: LongSentences = "window",
    ) -> None:
        if not 0 < timeout < inf:
            raise ValueError(f"timeout must be a positive number of seconds, not {timeout}")
        if retries < 0:
            raise ValueError(f"retries must not be negative, not {retries}")
        self._address = address
        connection, self._config = open_connection(address)
        self._requests = RequestQueue(address, connection, timeout, retries, self._config)
        with ExitStack() as on_error:
            on_error.callback(self._requests.close)
            # The settings do not contain the width. The request also shows that a worker is
            # alive. One attempt is enough: on a new connection, no message can have been lost.
            vectors = self._requests.wait(self._requests.send([HARMLESS], attempts=1)).vectors
            on_error.pop_all()
        self._sample = sample_components(vectors)
        self._width = int(vectors.shape[2])
        self._dtype = vectors.dtype
        self._do_lower_case = bool(self._config.get("do_lower_case", True))
        fixed_length = self._config.get("max_seq_len")
        self._max_seq_len = int(fixed_length) if fixed_length else None
        self._limit = LengthLimit(self._requests, self._max_seq_len, self.batch_limits)
        # For each worker one request that is computed and one that waits, and one on its way.
        workers = int(self._config.get("num_worker") or 1)
        self._max_in_flight = min(2 * workers + 1, _MAX_IN_FLIGHT)
        self._in_windows = long_sentences == "window"
        self._long_sentences = LongSentenceEncoder(
            self._requests,
            self.batch_limits,
            self._max_in_flight,
            self._max_seq_len,
            width=self._width,
            dtype=self._dtype,
            no_special_token=bool(self._config.get("no_special_token")),
        )

    @property
    def width(self) -> int:
        """``c``: hidden_size × the number of layers that the server concatenates."""
        return self._width

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that the server puts side by side."""
        layers = self._config.get("pooling_layer")
        return layers if isinstance(layers, list) else [-2]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16 for a server started with ``-fp16``."""
        return self._dtype

    @property
    def batch_limits(self) -> BatchLimits:
        """The batches that were measured to be fast, but none that the server would divide."""
        max_batch_size = int(self._config.get("max_batch_size", _LIMITS.sentences))
        pieces = _MAX_REPLY_BYTES // (self._width * self._dtype.itemsize)
        return BatchLimits(min(_LIMITS.pieces, pieces), min(_LIMITS.sentences, max_batch_size))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the server that determine vectors and pieces; not its address."""
        return {"encoder": "server", **identity(self._config)}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return some components of the vectors of a fixed sentence.

        See :meth:`bert_tokemb.types.Encoder.fingerprint`.
        """
        return {"vectors": self._sample}

    @property
    def source(self) -> Mapping[str, Any]:
        """The address of the server."""
        return {"server": str(self._address)}

    def prepare(self, sentence: Sentence) -> ServerSentence:
        """Split the words into basic tokens, and estimate the number of pieces."""
        tokens = [basic_tokens(word, self._do_lower_case) for word in sentence.words]
        # A server with a fixed length pads every sentence to it.
        length = self._max_seq_len or SPECIAL + estimate_pieces(chain.from_iterable(tokens))
        return ServerSentence(sentence, length, tokens)

    @property
    def unknown_piece(self) -> str:
        """``[UNK]``."""
        return UNKNOWN

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Ask for the pieces of each word of a sentence of any length.

        Raises:
            ServerError: if the server does not answer, or sends invalid replies.
        """
        tokens = self.prepare(sentence).tokens
        return self._long_sentences.pieces(sentence, tokens, self._limit.find())

    def encode(self, batches: Iterable[Sequence[ServerSentence]]) -> Iterator[EncodedBatch]:
        """Yield the vectors of each batch, in order, while later requests are in flight.

        Raises:
            LongSentenceError: if the server would cut a sentence and windows are not wanted.
            ServerError: if the server does not answer, or sends invalid replies.
        """
        remaining = iter(batches)
        in_flight: deque[_Sent] = deque()
        while True:
            while (
                len(in_flight) < self._max_in_flight
                and (batch := next(remaining, None)) is not None
            ):
                in_flight.append(self._send(batch))
            if not in_flight:
                return
            sent = in_flight.popleft()
            # Not assigned to a variable, which would keep the reply in memory while the caller
            # uses the result.
            if sent.request:
                yield self._receive(sent, sent.request)
            for sentence in sent.long:
                yield self._encode_long(sentence)

    def close(self) -> None:
        """Close the connection."""
        self._requests.close()

    def __enter__(self) -> ServerEncoder:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, batch: Sequence[ServerSentence]) -> _Sent:
        long = [sentence for sentence in batch if self._limit.surely_exceeded_by(sentence)]
        short = [sentence for sentence in batch if sentence not in long] if long else batch
        if not short:
            return _Sent(short, None, long)
        texts = [as_text(prepared.sentence.words) for prepared in short]
        lines = [prepared.sentence.line for prepared in short]
        return _Sent(short, self._requests.send(texts, lines), long)

    def _receive(self, sent: _Sent, request: Request) -> EncodedBatch:
        reply = self._requests.wait(request)
        pieces = [own[1:-1] for own in reply.pieces]
        self._limit.observe(pieces)
        return self._decode(sent, pieces, reply)

    def _decode(self, sent: _Sent, pieces: Sequence[Sequence[str]], reply: Reply) -> EncodedBatch:
        """Assign the vectors of a reply to the words, and move the cut sentences to ``sent.long``.

        Args:
            sent: The batch.
            pieces: The pieces of each sentence, special tokens excluded.
            reply: The reply.
        """
        b, t, c = reply.vectors.shape
        sentences: list[Sentence] = []
        words: list[int] = []  # of each sentence
        counts: list[int] = []
        unknown: list[bool] = []
        inexact: list[int] = []
        for prepared, own in zip(sent.sentences, pieces, strict=True):
            alignment = self._limit.align(prepared, own)
            if alignment is None:
                sent.long.append(prepared)
                words.append(0)  # its rows belong to no word
                continue
            sentences.append(prepared.sentence)
            words.append(len(alignment.counts))
            counts += alignment.counts
            unknown += unknown_words(own, alignment.counts)
            inexact += [] if alignment.exact else [prepared.sentence.line]
        pieces_per_word = np.array(counts, np.intp)
        return EncodedBatch(
            sentences=sentences,
            vectors=reply.vectors.reshape(b * t, c),
            starts=first_rows(pieces_per_word, words, t),
            counts=pieces_per_word,
            unknown=np.asarray(unknown, np.bool_),
            inexact=inexact,
        )

    def _encode_long(self, prepared: ServerSentence) -> EncodedBatch:
        sentence, limit = prepared.sentence, self._limit.pieces
        if not self._in_windows:
            raise LongSentenceError(
                sentence.line,
                len(sentence.words),
                limit,
                "server" if self._max_seq_len else "server's model",
            )
        return self._long_sentences.encode(sentence, prepared.tokens, limit)
