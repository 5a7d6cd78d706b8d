"""Requests to a server: several in flight, and sent again if they are not answered.

The server computes one request after the other. The time-out of the oldest request therefore runs
from the last reply, whichever request it answered. After a time-out or a bad reply, all unanswered
requests are sent again, unchanged, over a new connection. After the last attempt, :func:`_diagnose`
determines the cause.

Few requests are in flight at the same time. A request that the server cannot answer is therefore
soon the only one, and can be named in the error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...errors import ServerError, ServerGoneError, ServerSilentError
from .address import Address
from .connection import BadReplyError, Connection, Reply, Text
from .handshake import check_unchanged

__all__ = ["HARMLESS", "Request", "RequestQueue"]

_MAX_RUNS = 8  # of lines that an error message names

HARMLESS = "."
"""A sentence that every server can answer: one piece in every vocabulary."""


@dataclass(slots=True, eq=False)
class Request:
    """Sentences that are sent together."""

    texts: Sequence[Text]
    lines: Sequence[int]
    """The line number of each text; empty for the first request of an encoder."""
    attempts: int
    """How often it may still time out."""


class RequestQueue:
    """Sends requests to one server and returns the replies.

    Args:
        address: The address of the server.
        connection: A connection on which the server has already answered, so that no reply is lost
            (see :meth:`Connection.config`).
        timeout: Seconds without a reply after which requests are sent again.
        retries: How often a request is sent again.
        config: The settings of the server. They must be the same after a reconnection.
        connect: Opens a new connection.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        address: Address,
        connection: Connection,
        timeout: float,
        retries: int,
        config: Mapping[str, Any],
        *,
        connect: Callable[[Address], Connection] = Connection,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._attempts = retries + 1
        self._config = config
        self._connection = connection
        self._connect = connect
        self._clock = clock
        self._unanswered: dict[int, Request] = {}
        self._replies: dict[Request, Reply] = {}
        self._kind: tuple[int, np.dtype[Any]] | None = None  # width and data type of all vectors
        self._last_reply = 0.0  # when it arrived, or when requests were sent after that

    def send(
        self, texts: Sequence[Text], lines: Sequence[int] = (), *, attempts: int | None = None
    ) -> Request:
        """Send sentences without waiting for the reply."""
        request = Request(texts, lines, self._attempts if attempts is None else attempts)
        if not self._unanswered:
            self._last_reply = self._clock()
        self._unanswered[self._connection.send(texts)] = request
        return request

    def wait(self, request: Request) -> Reply:
        """Return the reply to ``request``; call it once for each request.

        Raises:
            ServerError: if there is no valid reply after the last attempt.
        """
        while request not in self._replies:
            try:
                if not self._receive():
                    self._send_again()
            except BadReplyError as error:
                self._send_again(error)
        return self._replies.pop(request)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _receive(self) -> bool:
        """Store the next reply; return False if none arrives in time."""
        left = self._last_reply + self._timeout - self._clock()
        reply = self._connection.receive(left)
        if reply is None:
            return False
        request = self._unanswered[reply.number]
        _check_shape(reply, request)
        kind = (reply.vectors.shape[2], reply.vectors.dtype)
        if self._kind not in (None, kind):
            raise BadReplyError(f"{kind[1]} vectors of width {kind[0]}, unlike earlier replies")
        self._kind = kind
        self._replies[request] = reply
        del self._unanswered[reply.number]
        self._last_reply = self._clock()
        return True

    def _send_again(self, error: BadReplyError | None = None) -> None:
        """Send all unanswered requests over a new connection."""
        oldest = next(iter(self._unanswered.values()))
        while True:
            oldest.attempts -= 1
            if oldest.attempts <= 0:
                self._give_up(oldest, error)
            if self._reconnect():
                break
        unanswered, self._unanswered = self._unanswered, {}
        for request in unanswered.values():
            self._unanswered[self._connection.send(request.texts)] = request
        self._last_reply = self._clock()

    def _reconnect(self) -> bool:
        self._connection.close()
        self._connection = self._connect(self._address)
        try:
            config = self._connection.config(self._timeout)
        except BadReplyError:
            return False
        if config is None:
            return False
        check_unchanged(self._address, self._config, config)
        return True

    def _give_up(self, request: Request, error: BadReplyError | None) -> NoReturn:
        if error:
            raise ServerError(
                f"the server at {self._address} sent a reply that does not fit the request: {error}"
            )
        if not request.lines:
            raise ServerSilentError(
                f"the server at {self._address} returns its settings, but does not answer a "
                f"request within {self._timeout:g} s: its worker has died, or it is busy; check "
                "its log and restart it",
                self._timeout,
            )
        with closing(self._connect(self._address)) as connection:
            _diagnose(connection, request, self._address, self._timeout)


def _check_shape(reply: Reply, request: Request) -> None:
    """Raise BadReplyError unless the reply has vectors and pieces for every sentence."""
    expected = len(request.texts)
    if reply.vectors.ndim != 3 or reply.vectors.dtype.kind != "f":
        raise BadReplyError(f"{reply.vectors.dtype} data of shape {reply.vectors.shape}")
    if not len(reply.vectors) == len(reply.pieces) == expected:
        raise BadReplyError(
            f"vectors of {len(reply.vectors)} and pieces of {len(reply.pieces)} sentences for "
            f"{expected} sentences"
        )
    for pieces in reply.pieces:
        if not 2 <= len(pieces) <= reply.vectors.shape[1]:
            raise BadReplyError(f"{reply.vectors.shape[1]} vectors for {len(pieces)} pieces")
        if (pieces[0], pieces[-1]) != ("[CLS]", "[SEP]"):
            raise BadReplyError("pieces that are not enclosed in [CLS] and [SEP]")


def _diagnose(
    connection: Connection, request: Request, address: Address, timeout: float
) -> NoReturn:
    """Find out why a request is not answered, and raise the error.

    When its worker dies, the server itself continues to listen. It returns its settings until the
    next request arrives, and then waits for a worker forever.
    """
    lines = _format_lines(request.lines)
    if not address.listens(timeout):
        raise ServerGoneError(
            f"the server at {address} is gone; it was last sent {lines}: check its log and start "
            "it again"
        )
    has_config = connection.config(timeout) is not None
    if not has_config or not _answers(connection, HARMLESS, timeout):
        still = "still returns its settings" if has_config else "still listens"
        raise ServerSilentError(
            f"the server at {address} {still}, but no longer answers requests within "
            f"{timeout:g} s: its worker has probably died at {lines}, or is slower than that; "
            "check its log, restart it and look at these lines",
            timeout,
        )
    for text, line in zip(request.texts, request.lines, strict=True):
        if not _answers(connection, text, timeout):
            raise ServerError(
                f"line {line}: the server at {address} answers other lines, but not this one "
                f"within {timeout:g} s; check its log, and change or remove the line"
            )
    raise ServerSilentError(
        f"the server at {address} does not answer all of {lines} together within {timeout:g} s, "
        "although it answers each of them alone; start it with a smaller -max_batch_size",
        timeout,
    )


def _answers(connection: Connection, text: Text, timeout: float) -> bool:
    connection.send([text])
    try:
        return connection.receive(timeout) is not None
    except BadReplyError:
        return True  # a bad reply, but not silence


def _format_lines(lines: Sequence[int]) -> str:
    """Format the line numbers of a request; the windows of a sentence share one.

    >>> _format_lines([7, 7]), _format_lines([9, 7, 8, 12, 12])
    ('line 7', 'lines 7-9, 12')
    >>> _format_lines(range(1, 60, 2))
    'lines 1, 3, 5, 7, 9, 11, 13, 15 and others up to 59'
    """
    runs: list[list[int]] = []
    distinct = sorted(set(lines))
    for line in distinct:
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    more = f" and others up to {runs[-1][1]}" if len(spans) > _MAX_RUNS else ""
    return f"line{'s' * (len(distinct) > 1)} {', '.join(spans[:_MAX_RUNS])}{more}"
