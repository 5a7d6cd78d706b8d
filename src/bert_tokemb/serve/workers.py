"""The threads that prepare and compute requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Thread

import numpy as np

from ..errors import ModelError, ThreadLimitError
from ..models.engine import Engine
from .features import FeatureMaker, RequestError
from .pending import NO_MEMORY, PendingRequest, Row
from .schedule import Batch, Preparation, Schedule

__all__ = ["WorkerPool"]

_log = logging.getLogger(__name__)


class WorkerPool:
    """As many threads as the engine asks for. They end when the schedule is closed and empty.

    Args:
        engine: Computes piece vectors.
        maker: Prepares sentences.
        schedule: Provides the tasks.
        finished: Called in a worker thread with each request that is complete or has failed.
    """

    def __init__(
        self,
        engine: Engine,
        maker: FeatureMaker,
        schedule: Schedule,
        finished: Callable[[PendingRequest], None],
    ) -> None:
        self._engine = engine
        self._maker = maker
        self._schedule = schedule
        self._finished = finished
        self._threads = [
            # Daemons, so that a second signal ends the process at once.
            Thread(target=self._work, name=f"engine-{i}", daemon=True)
            for i in range(engine.threads)
        ]

    def start(self) -> None:
        """Start the threads.

        Raises:
            ThreadLimitError: if the system does not allow so many threads.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise ThreadLimitError from error

    @property
    def is_alive(self) -> bool:
        """Whether all threads are running."""
        return all(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        # A method of its own, since local variables of the loop would keep the last task, and so
        # its reply, in memory while the thread waits for the next one.
        if task := self._schedule.take():
            if isinstance(task, Preparation):
                requests = [task.request]
            else:
                requests = [row.request for row in task.rows]
            try:
                if isinstance(task, Preparation):
                    self._schedule.prepared(task.request, task.request.prepare(self._maker))
                else:
                    self._compute_batch(task)
                    self._finish(self._schedule.computed(task))
            except (RequestError, ModelError, MemoryError) as error:
                self._finish(self._schedule.fail(requests, str(error) or NO_MEMORY))
            except Exception:
                # A bug, of ours or of ONNX Runtime, costs only the requests that trigger it. The
                # traceback is logged.
                _log.exception("requests failed", extra={"requests": len(set(requests))})
                self._finish(self._schedule.fail(requests, "the server failed; see its log"))
        return task is not None

    def _compute_batch(self, batch: Batch) -> None:
        """Compute a batch; if that fails, each request alone, so that only the culprit fails."""
        requests = dict.fromkeys(row.request for row in batch.rows)
        try:
            self._compute(batch.rows)
        except (ModelError, MemoryError):
            if len(requests) == 1:
                raise
            for request in requests:
                try:
                    self._compute([row for row in batch.rows if row.request is request])
                except (ModelError, MemoryError) as error:
                    self._finish(self._schedule.fail([request], str(error) or NO_MEMORY))

    def _compute(self, rows: Sequence[Row]) -> None:
        b, t = len(rows), max(row.length for row in rows)
        ids, types, mask = np.zeros((3, b, t), np.int32)
        for i, row in enumerate(rows):
            n, features = row.length, row.features
            ids[i, :n], mask[i, :n] = features.ids, features.mask
            types[i, features.first_length : n] = 1
        vectors = self._engine.run(ids, types, mask)
        for row, own in zip(rows, vectors, strict=True):
            row.request.store(row, own[: row.length])

    def _finish(self, requests: Iterable[PendingRequest]) -> None:
        for request in requests:
            self._finished(request)
