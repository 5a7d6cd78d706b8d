"""The two sockets of a bert-serving-server, and the peculiarities of ZeroMQ on the server's side.

Requests are pulled from all clients. Replies are published to the clients that have subscribed to
their name. A ZeroMQ publisher silently drops a message whose subscription has not arrived yet or
whose queue is full. Therefore the publisher is an ``XPUB`` socket, which reports subscriptions; its
queues are unlimited; and each reply is tracked until the operating system has accepted it, so that
:mod:`bert_tokemb.serve.reply_queue` can bound the memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import zmq

from ..errors import ServerError
from .settings import DEFAULT_LIMITS, Limits

__all__ = ["VERSIONS", "Sockets", "Subscription"]

VERSIONS = {"pyzmq_version": zmq.pyzmq_version(), "zmq_version": zmq.zmq_version()}
"""Reported to clients."""

# TCP keep-alive, in seconds: detects clients whose machine has disappeared. The system of a client
# that does not read still answers, so such a client keeps its replies.
_IDLE, _INTERVAL, _PROBES = 60, 15, 4
# Requests of one client that wait in our memory; as many again wait in the client's.
_MAX_WAITING = 16
# What remains when the last reply is delivered: its last frame, of a few bytes.
_LINGER = 1000  # milliseconds
# Frames up to this multiple of the limit are received, to be answered with the limit.
_RECEIVED_MULTIPLE = 4
_MAX_SUBSCRIPTION = 1024  # bytes


@dataclass(frozen=True, slots=True)
class Subscription:
    """A client has subscribed to all messages that begin with a name, or has unsubscribed."""

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
            self._requests = context.socket(zmq.PULL)
            self._requests.set(zmq.MAXMSGSIZE, _RECEIVED_MULTIPLE * limits.request_bytes)
            self._requests.set(zmq.RCVHWM, _MAX_WAITING)
            self._replies = context.socket(zmq.XPUB)
            self._replies.set(zmq.SNDHWM, 0)
            self._replies.set(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION)
            # By default pyzmq copies small messages, and these are not tracked.
            self._replies.copy_threshold = 0
            for socket in (self._requests, self._replies):
                socket.set(zmq.TCP_KEEPALIVE, 1)
                socket.set(zmq.TCP_KEEPALIVE_IDLE, _IDLE)
                socket.set(zmq.TCP_KEEPALIVE_INTVL, _INTERVAL)
                socket.set(zmq.TCP_KEEPALIVE_CNT, _PROBES)
            self.port = _bind(self._requests, host, port)
            self.port_out = _bind(self._replies, host, port_out)
            self._wake_reader, self._wake_writer = os.pipe()
            for end in (self._wake_reader, self._wake_writer):
                os.set_blocking(end, False)
                stack.callback(os.close, end)
            self._poller = zmq.Poller()
            for source in (self._requests, self._replies, self._wake_reader):
                self._poller.register(source, zmq.POLLIN)
            self._stack = stack.pop_all()

    def wait(self, timeout: float) -> None:
        """Return when a message arrives, after a call of :meth:`wake`, or after so many seconds."""
        self._poller.poll(round(timeout * 1000))
        with suppress(BlockingIOError):
            os.read(self._wake_reader, 4096)

    def wake(self) -> None:
        """Make :meth:`wait` return; callable from any thread and from signal handlers."""
        with suppress(BlockingIOError):  # the pipe is full: wait() will return anyway
            os.write(self._wake_writer, b"!")

    def close_requests(self) -> None:
        """Accept no more requests."""
        self._poller.unregister(self._requests)
        self._requests.close(linger=0)

    def requests(self, most: int) -> list[list[bytes]]:
        """Return the messages that have arrived: at most so many, and few if they are large."""
        messages: list[list[bytes]] = []
        size = 0
        with suppress(zmq.Again):
            while len(messages) < most and size < self._limits.request_bytes:
                messages.append(self._requests.recv_multipart(zmq.NOBLOCK))
                size += sum(map(len, messages[-1]))
        return messages

    def subscriptions(self, most: int) -> list[Subscription]:
        """Return the changes of subscriptions that have arrived, at most so many."""
        changes: list[Subscription] = []
        with suppress(zmq.Again):
            while len(changes) < most:
                frame = self._replies.recv(zmq.NOBLOCK)
                if frame[:1] in (b"\0", b"\1"):  # a client can send anything
                    changes.append(Subscription(frame[1:], frame[:1] == b"\1"))
        return changes

    def publish(self, frames: Sequence[Any]) -> Callable[[], bool]:
        """Send a reply to the clients that have subscribed to its first frame.

        Returns:
            A function that returns whether the reply has left the memory of this process.
        """
        *others, last = frames
        # Only the largest frame is tracked: tracking takes some kilobytes, and frames leave in
        # order.
        largest = max(others, key=lambda frame: memoryview(frame).nbytes)
        tracker: zmq.MessageTracker | None = None
        for frame in others:
            if frame is largest:
                tracker = self._replies.send(frame, zmq.SNDMORE, copy=False, track=True)
            else:
                self._replies.send(frame, zmq.SNDMORE)
        self._replies.send(last)
        return lambda: tracker is None or bool(tracker.done)

    def __enter__(self) -> Sockets:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


def _bind(socket: zmq.Socket[bytes], host: str, port: int) -> int:
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        where = f"{host}, port {port}" if port else f"{host}, a free port"
        if error.errno == errno.EADDRINUSE:
            advice = "another server may be running there; port 0 chooses a free port"
        else:
            advice = "the host must be an address of this machine, and the port permitted"
        why = os.strerror(error.errno or 0)
        raise ServerError(f"cannot listen on {where}: {why}; {advice}") from error
    endpoint = bytes(socket.get(zmq.LAST_ENDPOINT))
    return int(endpoint.rstrip(b"\0").rpartition(b":")[2])
