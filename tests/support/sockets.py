"""Fake sockets, for tests of the main thread of the server."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from typing import Any

from bert_tokemb.serve.sockets import Subscription

__all__ = ["FakeSockets"]


class FakeSockets:
    """A fake of :class:`bert_tokemb.serve.sockets.Sockets`, with a simulated clock.

    Waiting returns immediately and advances the clock by the time-out.

    Attributes:
        on_wait: Called after each wait of the server.
    """

    host, port, port_out = "127.0.0.1", 1, 2

    def __init__(self) -> None:
        self.now = 0.0
        self.on_wait: Callable[[], None] = lambda: None
        self.is_delivering = True
        """Whether replies are delivered immediately, or else by :meth:`deliver_one`."""
        self.is_closed = False
        """Whether no more requests are accepted."""
        self.published: list[tuple[int, str | None]] = []
        """The number and the error of each reply."""
        self.infos: list[dict[str, Any]] = []
        """The info frame of each reply."""
        self._incoming: deque[list[bytes]] = deque()
        self._changes: deque[Subscription] = deque()
        self._delivered = 0
        self._awake = Event()

    def clock(self) -> float:
        """Return the time in seconds."""
        return self.now

    def subscribe(self, name: bytes = b"client") -> None:
        """Simulate that a client subscribes."""
        self._changes.append(Subscription(name, is_new=True))

    def unsubscribe(self, name: bytes = b"client") -> None:
        """Simulate that a client unsubscribes."""
        self._changes.append(Subscription(name, is_new=False))

    def send(self, *frames: bytes) -> None:
        """Simulate that a message arrives."""
        self._incoming.append(list(frames))
        self._awake.set()

    def ask(self, number: int, *texts: str) -> None:
        """Simulate that a request arrives."""
        frames = (b"client", json.dumps(texts).encode(), b"%d" % number, b"%d" % len(texts))
        self.send(*frames)

    def deliver_one(self) -> None:
        """Deliver the next reply."""
        self._delivered += 1

    # --- Interface of Sockets ---

    def wait(self, timeout: float) -> None:
        # The worker threads run in real time and need a moment.
        if not (self._incoming or self._changes or self._awake.wait(0.0005)):
            self.now += timeout
        self._awake.clear()
        self.on_wait()

    def wake(self) -> None:
        self._awake.set()

    def close_requests(self) -> None:
        self.is_closed = True

    def requests(self, most: int) -> list[list[bytes]]:
        return _take(self._incoming, most)

    def subscriptions(self, most: int) -> list[Subscription]:
        return _take(self._changes, most)

    def publish(self, frames: Sequence[Any]) -> Callable[[], bool]:
        index = len(self.published)
        info = json.loads(frames[1])
        self.infos.append(info)
        self.published.append((int(frames[3]), info.get("error")))
        return lambda: self.is_delivering or index < self._delivered


def _take(queue: deque[Any], most: int) -> list[Any]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
