"""Failures while requests are computed, and which requests they affect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import numpy as np
import pytest

from bert_tokemb.errors import ModelError, ThreadLimitError
from bert_tokemb.serve.features import FeatureMaker
from bert_tokemb.serve.pending import NO_MEMORY, PendingRequest
from bert_tokemb.serve.schedule import Schedule
from bert_tokemb.serve.workers import WorkerPool
from bert_tokemb.types import BatchLimits, FloatArray
from support.pending import WIDTH, maker_of, request_of

TIMEOUT = 60  # seconds
UNIFORM = BatchLimits(pieces=64, sentences=64, uniform=True)


class FaultyEngine:
    """An engine that fails on demand, as ONNX Runtime cannot be made to.

    Args:
        fault: Called with the number of rows of each batch; returns the error to raise.
    """

    def __init__(self, fault: Callable[[int], BaseException | None], threads: int = 1) -> None:
        self.fault = fault
        self.threads = threads
        self.batches: list[int] = []

    def run(self, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> FloatArray:
        self.batches.append(len(ids))
        if error := self.fault(len(ids)):
            raise error
        return np.ones((*ids.shape, WIDTH), np.float32)


@pytest.fixture(scope="module")
def maker(shared_tiny: Path) -> FeatureMaker:
    return maker_of(shared_tiny)


@contextmanager
def working(
    engine: FaultyEngine, maker: FeatureMaker, *requests: PendingRequest
) -> Iterator[tuple[Schedule, SimpleQueue[PendingRequest]]]:
    """Work on requests within the block; yield the schedule and the finished requests."""
    schedule, finished = Schedule(UNIFORM), SimpleQueue[PendingRequest]()
    for request in requests:
        schedule.add(request)
    workers = WorkerPool(engine, maker, schedule, finished.put)
    workers.start()
    yield schedule, finished
    assert workers.is_alive
    schedule.close()
    workers.join()


def test_bug_affects_only_the_requests_that_trigger_it(
    maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([ZeroDivisionError("in the engine")])
    first, second = request_of("a", 3, 3), request_of("b", 3)
    with working(FaultyEngine(lambda n: next(faults, None)), maker, first) as (schedule, finished):
        assert finished.get(timeout=TIMEOUT) is first
        schedule.add(second)
        assert finished.get(timeout=TIMEOUT) is second
    assert first.error == "the server failed; see its log"
    assert second.error is None
    assert second.reply()[1].all()
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert record.message == "requests failed"
    assert record.requests == 1
    assert "ZeroDivisionError: in the engine" in caplog.text


FAULTS = [(ModelError("no room on the GPU"), "no room on the GPU"), (MemoryError(), NO_MEMORY)]


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_failed_batch_is_computed_again_for_each_request(
    fault: Exception, message: str, maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [request_of("a", 3), request_of("b", 3), request_of("c", 3)]
    engine = FaultyEngine(lambda n: fault if n > 1 or len(engine.batches) == 3 else None)
    with working(engine, maker, *requests) as (_, finished):
        assert {finished.get(timeout=TIMEOUT) for _ in requests} == set(requests)
    assert engine.batches == [3, 1, 1, 1]
    assert sorted(str(one.error) for one in requests) == sorted([message, "None", "None"])
    assert all(one.reply()[1].all() for one in requests if one.error is None)
    assert not caplog.records


@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_failed_batch_of_one_request_is_not_computed_again(
    fault: Exception, message: str, maker: FeatureMaker, caplog: pytest.LogCaptureFixture
) -> None:
    engine, request = FaultyEngine(lambda n: fault), request_of("a", 3, 3)
    with working(engine, maker, request) as (_, finished):
        assert finished.get(timeout=TIMEOUT) is request
    assert request.error == message
    assert engine.batches == [2]
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_pool_is_not_alive_when_one_thread_has_died(maker: FeatureMaker) -> None:
    schedule, request = Schedule(UNIFORM), request_of("a", 3)
    workers = WorkerPool(FaultyEngine(lambda n: SystemExit(), 2), maker, schedule, print)
    workers.start()
    assert workers.is_alive
    schedule.add(request)
    deadline = time.monotonic() + TIMEOUT
    while workers.is_alive:
        assert time.monotonic() < deadline
    schedule.fail([request], "why")
    schedule.close()
    workers.join()


def test_start_reports_the_thread_limit(
    maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", refuse)
    workers = WorkerPool(FaultyEngine(lambda n: None), maker, Schedule(UNIFORM), print)
    with pytest.raises(ThreadLimitError, match="the system does not allow another thread"):
        workers.start()
