"""Who is computed next.

Sentences are computed in batches of one length, whoever asked for them. Clients share the engine
evenly: the next batch begins with a sentence of the client that has had the fewest pieces
computed. Among the requests of one client a small one overtakes a larger one, but does not when
it comes much later: each is due when the client has had as many pieces computed as when it came
and its own besides (virtual finish times, as packet schedulers have them).
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
from .job import Job, Row

__all__ = ["Batch", "Preparation", "Schedule"]

# Vectors of requests under way, in bytes, the largest one left out: beyond it a large request
# waits until another is done. Small ones may always begin.
_MOST_UNDER_WAY = 1 << 30
_SMALL = 4 << 20
# So many batches are made ready before the next is computed, so that sentences of one length
# find each other.
_READY = 16
# On a GPU sentences are padded, but not where they are shorter than this share of the longest.
_LEAST_SHARE = 0.75
# Of the time that computing takes, roughly.
_SHARE_OF_PREPARATION = 1 / 16


@dataclass(frozen=True, slots=True)
class Preparation:
    """The next texts of a job are to become rows."""

    job: Job


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows to compute together."""

    rows: Sequence[Row]


Task: TypeAlias = Preparation | Batch
_Turn: TypeAlias = tuple[float, int, Job]


@dataclass(slots=True)
class _Client:
    """The jobs of one client that are not done."""

    served: float
    """Pieces computed for it; a client that comes is on a par with the one that had fewest."""
    size: int = 0
    """Bytes of the requests."""
    turns: dict[Job, _Turn] = field(default_factory=dict)
    """When each job is due; of two that are due at once, the one that came first."""
    raw: list[_Turn] = field(default_factory=list)
    """A heap of those that have texts which are not rows yet, and that nobody prepares."""


class Schedule:
    """The jobs that are not done; shared by the threads that compute.

    Args:
        budget: What makes a batch.
    """

    def __init__(self, budget: BatchLimits) -> None:
        self._budget = budget
        self._clients: dict[bytes, _Client] = {}
        self._numbers = count()
        self._ready: dict[Job, None] = {}
        """Wholly prepared, with rows that nobody has taken."""
        self._ready_pieces = 0
        self._begun: dict[Job, int] = {}
        """Jobs of which rows were taken, with the bytes of their vectors."""
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        """Count the jobs that are not done."""
        with self._changed:
            return sum(len(client.turns) for client in self._clients.values())

    def waiting_bytes(self, name: bytes) -> int:
        """Return how much of what a client sent is not answered yet."""
        with self._changed:
            client = self._clients.get(name)
            return client.size if client else 0

    def add(self, job: Job) -> None:
        """Have a job done."""
        with self._changed:
            name = job.sender.client
            if name not in self._clients:
                least = min((client.served for client in self._clients.values()), default=0.0)
                self._clients[name] = _Client(least)
            client = self._clients[name]
            turn = (client.served + job.estimate, next(self._numbers), job)
            client.turns[job] = turn
            client.size += job.size
            heapq.heappush(client.raw, turn)
            self._changed.notify()

    def take(self) -> Task | None:
        """Wait for something to do, and return it; None when there will be nothing any more."""
        with self._changed:
            while True:
                if task := self._next():
                    return task
                if self._closed and not self._clients:
                    return None
                self._changed.wait()

    def prepared(self, job: Job, rows: Iterable[Row]) -> None:
        """Take back a job of which some texts have become rows."""
        with self._changed:
            if not self._knows(job):
                return
            pieces = 0
            for row in rows:
                job.rows[row.length].append(row)
                pieces += row.length
            client = self._clients[job.sender.client]
            self._ready_pieces += pieces
            client.served += pieces * _SHARE_OF_PREPARATION
            if job.is_prepared:
                self._ready[job] = None
            else:
                heapq.heappush(client.raw, client.turns[job])
            self._changed.notify_all()

    def computed(self, batch: Batch) -> list[Job]:
        """Take back a batch whose rows have their vectors; return the jobs that are done."""
        with self._changed:
            counts = Counter(row.job for row in batch.rows)
            for job, rows in counts.items():
                job.count(rows)
            return self._remove(job for job in counts if job.is_done)

    def fail(self, jobs: Iterable[Job], error: str) -> list[Job]:
        """Give up jobs; return those that were not done before."""
        with self._changed:
            failed = self._remove(jobs)
            for job in failed:
                job.error = error
            return failed

    def drop(self, name: bytes) -> list[Job]:
        """Forget all jobs of a client; return them."""
        with self._changed:
            client = self._clients.get(name)
            return self._remove(list(client.turns)) if client else []

    def close(self) -> None:
        """Let the threads go when all is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> Task | None:
        raw = min(
            ((client.served, *client.raw[0]) for client in self._clients.values() if client.raw),
            default=None,
        )
        ready = min((self._turn(job) for job in self._ready if self._may_begin(job)), default=None)
        few = self._ready_pieces < _READY * self._budget.pieces
        if raw and (ready is None or few or raw < ready):
            job = raw[-1]
            heapq.heappop(self._clients[job.sender.client].raw)
            return Preparation(job)
        return self._batch(ready[-1]) if ready else None

    def _turn(self, job: Job) -> tuple[float, float, int, Job]:
        client = self._clients[job.sender.client]
        return client.served, *client.turns[job]

    def _may_begin(self, job: Job) -> bool:
        large = [size for size in self._begun.values() if size > _SMALL]
        if job in self._begun or job.result_bytes <= _SMALL or not large:
            return True
        return sum(large) - max(large) + job.result_bytes <= _MOST_UNDER_WAY

    def _batch(self, first: Job) -> Batch:
        """Take rows as long as the longest of a job, its own first."""
        longest = max(first.rows)
        most = min(self._budget.sentences, max(1, self._budget.pieces // longest))
        rows: list[Row] = []
        for job in (first, *(job for job in self._ready if job is not first)):
            for length in self._alike(job, longest):
                if len(rows) < most and self._may_begin(job):
                    rows += self._pick(job, length, most - len(rows))
        return Batch(rows)

    def _alike(self, job: Job, longest: int) -> list[int]:
        """Return the lengths of a job's rows that go well with the longest."""
        if self._budget.uniform:
            return [longest] if longest in job.rows else []
        least = _LEAST_SHARE * longest
        return sorted((n for n in job.rows if least <= n <= longest), reverse=True)

    def _pick(self, job: Job, length: int, most: int) -> list[Row]:
        self._begun[job] = job.result_bytes
        there = job.rows[length]
        picked = there[-most:]
        del there[-most:]
        if not there:
            del job.rows[length]
        if not job.rows:
            del self._ready[job]
        pieces = len(picked) * length
        self._ready_pieces -= pieces
        self._clients[job.sender.client].served += pieces
        return picked

    def _knows(self, job: Job) -> bool:
        client = self._clients.get(job.sender.client)
        return client is not None and job in client.turns

    def _remove(self, jobs: Iterable[Job]) -> list[Job]:
        removed = [job for job in dict.fromkeys(jobs) if self._knows(job)]
        for job in removed:
            client = self._clients[job.sender.client]
            turn = client.turns.pop(job)
            client.size -= job.size
            if turn in client.raw:
                client.raw.remove(turn)
                heapq.heapify(client.raw)
            if not client.turns:
                del self._clients[job.sender.client]
            self._ready.pop(job, None)
            self._ready_pieces -= job.pieces
            self._begun.pop(job, None)
            job.rows.clear()
        if removed:
            self._changed.notify_all()
        return removed
