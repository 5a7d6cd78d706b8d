"""The threads that prepare and compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Thread

import numpy as np

from ..errors import ModelError
from ..models.engine import Engine
from .features import FeatureMaker, UnfitError
from .job import NO_MEMORY, Job, Row
from .schedule import Batch, Preparation, Schedule

__all__ = ["Crew"]

_log = logging.getLogger(__name__)


class Crew:
    """As many threads as the engine wants; they end when the schedule is closed and empty.

    Args:
        engine: Computes.
        maker: Makes rows of texts.
        schedule: Tells what is to be done.
        done: Called with each job that is done or has failed, in one of the threads.
    """

    def __init__(
        self,
        engine: Engine,
        maker: FeatureMaker,
        schedule: Schedule,
        done: Callable[[Job], None],
    ) -> None:
        self._engine = engine
        self._maker = maker
        self._schedule = schedule
        self._done = done
        self._threads = [
            # Whoever leaves in a hurry does not wait for them.
            Thread(target=self._work, name=f"engine-{i}", daemon=True)
            for i in range(engine.threads)
        ]

    def start(self) -> None:
        """Begin.

        Raises:
            ModelError: the system does not allow as many threads.
        """
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:
            raise ModelError(f"{error}: give fewer --threads") from error

    @property
    def is_whole(self) -> bool:
        """Whether every thread is at work."""
        return all(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until they have ended."""
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._do_one():
            pass

    def _do_one(self) -> bool:
        # No name here holds a reply while the thread waits for the next task.
        if task := self._schedule.take():
            jobs = [task.job] if isinstance(task, Preparation) else [row.job for row in task.rows]
            try:
                if isinstance(task, Preparation):
                    self._schedule.prepared(task.job, task.job.prepare(self._maker))
                else:
                    self._compute_for_all(task)
                    self._tell(self._schedule.computed(task))
            except (UnfitError, ModelError, MemoryError) as error:
                self._tell(self._schedule.fail(jobs, str(error) or NO_MEMORY))
            except Exception:
                # The border of a request: a bug, of ours or of the runtime's, costs those that
                # met it, and not the server and all its other clients. The log has its traceback.
                _log.exception("requests failed", extra={"requests": len(set(jobs))})
                self._tell(self._schedule.fail(jobs, "the server failed; its log tells more"))
        return task is not None

    def _compute_for_all(self, batch: Batch) -> None:
        """Compute a batch; where that fails, for each job by itself, as if it were alone."""
        jobs = dict.fromkeys(row.job for row in batch.rows)
        try:
            self._compute(batch.rows)
        except (ModelError, MemoryError):
            if len(jobs) == 1:
                raise
            for job in jobs:
                try:
                    self._compute([row for row in batch.rows if row.job is job])
                except (ModelError, MemoryError) as error:
                    self._tell(self._schedule.fail([job], str(error) or NO_MEMORY))

    def _compute(self, rows: Sequence[Row]) -> None:
        b, t = len(rows), max(row.length for row in rows)
        ids, types, mask = np.zeros((3, b, t), np.int32)
        for i, row in enumerate(rows):
            n, features = row.length, row.features
            ids[i, :n], mask[i, :n] = features.ids, features.mask
            types[i, features.first : n] = 1
        vectors = self._engine.run(ids, types, mask)
        for row, own in zip(rows, vectors, strict=True):
            row.job.put(row, own[: row.length])

    def _tell(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._done(job)
