"""The threads that prepare and compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Thread

import numpy as np

from ..errors import ModelError
from ..model.engine import Engine
from .features import FeatureMaker, UnfitError
from .job import Job
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
                    self._compute(task)
                    self._tell(self._schedule.computed(task))
            except (UnfitError, ModelError, MemoryError) as error:
                self._tell(self._schedule.fail(jobs, str(error) or "there is not enough memory"))
            except Exception:
                # A bug, which must cost these requests and no others.
                _log.exception("requests failed", extra={"requests": len(set(jobs))})
                self._tell(self._schedule.fail(jobs, "the server failed; its log tells more"))
        return task is not None

    def _compute(self, batch: Batch) -> None:
        b, t = len(batch.rows), max(row.length for row in batch.rows)
        ids, types, mask = np.zeros((3, b, t), np.int32)
        for i, row in enumerate(batch.rows):
            n = row.length
            features = row.features
            ids[i, :n], types[i, :n], mask[i, :n] = features.ids, features.types, features.mask
        vectors = self._engine.run(ids, types, mask)
        for row, own in zip(batch.rows, vectors, strict=True):
            row.job.put(row, own[: row.length])

    def _tell(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._done(job)
