"""The two sockets of a bert-serving-server.

Clients push requests to the one, and subscribe to their names at the other, where replies are
published.

Both are raw sockets (``STREAM``), for which libzmq accepts, reads and writes and
:mod:`bert_tokemb.serve.zmtp` speaks the protocol, because libzmq's own types do not suffice:

* ``XPUB`` publishes a reply to all who have subscribed to a prefix of the client's name, also to
  everything. In its manual mode, which could prevent that, libzmq 4.3.5 confuses subscribers after
  a peer has sent anything but a subscription, as an HTTP client does.
* ``PULL`` receives a message of any number of frames before it can be refused.

The queue of replies to a client is unlimited here. Each reply is tracked until the operating system
has accepted it, so that :mod:`bert_tokemb.serve.reply_queue` can bound the memory.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
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
# What remains when the last reply is delivered: its last frame, of a few bytes.
_LINGER = 1000  # milliseconds
# Requests up to this multiple of the limit are received, to be answered with the limit.
_RECEIVED_MULTIPLE = 4
_MAX_REQUEST_FRAMES = 4
_MAX_SUBSCRIPTION = 1024  # bytes

# The first byte of what a subscriber sends.
_SUBSCRIBE, _UNSUBSCRIBE = b"\1", b"\0"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client has subscribed to a name, or no client is subscribed to it any longer."""

    name: bytes
    is_new: bool


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
        with ExitStack() as stack:
            self.host = host
            self._limits = limits
            context = zmq.Context()
            stack.callback(context.destroy, linger=_LINGER)
            self._requests = _Socket(
                context,
                b"PULL",
                partial(
                    Peer,
                    [b"PUSH"],
                    max_frames=_MAX_REQUEST_FRAMES,
                    max_bytes=_RECEIVED_MULTIPLE * limits.request_bytes,
                ),
            )
            self._replies = _Socket(
                context,
                b"PUB",
                partial(Peer, [b"SUB", b"XSUB"], max_frames=1, max_bytes=_MAX_SUBSCRIPTION),
            )
            self.port = self._requests.bind(host, port)
            self.port_out = self._replies.bind(host, port_out)
            self._received: deque[list[bytes]] = deque()
            self._subscribers: dict[bytes, set[bytes]] = {}
            """The connections that are subscribed to each name."""
            self._wake_reader, self._wake_writer = os.pipe()
            for end in (self._wake_reader, self._wake_writer):
                os.set_blocking(end, False)
                stack.callback(os.close, end)
            self._poller = zmq.Poller()
            for source in (self._requests.raw, self._replies.raw, self._wake_reader):
                self._poller.register(source, zmq.POLLIN)
            self._stack = stack.pop_all()

    def wait(self, timeout: float) -> None:
        """Return when a message arrives, after a call of :meth:`wake`, or after so many seconds."""
        self._poller.poll(0 if self._received else round(timeout * 1000))
        with suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)

    def wake(self) -> None:
        """Make :meth:`wait` return; callable from any thread and from signal handlers."""
        with suppress(BlockingIOError):  # the pipe is full: wait() will return anyway
            os.write(self._wake_writer, b"!")

    def close_requests(self) -> None:
        """Accept no more requests."""
        self._poller.unregister(self._requests.raw)
        self._requests.raw.close(linger=0)

    def requests(self, most: int) -> list[list[bytes]]:
        """Return the messages that have arrived: at most so many, and few if they are large."""
        size = sum(len(frame) for message in self._received for frame in message)
        while len(self._received) < most and size < self._limits.request_bytes:
            arrived = self._requests.receive()
            if arrived is None:
                break
            self._received += arrived.messages
            size += arrived.size
        return [self._received.popleft() for _ in range(min(most, len(self._received)))]

    def subscriptions(self, most: int) -> list[Subscription]:
        """Return the changes of subscriptions that have arrived, after at most so many reads."""
        changes: list[Subscription] = []
        for _ in range(most):
            arrived = self._replies.receive()
            if arrived is None:
                break
            for (frame,) in arrived.messages:
                changes += self._change(arrived.connection, frame[:1], frame[1:])
            if arrived.is_end:
                for name in list(self._subscribers):
                    changes += self._change(arrived.connection, _UNSUBSCRIBE, name)
        return changes

    def _change(self, connection: bytes, action: bytes, name: bytes) -> Iterator[Subscription]:
        subscribers = self._subscribers.get(name, set())
        # All other frames, and subscriptions to everything, have no meaning here.
        if action == _SUBSCRIBE and name:
            self._subscribers[name] = subscribers | {connection}
            yield Subscription(name, is_new=True)
        elif action == _UNSUBSCRIBE and connection in subscribers:
            subscribers.remove(connection)
            if not subscribers:
                del self._subscribers[name]
                yield Subscription(name, is_new=False)

    def publish(self, frames: Sequence[Any]) -> Callable[[], bool]:
        """Send a reply to the clients that have subscribed to exactly its first frame.

        Returns:
            A function that returns whether the reply has left the memory of this process.
        """
        name, info, data, number = frames
        size = memoryview(data).nbytes
        head = [frame_header(len(name), more=True), name, frame_header(len(info), more=True), info]
        head_bytes = b"".join([*head, frame_header(size, more=True)])
        tail = frame_header(len(number), more=False) + number
        trackers = []
        for connection in self._subscribers.get(name, ()):
            # An empty chunk would end the connection.
            chunks = [chunk for chunk in (head_bytes, data) if memoryview(chunk).nbytes]
            # Only the larger one is tracked: tracking takes some kilobytes, and chunks leave in
            # order.
            largest = max(chunks, key=lambda chunk: memoryview(chunk).nbytes)
            for chunk in chunks:
                if chunk is largest:
                    trackers.append(self._replies.send_tracked(connection, chunk))
                else:
                    self._replies.send(connection, chunk)
            self._replies.send(connection, tail)
        return lambda: all(tracker.done for tracker in trackers)

    def __enter__(self) -> Sockets:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """What one read from a socket has brought."""

    connection: bytes
    messages: Sequence[list[bytes]] = ()
    size: int = 0
    """Bytes that were read."""
    is_end: bool = False
    """Whether the connection is closed."""


class _Socket:
    """A socket that speaks ZMTP to many peers.

    Args:
        context: The context of the socket.
        kind: The type of socket that the peers see.
        make_peer: Returns the state of a new connection.
    """

    def __init__(
        self, context: zmq.Context[Any], kind: bytes, make_peer: Callable[[], Peer]
    ) -> None:
        self.raw = context.socket(zmq.STREAM)
        self.raw.set(zmq.SNDHWM, 0)
        # From the beginning: with the default, a connection that ends with unsent bytes is kept
        # forever, and the context with it.
        self.raw.set(zmq.LINGER, _LINGER)
        # By default pyzmq copies small messages, and these are not tracked.
        self.raw.copy_threshold = 0
        self.raw.set(zmq.TCP_KEEPALIVE, 1)
        self.raw.set(zmq.TCP_KEEPALIVE_IDLE, _IDLE)
        self.raw.set(zmq.TCP_KEEPALIVE_INTVL, _INTERVAL)
        self.raw.set(zmq.TCP_KEEPALIVE_CNT, _PROBES)
        self._handshake = GREETING + ready(kind)
        self._make_peer = make_peer
        self._peers: dict[bytes, Peer] = {}

    def bind(self, host: str, port: int) -> int:
        """Listen, and return the port.

        Raises:
            ServerError: if the port cannot be bound.
        """
        try:
            self.raw.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            where = f"{host}, port {port}" if port else f"{host}, a free port"
            if error.errno == errno.EADDRINUSE:
                advice = "another server may be running there; port 0 chooses a free port"
            else:
                advice = "the host must be an address of this machine, and the port permitted"
            why = os.strerror(error.errno or 0)
            raise ServerError(f"cannot listen on {where}: {why}; {advice}") from error
        endpoint = bytes(self.raw.get(zmq.LAST_ENDPOINT))
        return int(endpoint.rstrip(b"\0").rpartition(b":")[2])

    def receive(self) -> _Arrival | None:
        """Read once, or return None if nothing has arrived."""
        try:
            connection, data = self.raw.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        peer = self._peers.get(connection)
        if peer is None:
            if not data:  # a new connection
                self._peers[connection] = self._make_peer()
                self.send(connection, self._handshake)
            return _Arrival(connection)
        if not data:
            del self._peers[connection]
            return _Arrival(connection, is_end=True)
        try:
            messages = list(peer.receive(data))
        except ProtocolError as error:
            _log.warning("peer disconnected", extra={"reason": str(error)})
            del self._peers[connection]
            self.send(connection, b"")
            return _Arrival(connection, is_end=True)
        if peer.outgoing:
            self.send(connection, bytes(peer.outgoing))
            peer.outgoing.clear()
        return _Arrival(connection, messages, len(data))

    def send(self, connection: bytes, data: bytes) -> None:
        """Send bytes to a peer, or end the connection if there are none."""
        with _disconnection():
            self._send(connection, data)

    def send_tracked(self, connection: bytes, data: Any) -> zmq.MessageTracker:
        """Send bytes to a peer without a copy; the tracker says when they have left memory."""
        with _disconnection():
            tracker: zmq.MessageTracker = self._send(connection, data, copy=False, track=True)
            return tracker
        return zmq.MessageTracker()  # of nothing, so it is done

    def _send(self, connection: bytes, data: Any, **options: bool) -> Any:
        # The queue is unlimited, so this would block only if the peer were disconnecting.
        self.raw.send(connection, zmq.SNDMORE | zmq.NOBLOCK)
        return self.raw.send(data, zmq.NOBLOCK, **options)


@contextmanager
def _disconnection() -> Iterator[None]:
    """Ignore that the peer is disconnecting, which :meth:`_Socket.receive` will report."""
    try:
        yield
    except zmq.ZMQError as error:
        if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
            raise
