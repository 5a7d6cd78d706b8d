"""One connection to a bert-serving-server; every oddity of its client ends in this file.

The package bert-serving-client 1.10.0 speaks the protocol. What it does not do for its caller:

* ``fetch()`` ignores the client's time-out and waits for ever, so the socket is polled first;
* after a time-out the late reply stays in the client, so a connection that timed out is closed
  and never used again;
* sending waits for ever when the peer has hung up, as one does that is no server or whose ports
  were swapped, so that it is given a limit too;
* a reply to a request it does not know raises ``KeyError``, a damaged one whatever its parsing
  runs into;
* its own checks wait without a limit and raise or warn: they are left out and done in
  :mod:`bert_tokemb.encoders.server.encoder`.

A connection belongs to one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import zmq
from bert_serving.client import BertClient, __version__

from ...types import FloatArray
from .address import Address

__all__ = [
    "CLIENT_VERSION",
    "BadReplyError",
    "Connection",
    "Reply",
    "Text",
    "as_text",
]

CLIENT_VERSION: str = __version__

Text: TypeAlias = str | list[str]
"""A sentence, or its pieces."""

# What the client's parsing of a damaged reply was seen to raise, or can.
_DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)

_PATIENCE_FOR_CONFIG = 2.0  # seconds
_PATIENCE_FOR_SENDING = 1.0


class BadReplyError(Exception):
    """A reply came that is no answer to any request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server gave for one request of ``b`` sentences."""

    request: int
    vectors: FloatArray
    """``(b, t, c)``, zero-padded, read-only."""
    pieces: list[list[str]]
    """The pieces of each sentence, special ones included."""


class Connection:
    """A :class:`BertClient` that never waits longer than it is told."""

    def __init__(self, address: Address) -> None:
        # Without its checks the constructor exchanges nothing with the server.
        self._client = BertClient(
            address.host, address.port, address.port_out, ignore_all_checks=True
        )
        self._client.sender.setsockopt(zmq.SNDTIMEO, _milliseconds(_PATIENCE_FOR_SENDING))

    def config(self, timeout: float) -> Mapping[str, Any] | None:
        """Return the server's settings, or None when it does not tell them in time.

        They are asked for again and again: the server publishes its answer once, 0.1 s after
        the question, and it is lost when our subscription has not reached it by then.

        Raises:
            BadReplyError: what came is no such answer.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._client.timeout = _milliseconds(min(left, _PATIENCE_FOR_CONFIG))
            try:
                answer = self._client.server_config
            except TimeoutError:
                continue
            except _DAMAGE as error:
                raise BadReplyError(f"no server settings ({error})") from error
            if not isinstance(answer, dict):
                raise BadReplyError("no server settings")
            return answer
        return None

    def send(self, texts: Sequence[Text]) -> int:
        """Send sentences, none of them blank, and return the request's number at once.

        All are texts, or all are pieces. What nobody takes gets no reply, as what is lost on
        its way.
        """
        with suppress(TimeoutError):
            self._client.encode(texts, blocking=False, is_tokenized=not isinstance(texts[0], str))
        return int(self._client.request_id)

    def receive(self, timeout: float) -> Reply | None:
        """Return the next reply to whichever request, or None when none comes in time.

        Raises:
            BadReplyError: the reply is damaged.
        """
        deadline = time.monotonic() + timeout
        while self._client.receiver.poll(_milliseconds(deadline - time.monotonic()), zmq.POLLIN):
            try:
                response = next(self._client.fetch())
            except KeyError as error:
                if isinstance(error.args[0], int):
                    continue  # no request of ours has this number: not for us to read
                raise BadReplyError(f"no {error} in it") from error
            except StopIteration:
                self._client.receiver.recv_multipart()  # nothing was asked for
                continue
            except _DAMAGE as error:
                raise BadReplyError(str(error)) from error
            return Reply(response.id, response.embedding, _pieces(response.tokens))
        return None

    def close(self) -> None:
        """Drop the connection, with whatever was under way."""
        self._client.close()


def as_text(words: Sequence[str]) -> str:
    """Join words so that the server finds the same words again, and one sentence.

    It takes ``a ||| b`` for a pair. Punctuation is split off in any case, so ``| | |`` gives
    the same pieces.

    >>> as_text(["this", "|||", "that", "||||"])
    'this | | | that ||||'
    """
    return " ".join("| | |" if word == "|||" else word for word in words)


def _milliseconds(seconds: float) -> int:
    """Round up, so that waiting for a rest never spins; at least 0, since -1 is for ever."""
    return max(0, math.ceil(seconds * 1000))


def _pieces(tokens: object) -> list[list[str]]:
    if isinstance(tokens, list) and all(
        isinstance(sentence, list) and all(isinstance(piece, str) for piece in sentence)
        for sentence in tokens
    ):
        return tokens
    raise BadReplyError("no word pieces in it")
