"""What goes wrong while a request is computed, and whom it costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.serve import workers as crew_module
from bert_tokemb.serve.features import FeatureMaker
from bert_tokemb.serve.job import NO_MEMORY, Job
from bert_tokemb.serve.schedule import Schedule
from bert_tokemb.serve.workers import Crew
from bert_tokemb.types import BatchLimits, FloatArray
from support.jobs import JOB_WIDTH, job_of, maker_of

LONG = 60  # seconds


class FaultyEngine:
    """Stands for an engine whose runtime fails, as no real one can be made to."""

    threads = 1

    def __init__(self, fault: Callable[[int], BaseException | None]) -> None:
        self.fault = fault
        self.batches: list[int] = []

    def run(self, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> FloatArray:
        self.batches.append(len(ids))
        if error := self.fault(len(ids)):
            raise error
        return np.ones((*ids.shape, JOB_WIDTH), np.float32)


@pytest.fixture(scope="module")
def maker(shared_tiny: Path) -> FeatureMaker:
    return maker_of(shared_tiny)


@contextmanager
def crew_of(
    engine: FaultyEngine, maker: FeatureMaker, *before: Job
) -> Iterator[tuple[Schedule, SimpleQueue[Job]]]:
    """Have jobs done that are there before the crew begins, and those that come later."""
    schedule, done = (
        Schedule(BatchLimits(pieces=64, sentences=64, uniform=True)),
        SimpleQueue[Job](),
    )
    for job in before:
        schedule.add(job)
    crew = Crew(engine, maker, schedule, done.put)
    crew.start()
    yield schedule, done
    assert crew.is_whole
    schedule.close()
    crew.join()


def test_a_bug_costs_the_requests_that_met_it(
    maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([ZeroDivisionError("of an engine")])
    first, second = job_of("a", 3, 3), job_of("b", 3)
    with crew_of(FaultyEngine(lambda n: next(faults, None)), maker, first) as (schedule, done):
        assert done.get(timeout=LONG) is first
        schedule.add(second)
        assert done.get(timeout=LONG) is second
    assert first.error == "the server failed; its log tells more"
    assert second.error is None
    assert second.reply()[1].all()
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "ZeroDivisionError: of an engine" in caplog.text
    assert record.requests == 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [(ModelError("no room on the GPU"), "no room on the GPU"), (MemoryError(), NO_MEMORY)],
)
def test_what_fails_together_is_tried_alone(
    fault: Exception, told: str, maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [job_of("a", 3), job_of("b", 3), job_of("c", 3)]
    engine = FaultyEngine(lambda n: fault if n > 1 or len(engine.batches) == 3 else None)
    with crew_of(engine, maker, *jobs) as (_, done):
        finished = {done.get(timeout=LONG) for _ in jobs}
    assert finished == set(jobs)
    assert engine.batches == [3, 1, 1, 1]
    assert sorted(str(job.error) for job in jobs) == sorted([told, "None", "None"])
    assert all(job.reply()[1].all() for job in jobs if job.error is None)
    assert not caplog.records


@pytest.mark.parametrize(
    ("fault", "told"),
    [(ModelError("no room on the GPU"), "no room on the GPU"), (MemoryError(), NO_MEMORY)],
)
def test_what_fails_alone_is_not_tried_again(
    fault: Exception, told: str, maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    engine, job = FaultyEngine(lambda n: fault), job_of("a", 3, 3)
    with crew_of(engine, maker, job) as (_, done):
        assert done.get(timeout=LONG) is job
    assert job.error == told
    assert engine.batches == [2]
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies(maker: FeatureMaker) -> None:
    """It is noticed, though the other one lives."""
    engine = FaultyEngine(lambda n: SystemExit())
    engine.threads = 2
    schedule, job = Schedule(BatchLimits(pieces=64, sentences=64, uniform=True)), job_of("a", 3)
    crew = Crew(engine, maker, schedule, print)
    crew.start()
    assert crew.is_whole
    schedule.add(job)
    deadline = time.monotonic() + LONG
    while crew.is_whole:
        assert time.monotonic() < deadline
    schedule.fail([job], "why")
    schedule.close()
    crew.join()


def test_threads_that_are_not_allowed(maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: crew_module.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(crew_module.Thread, "start", refuse)
    schedule = Schedule(BatchLimits(pieces=64, sentences=64, uniform=True))
    with pytest.raises(ModelError, match="can't start new thread: give fewer --threads"):
        Crew(FaultyEngine(lambda n: None), maker, schedule, print).start()
