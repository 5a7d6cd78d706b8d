"""A connection to a bert-serving-server, on top of its client.

The package bert-serving-client 1.10.0 implements the protocol. This module works around its
limitations, so that no other module needs to know them:

* ``fetch()`` ignores the time-out of the client, so the socket is polled first.
* After a time-out, the late reply stays in the client and is returned as the next one. A
  connection that timed out is therefore closed and not used again.
* Sending blocks forever if the peer has closed the connection, as a server does whose ports were
  swapped. A time-out for sending prevents this.
* Damaged replies raise various exceptions, and a reply to an unknown request a ``KeyError``.
* Its checks of the server's settings block without a time-out, and raise or warn. They are
  disabled; :mod:`bert_tokemb.encoders.server.handshake` does them instead.

A connection must be used by one thread only.
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

from ...errors import PARSER_ERRORS, translate
from ...types import FloatArray
from .address import Address

__all__ = ["CLIENT_VERSION", "BadReplyError", "Connection", "Reply", "Text"]

CLIENT_VERSION: str = __version__

Text: TypeAlias = str | list[str]
"""A sentence, or its pieces."""

_SEND_TIMEOUT = 1.0  # seconds


class BadReplyError(Exception):
    """A reply is damaged, or does not fit its request."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request of ``b`` sentences."""

    number: int
    """The number of the request."""
    vectors: FloatArray
    """``(b, t, c)``, zero-padded, read-only."""
    pieces: list[list[str]]
    """The pieces of each sentence, special tokens included."""


class Connection:
    """A :class:`BertClient` whose methods all have a time-out.

    Args:
        address: The address of the server.
        config_interval: Seconds after which the question for the settings is repeated.
    """

    def __init__(self, address: Address, *, config_interval: float = 1.0) -> None:
        # Without its checks, the client exchanges no messages here.
        self._client = BertClient(
            address.host, address.port, address.port_out, ignore_all_checks=True
        )
        self._client.sender.setsockopt(zmq.SNDTIMEO, _milliseconds(_SEND_TIMEOUT))
        self._config_interval = config_interval

    def config(self, timeout: float) -> Mapping[str, Any] | None:
        """Return the settings of the server, or None if it does not answer in time.

        The question is repeated: the server publishes its answer once, 0.1 s after the question,
        and the answer is lost if our subscription has not reached the server by then. Once an
        answer has arrived, no reply on this connection can be lost in this way.

        Raises:
            BadReplyError: if the answer does not contain settings.
        """
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            self._client.timeout = _milliseconds(min(left, self._config_interval))
            with translate(
                BadReplyError, "read settings", damage=PARSER_ERRORS, damaged="damaged settings"
            ):
                try:
                    answer = self._client.server_config
                except TimeoutError:
                    continue
            if not isinstance(answer, dict):
                raise BadReplyError(f"settings of type {type(answer).__name__}")
            return answer
        return None

    def send(self, texts: Sequence[Text]) -> int:
        """Send sentences, none of them blank, and return the number of the request at once.

        Either all of them are text, or all are pieces. If the peer does not take the request, no
        error is raised: no reply will arrive, as for a request that is lost on the way.
        """
        with suppress(TimeoutError):
            self._client.encode(texts, blocking=False, is_tokenized=not isinstance(texts[0], str))
        return int(self._client.request_id)

    def receive(self, timeout: float) -> Reply | None:
        """Return the next reply, to any of the requests, or None if none arrives in time.

        Raises:
            BadReplyError: if the reply is damaged.
        """
        deadline = time.monotonic() + timeout
        receiver = self._client.receiver
        while receiver.poll(_milliseconds(deadline - time.monotonic()), zmq.POLLIN):
            if not self._client.pending_request:
                receiver.recv_multipart()  # a late answer to a repeated question for the settings
                continue
            with translate(
                BadReplyError, "read a reply", damage=PARSER_ERRORS, damaged="damaged data"
            ):
                try:
                    response = next(self._client.fetch())
                except KeyError as error:
                    if isinstance(error.args[0], int):
                        continue  # the number of no pending request
                    raise
            return Reply(response.id, response.embedding, _checked_pieces(response.tokens))
        return None

    def close(self) -> None:
        """Close the connection; replies to pending requests are lost."""
        self._client.close()


def _milliseconds(seconds: float) -> int:
    """Round up, so that a caller that polls until a deadline does not spin.

    Never negative: -1 would mean to wait forever.
    """
    return max(0, math.ceil(seconds * 1000))


def _checked_pieces(tokens: object) -> list[list[str]]:
    if isinstance(tokens, list) and all(
        isinstance(sentence, list) and all(isinstance(piece, str) for piece in sentence)
        for sentence in tokens
    ):
        return tokens
    raise BadReplyError("no pieces")
