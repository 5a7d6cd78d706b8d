"""Requests under way with one server, answered or sent again, and never waited for in vain.

The oldest request is overdue when nothing at all has come for the time-out: the server computes
one request after the other, so their times do not run side by side. What is unanswered is then
sent again over a new connection, word for word as it was. When that has been tried often enough,
:func:`_diagnose` finds out what is the matter.

Few requests are under way at a time, so that one which is never answered is soon alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...errors import ServerError
from .address import Address
from .connection import BadReplyError, Connection, Reply, Text
from .handshake import check_unchanged

__all__ = ["Exchange", "Request"]

HARMLESS = "."
"""A sentence that every server can answer: one piece, whatever its vocabulary."""

_NAMED = 8  # runs of lines that an error message names


@dataclass(slots=True, eq=False)
class Request:
    """Sentences sent together, and the reply once it has come."""

    texts: Sequence[Text]
    lines: Sequence[int]
    """The line of the input that each text comes from; none for the first question."""
    attempts: int
    """How many more times it may stay without an answer."""
    reply: Reply | None = None


class Exchange:
    """Sends requests to one server and hands out the replies.

    Args:
        address: The server's.
        connection: One over which the server has answered already: what it publishes before a
            subscription has reached it is lost.
        timeout: Seconds without an answer after which a request is sent again.
        retries: How many times it is sent again.
        config: The server's settings, which it must still have after a reconnection.
    """

    def __init__(
        self,
        address: Address,
        connection: Connection,
        timeout: float,
        retries: int,
        config: Mapping[str, Any],
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._attempts = retries + 1
        self._config = config
        self._connection = connection
        self._unanswered: dict[int, Request] = {}
        self._kind: tuple[int, np.dtype[Any]] | None = None  # width and type of all vectors
        self._clock = 0.0  # since when nothing has come

    def send(
        self, texts: Sequence[Text], lines: Sequence[int] = (), *, attempts: int | None = None
    ) -> Request:
        """Send sentences, and return at once."""
        request = Request(texts, lines, self._attempts if attempts is None else attempts)
        if not self._unanswered:
            self._clock = time.monotonic()
        self._unanswered[self._connection.send(texts)] = request
        return request

    def wait(self, request: Request) -> Reply:
        """Return the reply to ``request``, storing what else comes in the meantime.

        Raises:
            ServerError: after the last attempt, saying what was found out.
        """
        while request.reply is None:
            try:
                silent = not self._receive()
            except BadReplyError as error:
                self._send_again(f"gave a reply that does not fit the request: {error}")
            else:
                if silent:
                    self._send_again("")
        return request.reply

    def close(self) -> None:
        """Drop the connection, with whatever was under way."""
        self._connection.close()

    def _receive(self) -> bool:
        """Store the next reply; return False when none comes in time."""
        reply = self._connection.receive(self._clock + self._timeout - time.monotonic())
        if reply is None:
            return False
        request = self._unanswered[reply.request]
        _check_shape(reply, request)
        kind = (reply.vectors.shape[2], reply.vectors.dtype)
        if self._kind not in (None, kind):
            raise BadReplyError(f"vectors of another width or type than before, {kind}")
        self._kind = kind
        request.reply = reply
        del self._unanswered[reply.request]
        self._clock = time.monotonic()
        return True

    def _send_again(self, nonsense: str) -> None:
        oldest = next(iter(self._unanswered.values()))
        while True:
            oldest.attempts -= 1
            if oldest.attempts <= 0:
                self._give_up(oldest, nonsense)
            if self._reconnect():
                break
        unanswered, self._unanswered = self._unanswered, {}
        for request in unanswered.values():
            self._unanswered[self._connection.send(request.texts)] = request
        self._clock = time.monotonic()

    def _reconnect(self) -> bool:
        self._connection.close()
        self._connection = Connection(self._address)
        try:
            config = self._connection.config(self._timeout)
        except BadReplyError:
            return False
        if config is None:
            return False
        check_unchanged(self._address, self._config, config)
        return True

    def _give_up(self, request: Request, nonsense: str) -> NoReturn:
        if nonsense:
            raise ServerError(f"the server at {self._address} {nonsense}")
        if not request.lines:
            raise ServerError(
                f"the server at {self._address} tells its settings but answers no request within "
                f"{self._timeout:g} s: its worker has died, or it is busy; see what it logged and "
                "restart it, or give a longer --timeout"
            )
        with _closing(Connection(self._address)) as connection:
            _diagnose(connection, request, self._address, self._timeout)


@contextmanager
def _closing(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    finally:
        connection.close()


def _check_shape(reply: Reply, request: Request) -> None:
    """Raise BadReplyError unless the reply has vectors and pieces for every sentence."""
    expected = len(request.texts)
    if reply.vectors.ndim != 3 or reply.vectors.dtype.kind != "f":
        raise BadReplyError(f"{reply.vectors.dtype} of shape {reply.vectors.shape}")
    if not len(reply.vectors) == len(reply.pieces) == expected:
        raise BadReplyError(
            f"{len(reply.vectors)} and {len(reply.pieces)} sentences for {expected}"
        )
    for pieces in reply.pieces:
        if not 2 <= len(pieces) <= reply.vectors.shape[1]:
            raise BadReplyError(f"{reply.vectors.shape[1]} vectors for {len(pieces)} pieces")
        if (pieces[0], pieces[-1]) != ("[CLS]", "[SEP]"):
            raise BadReplyError("pieces that do not lie between [CLS] and [SEP]")


def _diagnose(
    connection: Connection, request: Request, address: Address, timeout: float
) -> NoReturn:
    """Find out why a request stays without an answer, and raise ServerError saying so.

    When the genuine server's worker dies, the server itself goes on listening. It tells its
    settings until the next request, for which it waits for a worker and does nothing else.
    """
    where = _lines(request.lines)
    if not _listens(address, timeout):
        raise ServerError(
            f"the server at {address} is gone; it was last sent {where}: see what it logged, "
            "start it again, and run the same command"
        )
    told = connection.config(timeout) is not None
    if not told or not _answers(connection, HARMLESS, timeout):
        still = "still tells its settings" if told else "still listens"
        raise ServerError(
            f"the server at {address} {still} but answers no request within {timeout:g} s any "
            f"more: its worker has probably died over {where}, or is slower than that; see what "
            "it logged, then restart it and look at these lines, or give a longer --timeout"
        )
    for text, line in zip(request.texts, request.lines, strict=True):
        if not _answers(connection, text, timeout):
            raise ServerError(
                f"line {line}: the server at {address} answers other lines, but not this one "
                f"within {timeout:g} s; see what it logged, and change or remove the line"
            )
    raise ServerError(
        f"the server at {address} does not answer all of {where} together within {timeout:g} s, "
        "though it does one by one: give a longer --timeout, or start it with a smaller "
        "-max_batch_size"
    )


def _listens(address: Address, timeout: float) -> bool:
    try:
        address.probe(timeout)
    except OSError:
        return False
    return True


def _answers(connection: Connection, text: Text, timeout: float) -> bool:
    connection.send([text])
    try:
        return connection.receive(timeout) is not None
    except BadReplyError:
        return True  # nonsense, but no silence


def _lines(lines: Sequence[int]) -> str:
    """Name the lines of a batch, each once: windows of a long sentence are of one line.

    >>> _lines([7, 7]), _lines([9, 7, 8, 12, 12])
    ('line 7', 'lines 7-9, 12')
    >>> _lines(range(1, 60, 2))
    'lines 1, 3, 5, 7, 9, 11, 13, 15 and further ones up to 59'
    """
    runs: list[list[int]] = []
    distinct = sorted(set(lines))
    for line in distinct:
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    spans = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    more = f" and further ones up to {runs[-1][1]}" if len(spans) > _NAMED else ""
    return f"line{'s' * (len(distinct) > 1)} {', '.join(spans[:_NAMED])}{more}"
