"""Replies on their way to their readers, and how many of them are kept for one who does not read.

A client subscribes to its name when it connects, and may ask before its subscription has come,
so that a reply waits for it a while. Once sent, a reply is kept until the system has taken it,
which it does not when the client does not read.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..types import FloatArray
from .protocol import Sender, error_info
from .sockets import Subscription, Wire

__all__ = ["Outbox"]

_log = logging.getLogger(__name__)

_PATIENCE = 10.0  # seconds, for a client that has not subscribed, or not again
_PER_REPLY = 4096  # bytes; what a reply takes besides its data, as was measured
# Beyond the limit for replies there is a little room to tell why there is none.
_ROOM_FOR_ERRORS = 1 << 20


@dataclass(frozen=True, slots=True)
class _Reply:
    sender: Sender
    info: bytes
    data: FloatArray | bytes

    @property
    def size(self) -> int:
        data = len(self.data) if isinstance(self.data, bytes) else self.data.nbytes
        return len(self.info) + data + _PER_REPLY


@dataclass(slots=True)
class _Box:
    """What is kept for one client."""

    size: int = 0
    """Bytes of all that is waiting or under way."""
    waiting: deque[_Reply] = field(default_factory=deque)
    """Nobody has subscribed yet."""
    since: float = 0.0
    """When the first of them came."""
    under_way: deque[tuple[Callable[[], bool], int]] = field(default_factory=deque)
    """Whether each is gone, and its size; they go in order."""
    dropped: int = 0


class Outbox:
    """Sends replies; belongs to the thread that the wire belongs to.

    Args:
        wire: Sends.
        most: Bytes of replies that are kept for one client; one larger reply is kept alone.
    """

    def __init__(self, wire: Wire, most: int) -> None:
        self._wire = wire
        self._most = most
        self._boxes: dict[bytes, _Box] = {}
        self._names: set[bytes] = set()
        self._left: dict[bytes, float] = {}
        """Who has been gone since when."""

    def __len__(self) -> int:
        """Count the clients for which something is kept."""
        return len(self._boxes)

    @property
    def size(self) -> int:
        """Bytes that are kept for all clients."""
        return sum(box.size for box in self._boxes.values())

    def is_full(self, client: bytes) -> bool:
        """Tell whether a further reply would be dropped, however small."""
        box = self._boxes.get(client)
        if box:
            self._forget_what_is_gone(box)
        return box is not None and box.size >= self._most

    def subscribe(self, change: Subscription, now: float) -> None:
        """Take note of who reads."""
        if change.begins:
            self._names.add(change.name)
            self._left.pop(change.name, None)
            for client, box in self._boxes.items():
                if client.startswith(change.name):
                    self._send_waiting(box)
        elif change.name in self._names:
            self._names.remove(change.name)
            self._left[change.name] = now

    def post(
        self,
        sender: Sender,
        info: bytes,
        data: FloatArray | bytes,
        now: float,
        *,
        is_error: bool = False,
    ) -> None:
        """Send a reply, keep it for a while, or drop it and tell the client so.

        An error is told in any case, as long as there is a little room.
        """
        box = self._boxes.setdefault(sender.client, _Box())
        self._forget_what_is_gone(box)
        reply, most = _Reply(sender, info, data), self._most
        if box.size and box.size + reply.size > most:
            self._note_drop(box, reply)
            if not is_error:
                told = error_info(f"the reply was dropped: {most} bytes of others were not read")
                reply = _Reply(sender, told, b"")
            if box.size + reply.size > most + _ROOM_FOR_ERRORS:
                return
        box.size += reply.size
        if self._is_read(sender.client):
            self._send(box, reply)
        else:
            if not box.waiting:
                box.since = now
            box.waiting.append(reply)

    def tidy(self, now: float) -> set[bytes]:
        """Forget what has been read, and what nobody came for; return who is gone."""
        gone = {name for name, since in self._left.items() if now - since > _PATIENCE}
        for name in gone:
            del self._left[name]
        for client, box in list(self._boxes.items()):
            self._forget_what_is_gone(box)
            if box.waiting and now - box.since > _PATIENCE:
                _log.warning(
                    "replies dropped: their client is gone",
                    extra={"client": box.waiting[0].sender.client, "replies": len(box.waiting)},
                )
                # Those who do read, though they were said not to, lose nothing.
                self._send_waiting(box)
                self._forget_what_is_gone(box)
                gone.add(client)
            if not box.size:
                if box.dropped:
                    _log.warning(
                        "client reads again", extra={"client": client, "dropped": box.dropped}
                    )
                del self._boxes[client]
        return gone

    def _is_read(self, client: bytes) -> bool:
        # A subscription is to all that begins with it.
        return any(client[:n] in self._names for n in range(len(client), -1, -1))

    def _send_waiting(self, box: _Box) -> None:
        while box.waiting:
            self._send(box, box.waiting.popleft())

    def _send(self, box: _Box, reply: _Reply) -> None:
        frames = [reply.sender.client, reply.info, reply.data, reply.sender.number]
        box.under_way.append((self._wire.publish(frames), reply.size))

    def _forget_what_is_gone(self, box: _Box) -> None:
        while box.under_way and box.under_way[0][0]():
            box.size -= box.under_way.popleft()[1]

    def _note_drop(self, box: _Box, reply: _Reply) -> None:
        if not box.dropped:
            _log.warning(
                "replies dropped: their client does not read",
                extra={"client": reply.sender.client, "bytes": box.size},
            )
        box.dropped += 1
