"""The two sockets of a bert-serving-server.

Clients push requests to the one, and subscribe to their names at the other, where replies are
published. These are plain TCP sockets on which :mod:`bert_tokemb.serve.zmtp` speaks the protocol of
ZeroMQ, because the sockets of libzmq 4.3.5 do not suffice:

* ``XPUB`` publishes a reply to all who have subscribed to a prefix of the client's name, also to
  everything. In its manual mode, which could prevent that, it confuses subscribers after a peer has
  sent anything but a subscription, as an HTTP client does.
* ``PULL`` receives a message of any number of frames before it can be refused.
* ``STREAM`` leaves the protocol to the program, as plain sockets do, which also say how many bytes
  the system has accepted.

The queue of replies to a client is unlimited here. Each reply is tracked until the operating system
has accepted it, so that :mod:`bert_tokemb.serve.reply_queue` can bound the memory.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import zmq

from ..errors import ServerError
from .settings import DEFAULT_LIMITS, Limits
from .zmtp import GREETING, Peer, ProtocolError, frame_header, ready

__all__ = ["VERSIONS", "Sockets", "Subscription"]

_log = logging.getLogger(__name__)

VERSIONS = {"pyzmq_version": zmq.pyzmq_version(), "zmq_version": zmq.zmq_version()}
"""Reported to clients."""

# TCP keep-alive, in seconds: detects clients whose machine has disappeared. The system of a client
# that does not read still answers, so such a client keeps its replies.
_IDLE, _INTERVAL, _PROBES = 60, 15, 4
# Requests up to this multiple of the limit are received, to be answered with the limit.
_RECEIVED_MULTIPLE = 4
_MAX_REQUEST_FRAMES = 4
_MAX_SUBSCRIPTION = 1024  # bytes
_READ = 1 << 18  # bytes that are read at once
_SENT_TOGETHER = 16  # chunks
_BACKLOG = 1024  # connections that wait to be accepted

# The first byte of what a subscriber sends.
_SUBSCRIBE, _UNSUBSCRIBE = b"\1", b"\0"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client has subscribed to a name, or no client is subscribed to it any longer."""

    name: bytes
    is_new: bool


@dataclass(slots=True, eq=False)
class _Connection:
    """A connection to a peer."""

    socket: socket.socket
    peer: Peer
    is_subscriber: bool
    names: set[bytes] = field(default_factory=set)
    """What it has subscribed to."""
    unsent: deque[memoryview] = field(default_factory=deque)
    queued: int = 0
    """Bytes that have been queued so far."""
    sent: int = 0
    """Bytes that the system has accepted so far."""
    is_closed: bool = False


class Sockets:
    """Both sockets, bound; a context manager.

    All methods belong to one thread, except :meth:`wake`.

    Args:
        host: The address of this machine on which to listen.
        port: The port for requests; 0 chooses a free one.
        port_out: The port for replies; 0 chooses a free one.
        limits: Bounds the frames of requests. A client that exceeds the bound by far is
            disconnected.

    Raises:
        ServerError: if one of the ports cannot be bound.
    """

    def __init__(
        self, host: str, port: int, port_out: int, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self.host = host
        self._limits = limits
        self._connections: set[_Connection] = set()
        self._received: deque[list[bytes]] = deque()
        self._changes: deque[Subscription] = deque()
        self._subscribers: dict[bytes, set[_Connection]] = {}
        """The connections that are subscribed to each name."""
        with ExitStack() as stack:
            self._selector = stack.enter_context(selectors.DefaultSelector())
            stack.callback(self._close_connections)
            self._requests = stack.enter_context(_listen(host, port))
            self._replies = stack.enter_context(_listen(host, port_out))
            self.port, self.port_out = (
                int(listener.getsockname()[1]) for listener in (self._requests, self._replies)
            )
            self._wake_reader, self._wake_writer = os.pipe()
            for end in (self._wake_reader, self._wake_writer):
                os.set_blocking(end, False)
                stack.callback(os.close, end)
            for source in (self._requests, self._replies, self._wake_reader):
                self._selector.register(source, selectors.EVENT_READ)
            self._stack = stack.pop_all()

    def wait(self, timeout: float) -> None:
        """Return when something arrives, after a call of :meth:`wake`, or after so many seconds.

        Replies are sent in the meantime.
        """
        has_arrived = self._received or self._changes
        for key, events in self._selector.select(0 if has_arrived else timeout):
            if isinstance(key.data, _Connection):
                if events & selectors.EVENT_WRITE:
                    self._send(key.data)
                if events & selectors.EVENT_READ:
                    self._read(key.data)
            elif key.fileobj == self._wake_reader:
                with suppress(BlockingIOError):
                    os.read(self._wake_reader, 4096)
            else:
                self._accept(key.fileobj)

    def wake(self) -> None:
        """Make :meth:`wait` return; callable from any thread and from signal handlers."""
        with suppress(BlockingIOError):  # the pipe is full: wait() will return anyway
            os.write(self._wake_writer, b"!")

    def close_requests(self) -> None:
        """Accept no more requests."""
        self._selector.unregister(self._requests)
        self._requests.close()
        for connection in [one for one in self._connections if not one.is_subscriber]:
            self._close(connection)

    def requests(self, most: int) -> list[list[bytes]]:
        """Return the messages that have arrived: at most so many, and few if they are large."""
        messages: list[list[bytes]] = []
        size = 0
        while self._received and len(messages) < most and size < self._limits.request_bytes:
            messages.append(self._received.popleft())
            size += sum(map(len, messages[-1]))
        return messages

    def subscriptions(self, most: int) -> list[Subscription]:
        """Return the changes of subscriptions that have arrived, at most so many."""
        return [self._changes.popleft() for _ in range(min(most, len(self._changes)))]

    def publish(self, frames: Sequence[Any]) -> Callable[[], bool]:
        """Send a reply to the clients that have subscribed to exactly its first frame.

        Returns:
            A function that returns whether the reply has left the memory of this process.
        """
        *others, last = [memoryview(frame).cast("B") for frame in frames]
        chunks: list[bytes | memoryview] = []
        for frame in others:
            chunks += [frame_header(len(frame), more=True), frame]
        chunks += [frame_header(len(last), more=False), last]
        ends = []
        for connection in list(self._subscribers.get(frames[0], ())):
            self._queue(connection, chunks)
            ends.append((connection, connection.queued))
        return lambda: all(one.sent >= end or one.is_closed for one, end in ends)

    def __enter__(self) -> Sockets:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    # --- Connections ---------------------------------------------------------------------------

    def _accept(self, listener: Any) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:  # the peer has gone again, or there are too many
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
        is_subscriber = listener is self._replies
        if is_subscriber:
            kind, peer = b"PUB", Peer([b"SUB", b"XSUB"], 1, _MAX_SUBSCRIPTION)
        else:
            most = _RECEIVED_MULTIPLE * self._limits.request_bytes
            kind, peer = b"PULL", Peer([b"PUSH"], _MAX_REQUEST_FRAMES, most)
        connection = _Connection(accepted, peer, is_subscriber)
        self._connections.add(connection)
        self._selector.register(accepted, selectors.EVENT_READ, connection)
        self._queue(connection, [GREETING + ready(kind)])

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        try:
            for message in connection.peer.receive(data):
                if connection.is_subscriber:
                    self._changes += self._change(connection, message[0][:1], message[0][1:])
                else:
                    self._received.append(message)
        except ProtocolError as error:
            _log.warning("peer disconnected", extra={"reason": str(error)})
            self._close(connection)
            return
        if connection.peer.outgoing:
            self._queue(connection, [bytes(connection.peer.outgoing)])
            connection.peer.outgoing.clear()

    def _change(
        self, connection: _Connection, action: bytes, name: bytes
    ) -> Iterator[Subscription]:
        subscribers = self._subscribers.setdefault(name, set())
        # All other frames, and subscriptions to everything, have no meaning here.
        if action == _SUBSCRIBE and name:
            connection.names.add(name)
            subscribers.add(connection)
            yield Subscription(name, is_new=True)
        elif action == _UNSUBSCRIBE and connection in subscribers:
            connection.names.discard(name)
            subscribers.remove(connection)
            if not subscribers:
                yield Subscription(name, is_new=False)
        if not subscribers:
            del self._subscribers[name]

    def _queue(self, connection: _Connection, chunks: Sequence[bytes | memoryview]) -> None:
        """Send chunks as soon as the peer reads."""
        was_empty = not connection.unsent
        for chunk in chunks:
            if len(chunk):
                connection.unsent.append(memoryview(chunk))
                connection.queued += len(chunk)
        if was_empty:
            self._send(connection)

    def _send(self, connection: _Connection) -> None:
        """Give the system as much as it accepts."""
        unsent = connection.unsent
        try:
            while unsent:
                n = connection.socket.sendmsg(islice(unsent, _SENT_TOGETHER))
                connection.sent += n
                while unsent and n >= len(unsent[0]):
                    n -= len(unsent.popleft())
                if n:
                    unsent[0] = unsent[0][n:]
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
        self._selector.modify(connection.socket, events, connection)

    def _close(self, connection: _Connection) -> None:
        if connection.is_closed:
            return
        connection.is_closed = True
        connection.unsent.clear()
        for name in list(connection.names):
            self._changes += self._change(connection, _UNSUBSCRIBE, name)
        self._connections.remove(connection)
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _close_connections(self) -> None:
        for connection in list(self._connections):
            self._close(connection)


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ServerError: if the port cannot be bound.
    """
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        where = f"{host}, port {port}" if port else f"{host}, a free port"
        if error.errno == errno.EADDRINUSE:
            advice = "another server may be running there; port 0 chooses a free port"
        else:
            advice = "the host must be an address of this machine, and the port permitted"
        why = os.strerror(error.errno or 0)
        raise ServerError(f"cannot listen on {where}: {why}; {advice}") from error
    listener.setblocking(False)
    return listener
