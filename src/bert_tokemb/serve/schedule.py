"""The order in which sentences are prepared and computed.

Sentences of the same length are computed in one batch, whichever client they come from. Clients
share the engine evenly: the next batch starts with a sentence of the client for which the fewest
pieces have been computed. Among the requests of one client, a small request overtakes a larger one
unless it arrives much later: a request is due when the engine has computed as many pieces for the
client as when the request arrived, plus its own. These are the virtual finish times of fair
queueing in networks.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Condition
from typing import TypeAlias

from ..types import BatchLimits
from .pending import PendingRequest, Row
from .settings import DEFAULT_LIMITS, Limits

__all__ = ["Batch", "Preparation", "Schedule", "Task"]

# Sentences are prepared for this many batches ahead, so that enough have the same length.
_BATCHES_AHEAD = 16
# The shortest sentence of a batch, relative to the longest, where sentences may be padded (GPU).
_MIN_SHARE = 0.75
# The time to prepare a piece, relative to the time to compute it, roughly.
_PREPARATION_COST = 1 / 16


@dataclass(frozen=True, slots=True)
class Preparation:
    """A task: turn the next texts of a request into rows."""

    request: PendingRequest


@dataclass(frozen=True, slots=True)
class Batch:
    """A task: compute rows together."""

    rows: Sequence[Row]


Task: TypeAlias = Preparation | Batch
_Due: TypeAlias = tuple[float, int, PendingRequest]
"""When a request is due, in pieces; its number, which breaks ties; the request."""


@dataclass(slots=True)
class _Client:
    """The pending requests of a client."""

    served: float
    """Pieces computed for the client. A new client starts with the least of the others."""
    size: int = 0
    """Bytes of the requests."""
    due: dict[PendingRequest, _Due] = field(default_factory=dict)
    unprepared: list[_Due] = field(default_factory=list)
    """A heap of the requests with texts to prepare, except those that a thread is preparing."""


class Schedule:
    """The pending requests of all clients, shared by the threads that compute.

    Args:
        batch_limits: The batches that suit the engine.
        limits: Bounds the memory of the replies that are being computed.
    """

    def __init__(self, batch_limits: BatchLimits, limits: Limits = DEFAULT_LIMITS) -> None:
        self._batch_limits = batch_limits
        self._limits = limits
        self._clients: dict[bytes, _Client] = {}
        self._numbers = count()
        self._ready: dict[PendingRequest, None] = {}
        """The prepared requests with rows that no thread has taken, in order."""
        self._ready_pieces = 0
        self._in_progress: dict[PendingRequest, int] = {}
        """The sizes of the replies to the requests of which rows have been taken."""
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        """Return the number of pending requests."""
        with self._changed:
            return sum(len(client.due) for client in self._clients.values())

    def pending_bytes(self, client: bytes) -> int:
        """Return the size of a client's pending requests."""
        with self._changed:
            return self._clients[client].size if client in self._clients else 0

    def add(self, request: PendingRequest) -> None:
        """Add a request."""
        with self._changed:
            name = request.sender.client
            if name not in self._clients:
                least = min((client.served for client in self._clients.values()), default=0.0)
                self._clients[name] = _Client(least)
            client = self._clients[name]
            due = (client.served + request.estimate, next(self._numbers), request)
            client.due[request] = due
            client.size += request.size
            heapq.heappush(client.unprepared, due)
            self._changed.notify()

    def take(self, timeout: float | None = None) -> Task | None:
        """Wait for a task and return it.

        Returns:
            None if the schedule is closed and empty, or if nothing changes for ``timeout`` seconds.
        """
        with self._changed:
            while not (task := self._next()):
                has_ended = self._closed and not self._clients
                if has_ended or not self._changed.wait(timeout):
                    return None
            return task

    def prepared(self, request: PendingRequest, rows: Iterable[Row]) -> None:
        """Record the rows of a :class:`Preparation`."""
        with self._changed:
            if not self._is_pending(request):
                return
            pieces = 0
            for row in rows:
                request.rows[row.length].append(row)
                pieces += row.length
            client = self._clients[request.sender.client]
            self._ready_pieces += pieces
            client.served += pieces * _PREPARATION_COST
            if request.is_prepared:
                self._ready[request] = None
            else:
                heapq.heappush(client.unprepared, client.due[request])
            self._changed.notify_all()

    def computed(self, batch: Batch) -> list[PendingRequest]:
        """Record that the vectors of a batch are stored; return the requests that are complete."""
        with self._changed:
            counts = Counter(row.request for row in batch.rows)
            for request, rows in counts.items():
                request.count(rows)
            return self._remove(request for request in counts if request.is_complete)

    def fail(self, requests: Iterable[PendingRequest], error: str) -> list[PendingRequest]:
        """Remove requests that failed; return those that were pending."""
        with self._changed:
            failed = self._remove(requests)
            for request in failed:
                request.error = error
            return failed

    def drop(self, client: bytes) -> list[PendingRequest]:
        """Remove and return all requests of a client."""
        with self._changed:
            return self._remove(self._clients[client].due) if client in self._clients else []

    def close(self) -> None:
        """Let :meth:`take` return None once nothing is pending."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> Task | None:
        unprepared = min(
            (
                (client.served, *client.unprepared[0])
                for client in self._clients.values()
                if client.unprepared
            ),
            default=None,
        )
        ready = min((self._rank(one) for one in self._ready if self._may_start(one)), default=None)
        is_short = self._ready_pieces < _BATCHES_AHEAD * self._batch_limits.pieces
        if unprepared and (ready is None or is_short or unprepared < ready):
            request = unprepared[-1]
            heapq.heappop(self._clients[request.sender.client].unprepared)
            return Preparation(request)
        return self._batch(ready[-1]) if ready else None

    def _rank(self, request: PendingRequest) -> tuple[float, float, int, PendingRequest]:
        """Return the sort key of a request: the fairness between clients, then within its own."""
        client = self._clients[request.sender.client]
        return client.served, *client.due[request]

    def _may_start(self, request: PendingRequest) -> bool:
        """Return whether there is memory for the reply, next to those in progress."""
        small = self._limits.small_reply_bytes
        large = [size for size in self._in_progress.values() if size > small]
        if request in self._in_progress or request.reply_bytes <= small or not large:
            return True
        return sum(large) - max(large) + request.reply_bytes <= self._limits.in_progress_bytes

    def _batch(self, first: PendingRequest) -> Batch:
        """Take rows that go well with the longest row of a request, its own rows first."""
        longest = max(first.rows)
        limits = self._batch_limits
        size = min(limits.sentences, max(1, limits.pieces // longest))
        rows: list[Row] = []
        for request in (first, *(other for other in self._ready if other is not first)):
            for length in self._similar_lengths(request, longest):
                if len(rows) < size and self._may_start(request):
                    rows += self._take_rows(request, length, size - len(rows))
        return Batch(rows)

    def _similar_lengths(self, request: PendingRequest, longest: int) -> list[int]:
        """Return the lengths of a request's rows that may be in a batch with the longest."""
        if self._batch_limits.uniform:
            return [longest] if longest in request.rows else []
        least = _MIN_SHARE * longest
        return sorted((n for n in request.rows if least <= n <= longest), reverse=True)

    def _take_rows(self, request: PendingRequest, length: int, most: int) -> list[Row]:
        self._in_progress[request] = request.reply_bytes
        rows = request.rows[length]
        taken = rows[-most:]
        del rows[-most:]
        if not rows:
            del request.rows[length]
        if not request.rows:
            del self._ready[request]
        pieces = len(taken) * length
        self._ready_pieces -= pieces
        self._clients[request.sender.client].served += pieces
        return taken

    def _is_pending(self, request: PendingRequest) -> bool:
        client = self._clients.get(request.sender.client)
        return client is not None and request in client.due

    def _remove(self, requests: Iterable[PendingRequest]) -> list[PendingRequest]:
        removed = [request for request in dict.fromkeys(requests) if self._is_pending(request)]
        for request in removed:
            client = self._clients[request.sender.client]
            due = client.due.pop(request)
            client.size -= request.size
            if due in client.unprepared:
                client.unprepared.remove(due)
                heapq.heapify(client.unprepared)
            if not client.due:
                del self._clients[request.sender.client]
            self._ready.pop(request, None)
            self._ready_pieces -= request.pieces
            self._in_progress.pop(request, None)
            request.rows.clear()
        if removed:
            self._changed.notify_all()
        return removed
