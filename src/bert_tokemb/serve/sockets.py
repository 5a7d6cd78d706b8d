"""The two sockets of a bert-serving-server; every oddity of ZeroMQ's server side is here.

Requests are pulled from all clients, replies published to those who have subscribed to their
name. A publisher drops, and never says so, what comes before a subscription or finds a queue
full. So it is an ``XPUB``, which tells of subscriptions, its queues have no limit, and replies
are tracked until the system has taken them: who keeps count (:mod:`bert_tokemb.serve.reply_queue`)
sets the limit.

All but :meth:`Wire.wake` belongs to one thread.
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

__all__ = ["FRAME_LIMIT", "VERSIONS", "Subscription", "Wire"]

FRAME_LIMIT = 64 << 20
"""Bytes that a client may send in one frame."""

VERSIONS = {"pyzmq_version": zmq.pyzmq_version(), "zmq_version": zmq.zmq_version()}
"""As clients are told them."""

# Whoever is not there any more without having said so is found out, in seconds. It need not
# read for that: a stopped client keeps its replies.
_IDLE, _BETWEEN, _PROBES = 60, 15, 4
# Messages that wait for us, from one client. They wait for us again behind it.
_WAITING = 16
# What is left when the last reply has been taken: its last frame, a few bytes.
_LINGER = 1000  # milliseconds
# So much longer a frame is still read, so that its sender can be told.
_TOO_LONG = 4
_LONGEST_SUBSCRIPTION = 1024  # bytes


@dataclass(frozen=True, slots=True)
class Subscription:
    """Somebody reads, or nobody does any more, what begins with a name."""

    name: bytes
    begins: bool


class Wire:
    """Binds both sockets; use it as a context manager.

    Args:
        host: The address of this machine to bind.
        port: For requests; 0 for any that is free.
        port_out: For replies, the same.
        most: Bytes that a frame may have; a client that sends far longer ones is cut off.

    Raises:
        ServerError: one of the ports cannot be bound.
    """

    def __init__(self, host: str, port: int, port_out: int, most: int = FRAME_LIMIT) -> None:
        with ExitStack() as closing:
            self.host = host
            self._context = zmq.Context()
            closing.callback(self._context.destroy, linger=_LINGER)
            self.frame_limit = most
            self._requests = self._context.socket(zmq.PULL)
            self._requests.set(zmq.MAXMSGSIZE, _TOO_LONG * most)
            self._requests.set(zmq.RCVHWM, _WAITING)
            self._replies = self._context.socket(zmq.XPUB)
            self._replies.set(zmq.SNDHWM, 0)
            self._replies.set(zmq.MAXMSGSIZE, _LONGEST_SUBSCRIPTION)
            # Else nothing small is tracked.
            self._replies.copy_threshold = 0
            for socket in (self._requests, self._replies):
                socket.set(zmq.TCP_KEEPALIVE, 1)
                socket.set(zmq.TCP_KEEPALIVE_IDLE, _IDLE)
                socket.set(zmq.TCP_KEEPALIVE_INTVL, _BETWEEN)
                socket.set(zmq.TCP_KEEPALIVE_CNT, _PROBES)
            self.port = _bind(self._requests, host, port)
            self.port_out = _bind(self._replies, host, port_out)
            self._woken, self._waker = os.pipe()
            for end in (self._woken, self._waker):
                os.set_blocking(end, False)
                closing.callback(os.close, end)
            self._poller = zmq.Poller()
            for source in (self._requests, self._replies, self._woken):
                self._poller.register(source, zmq.POLLIN)
            self._closing = closing.pop_all()

    def wait(self, timeout: float) -> None:
        """Return when a message came, when somebody has woken us, or after so many seconds."""
        self._poller.poll(round(timeout * 1000))
        with suppress(BlockingIOError):
            os.read(self._woken, 4096)

    def wake(self) -> None:
        """Let the thread that waits go on; from any thread, or a signal's handler."""
        with suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._waker, b"!")

    def refuse(self) -> None:
        """Take no more requests."""
        self._poller.unregister(self._requests)
        self._requests.close(linger=0)

    def requests(self, most: int) -> list[list[bytes]]:
        """Return the messages that have come, at most so many, and not many large ones."""
        messages: list[list[bytes]] = []
        size = 0
        with suppress(zmq.Again):
            while len(messages) < most and size < self.frame_limit:
                messages.append(self._requests.recv_multipart(zmq.NOBLOCK))
                size += sum(map(len, messages[-1]))
        return messages

    def subscriptions(self, most: int) -> list[Subscription]:
        """Return what has changed about who reads."""
        changes: list[Subscription] = []
        with suppress(zmq.Again):
            while len(changes) < most:
                frame = self._replies.recv(zmq.NOBLOCK)
                if frame[:1] in (b"\0", b"\1"):  # all else is no subscription
                    changes.append(Subscription(frame[1:], frame[:1] == b"\1"))
        return changes

    def publish(self, frames: Sequence[Any]) -> Callable[[], bool]:
        """Send a reply to whoever has subscribed to the first frame.

        Returns:
            Tells whether nothing of it is in our memory any more.
        """
        *others, last = frames
        # One that is tracked takes some kilobytes itself, and goes not before those before it.
        largest = max(others, key=lambda frame: memoryview(frame).nbytes)
        tracker: zmq.MessageTracker | None = None
        for frame in others:
            if frame is largest:
                tracker = self._replies.send(frame, zmq.SNDMORE, copy=False, track=True)
            else:
                self._replies.send(frame, zmq.SNDMORE)
        self._replies.send(last)
        return lambda: tracker is None or bool(tracker.done)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.close()


def _bind(socket: zmq.Socket[bytes], host: str, port: int) -> int:
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        what = f"port {port}" if port else "a free port"
        remedy = "is another server running? 0 takes a free port"
        if error.errno != errno.EADDRINUSE:
            remedy = "give an address of this machine, and a port that you may bind"
        raise ServerError(f"cannot serve at {host}, {what} ({error.strerror}): {remedy}") from error
    endpoint = bytes(socket.get(zmq.LAST_ENDPOINT))
    return int(endpoint.rstrip(b"\0").rpartition(b":")[2])
