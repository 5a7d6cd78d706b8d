"""Replies on their way to the clients, in bounded memory.

A client subscribes to its name when it connects, but its first request may arrive before the
subscription, so a reply waits for the subscription for a while. After it has been sent, a reply
stays in memory until the operating system has accepted it, which takes until the client reads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..types import FloatArray
from .protocol import Sender, error_info
from .settings import DEFAULT_LIMITS, Limits
from .sockets import Sockets, Subscription

__all__ = ["ReplyQueue"]

_log = logging.getLogger(__name__)

_REPLY_OVERHEAD = 4096  # bytes in addition to the data, as measured
# In excess of the limit, so that a client that reads again learns of the replies it has lost.
_ERROR_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Reply:
    sender: Sender
    info: bytes
    data: FloatArray | bytes

    @property
    def size(self) -> int:
        data = len(self.data) if isinstance(self.data, bytes) else self.data.nbytes
        return len(self.info) + data + _REPLY_OVERHEAD


@dataclass(slots=True)
class _Client:
    """The replies to one client that are in memory."""

    size: int = 0
    """Bytes of all of them."""
    waiting: deque[_Reply] = field(default_factory=deque)
    """Replies that wait for a subscription."""
    waiting_since: float = 0.0
    """When the first of them was added."""
    sent: deque[tuple[Callable[[], bool], int]] = field(default_factory=deque)
    """For each reply that has been sent: whether it has left our memory, and its size."""
    dropped: int = 0
    """The number of replies that were dropped."""


class ReplyQueue:
    """Sends replies and bounds how many of them are kept; belongs to the thread of the sockets.

    Args:
        sockets: Sends the replies.
        limits: ``kept_bytes`` bounds the replies to one client, except that a single reply may be
            larger; ``absence`` is how long replies wait for a subscription.
    """

    def __init__(self, sockets: Sockets, limits: Limits = DEFAULT_LIMITS) -> None:
        self._sockets = sockets
        self._limits = limits
        self._clients: dict[bytes, _Client] = {}
        self._subscribed: set[bytes] = set()
        self._unsubscribed: dict[bytes, float] = {}
        """The names whose subscription has ended, and when."""

    @property
    def size(self) -> int:
        """Bytes of all replies in memory; 0 only if there are none."""
        return sum(client.size for client in self._clients.values())

    def is_full(self, name: bytes) -> bool:
        """Return whether another reply to a client would be dropped, however small it is."""
        client = self._clients.get(name)
        if client:
            _discard_delivered(client)
        return client is not None and client.size >= self._limits.kept_bytes

    def update(self, change: Subscription, now: float) -> None:
        """Record a change of subscriptions, and send the replies that waited for it."""
        if change.is_new:
            self._subscribed.add(change.name)
            self._unsubscribed.pop(change.name, None)
            if client := self._clients.get(change.name):
                while client.waiting:
                    self._send(client, client.waiting.popleft())
        elif change.name in self._subscribed:
            self._subscribed.remove(change.name)
            self._unsubscribed[change.name] = now

    def put(
        self,
        sender: Sender,
        info: bytes,
        data: FloatArray | bytes,
        now: float,
        *,
        is_error: bool = False,
    ) -> None:
        """Send a reply, or keep it until the client subscribes.

        A reply that would exceed the limit is replaced by an error, for which a little more memory
        is reserved.
        """
        client = self._clients.setdefault(sender.client, _Client())
        _discard_delivered(client)
        reply, most = _Reply(sender, info, data), self._limits.kept_bytes
        if client.size and client.size + reply.size > most:
            if not client.dropped:
                _log.warning(
                    "replies dropped: the client does not read",
                    extra={"client": sender.client, "bytes": client.size},
                )
            client.dropped += 1
            if not is_error:
                error = f"the reply was dropped, since {most} bytes of others have not been read"
                reply = _Reply(sender, error_info(error), b"")
            if client.size + reply.size > most + _ERROR_BYTES:
                return
        client.size += reply.size
        if sender.client in self._subscribed:
            self._send(client, reply)
        else:
            if not client.waiting:
                client.waiting_since = now
            client.waiting.append(reply)

    def expire(self, now: float) -> set[bytes]:
        """Discard delivered replies and those of absent clients; return the absent clients."""
        absence = self._limits.absence
        absent = {name for name, since in self._unsubscribed.items() if now - since > absence}
        for name in absent:
            del self._unsubscribed[name]
        for name, client in list(self._clients.items()):
            _discard_delivered(client)
            if client.waiting and now - client.waiting_since > absence:
                _log.warning(
                    "replies dropped: the client is gone",
                    extra={"client": name, "replies": len(client.waiting)},
                )
                client.size -= sum(reply.size for reply in client.waiting)
                client.waiting.clear()
                absent.add(name)
            if not client.size:
                if client.dropped:
                    _log.warning(
                        "client reads again", extra={"client": name, "dropped": client.dropped}
                    )
                del self._clients[name]
        return absent

    def _send(self, client: _Client, reply: _Reply) -> None:
        frames = [reply.sender.client, reply.info, reply.data, reply.sender.number]
        client.sent.append((self._sockets.publish(frames), reply.size))


def _discard_delivered(client: _Client) -> None:
    while client.sent and client.sent[0][0]():  # replies are delivered in order
        client.size -= client.sent.popleft()[1]
