"""The order in which requests are prepared and computed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bert_tokemb.serve.features import FeatureMaker
from bert_tokemb.serve.pending import PendingRequest
from bert_tokemb.serve.schedule import Batch, Preparation, Schedule
from bert_tokemb.serve.settings import Limits
from bert_tokemb.types import BatchLimits
from support.pending import WIDTH, maker_of, request_of

UNIFORM = BatchLimits(pieces=64, sentences=64, uniform=True)
ONE_SENTENCE = BatchLimits(pieces=8, sentences=1, uniform=True)


@pytest.fixture(scope="module")
def maker(shared_tiny: Path) -> FeatureMaker:
    return maker_of(shared_tiny)


def compute(batch: Batch) -> None:
    for row in batch.rows:
        row.request.store(row, np.full((row.length, WIDTH), row.index + 1, np.float32))


def prepare(schedule: Schedule, task: Preparation, maker: FeatureMaker) -> None:
    schedule.prepared(task.request, task.request.prepare(maker))


def next_batch(schedule: Schedule, maker: FeatureMaker) -> Batch:
    """Prepare requests until there is a batch, and return it."""
    while isinstance(task := schedule.take(timeout=0), Preparation):
        prepare(schedule, task, maker)
    assert isinstance(task, Batch)
    return task


def clients_of(batch: Batch) -> list[str]:
    return sorted(row.request.sender.client.decode() for row in batch.rows)


def compute_next(schedule: Schedule, maker: FeatureMaker) -> Batch:
    batch = next_batch(schedule, maker)
    compute(batch)
    schedule.computed(batch)
    return batch


def compute_all(schedule: Schedule, maker: FeatureMaker) -> list[Batch]:
    batches = []
    while len(schedule):
        batches.append(compute_next(schedule, maker))
    return batches


def assert_empty(schedule: Schedule) -> None:
    assert len(schedule) == 0
    assert not schedule._clients
    assert not schedule._ready
    assert not schedule._in_progress
    assert schedule._ready_pieces == 0


# --- Batches ----------------------------------------------------------------------------------


def test_requests_of_several_clients_share_batches(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for client in "abcdef":
        schedule.add(request_of(client, 6, 3))
    batches = compute_all(schedule, maker)
    assert [clients_of(batch) for batch in batches] == [list("abcdef")] * 2
    assert [{row.length for row in batch.rows} for batch in batches] == [{8}, {5}]
    assert_empty(schedule)


def test_requests_of_one_client_share_batches(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for _ in range(3):
        schedule.add(request_of("a", 6))
    assert [len(batch.rows) for batch in compute_all(schedule, maker)] == [3]


def test_batches_respect_the_limits_of_the_engine(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    schedule.add(request_of("a", *[14] * 11))  # 16 pieces each
    assert [len(batch.rows) for batch in compute_all(schedule, maker)] == [4, 4, 3]
    for pieces in (8, 64):
        schedule = Schedule(BatchLimits(pieces=pieces, sentences=2, uniform=True))
        schedule.add(request_of("a", 20, 1, 1, 1))
        assert [len(batch.rows) for batch in compute_all(schedule, maker)] == [1, 2, 1]


def test_batches_for_a_gpu_contain_similar_lengths(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=64, sentences=64))
    schedule.add(request_of("a", 10, 5))
    schedule.add(request_of("b", 8, 7))
    lengths = [[row.length for row in batch.rows] for batch in compute_all(schedule, maker)]
    assert lengths == [[12, 10, 9], [7]]


# --- Fairness ---------------------------------------------------------------------------------


def test_clients_share_the_engine_evenly(maker: FeatureMaker) -> None:
    schedule = Schedule(ONE_SENTENCE)
    schedule.add(request_of("much", *[6] * 40))
    first = [compute_next(schedule, maker) for _ in range(3)]
    for n in range(20):
        schedule.add(request_of("little", 6 + n % 2))
    order = [*first, *compute_all(schedule, maker)]
    turns = "".join(clients_of(batch)[0][0] for batch in order)
    assert turns.startswith("mmm")
    # From the arrival of the second client on, both get the same number of pieces.
    assert 17 <= turns[3:43].count("l") <= 20
    assert "lll" not in turns[3:43]
    assert "mmm" not in turns[3:40]


def test_small_request_overtakes_large_one_of_its_client(maker: FeatureMaker) -> None:
    schedule = Schedule(ONE_SENTENCE)
    large, small = request_of("a", *[6] * 100), request_of("a", 6)
    schedule.add(large)
    compute_next(schedule, maker)
    schedule.add(small)
    assert next_batch(schedule, maker).rows[0].request is small


def test_small_requests_do_not_starve_a_large_one(maker: FeatureMaker) -> None:
    schedule = Schedule(ONE_SENTENCE)
    large = request_of("a", *[6] * 20)
    schedule.add(large)
    for _ in range(100):
        schedule.add(request_of("a", 6))
        batch = next_batch(schedule, maker)
        compute(batch)
        if large in schedule.computed(batch):
            return
    raise AssertionError("the large request is never complete")


def test_large_request_is_prepared_between_batches(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    schedule.add(request_of("much", *[6] * 10_000))
    task = schedule.take()
    assert isinstance(task, Preparation)
    prepare(schedule, task, maker)
    schedule.add(request_of("little", 5))
    preparations = 0
    while isinstance(task := schedule.take(), Preparation):
        preparations += 1
        prepare(schedule, task, maker)
    assert clients_of(task) == ["little"]
    assert preparations <= 3


def test_clients_are_prepared_for_in_turn(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=1024, sentences=64, uniform=True))
    for client in "ab":
        schedule.add(request_of(client, *[6] * 2000))
    turns = ""
    while isinstance(task := schedule.take(), Preparation):
        turns += task.request.sender.client.decode()
        prepare(schedule, task, maker)
    assert turns == "ab" * 8


# --- Memory -----------------------------------------------------------------------------------


def test_large_replies_start_one_after_another(maker: FeatureMaker) -> None:
    limits = Limits(in_progress_bytes=2000, small_reply_bytes=400)
    schedule = Schedule(BatchLimits(pieces=16, sentences=1, uniform=True), limits)
    for client in "abc":
        schedule.add(request_of(client, 14, 14, 14, 14))  # 2,048 bytes
    schedule.add(request_of("d", 6))
    batches = [next_batch(schedule, maker) for _ in range(5)]
    assert Counter(clients_of(batch)[0] for batch in batches) == {"a": 4, "d": 1}
    assert schedule.take(timeout=0) is None
    complete = []
    for batch in batches:
        compute(batch)
        complete += schedule.computed(batch)
    assert len(complete) == 2
    assert len(compute_all(schedule, maker)) == 8
    assert_empty(schedule)


def test_largest_and_small_replies_do_not_count(maker: FeatureMaker) -> None:
    limits = Limits(in_progress_bytes=1200, small_reply_bytes=400)
    schedule = Schedule(UNIFORM, limits)
    schedule.add(request_of("a", 62))  # 2,048 bytes
    assert clients_of(next_batch(schedule, maker)) == ["a"]
    for client in "bc":
        schedule.add(request_of(client, 14, 14))  # 1,024 bytes
    assert clients_of(next_batch(schedule, maker)) == ["b", "b"]
    schedule.add(request_of("d", 10))
    assert clients_of(next_batch(schedule, maker)) == ["d"]
    assert schedule.take(timeout=0) is None


# --- The end of requests ----------------------------------------------------------------------


def test_failed_request_leaves_the_others(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    bad, good = request_of("a", 6, 6), request_of("b", 6, 5)
    schedule.add(bad)
    schedule.add(good)
    batch = next_batch(schedule, maker)
    assert clients_of(batch) == ["a", "a", "b"]
    assert schedule.fail([bad], "why") == [bad]
    assert schedule.fail([bad], "again") == []
    assert bad.reply() == (b'{"error": "why"}', b"")
    compute(batch)
    assert schedule.computed(batch) == []
    assert clients_of(*compute_all(schedule, maker)) == ["b"]
    assert b'"shape": [2, 8, 8]' in good.reply()[0]
    assert_empty(schedule)


def test_dropped_client_leaves_the_others(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for n in range(3):
        schedule.add(request_of("a", 6 + n))
    schedule.add(request_of("b", 4))
    task = schedule.take()
    assert isinstance(task, Preparation)
    assert schedule.pending_bytes(b"a") == 23 + 27 + 31
    assert len(schedule.drop(b"a")) == 3
    assert schedule.pending_bytes(b"a") == 0
    prepare(schedule, task, maker)  # too late
    assert schedule.drop(b"a") == []
    assert clients_of(*compute_all(schedule, maker)) == ["b"]
    assert_empty(schedule)


def test_preparation_stays_in_order_after_failures(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=10_000, sentences=64, uniform=True))
    requests = [request_of("a", n) for n in Random(1).sample(range(1, 60), 40)]
    for request in requests:
        schedule.add(request)
    whole = schedule.pending_bytes(b"a")
    schedule.fail(requests[::3], "why")
    left = sorted((one for one in requests if one.error is None), key=lambda one: one.size)
    assert schedule.pending_bytes(b"a") == sum(request.size for request in left) < whole
    prepared = []
    while isinstance(task := schedule.take(), Preparation):
        prepared.append(task.request)
        prepare(schedule, task, maker)
    assert prepared == left


@pytest.mark.parametrize("lengths", [(), (6, 5, 4)])
def test_closed_schedule_ends_threads_when_empty(
    lengths: tuple[int, ...], maker: FeatureMaker
) -> None:
    schedule = Schedule(UNIFORM)
    complete: list[PendingRequest] = []
    all_compute = threading.Barrier(3, timeout=60)

    def work() -> None:
        while task := schedule.take():
            if isinstance(task, Preparation):
                prepare(schedule, task, maker)
            else:
                compute(task)
                all_compute.wait()
                if task.rows[0].length == 8:
                    time.sleep(0.05)  # so that the other threads are likely to wait in take()
                complete.extend(schedule.computed(task))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    if lengths:
        schedule.add(request_of("a", *lengths))
    schedule.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(complete) == len(lengths[:1])
    assert_empty(schedule)


@pytest.mark.parametrize("seed", range(30))
def test_random_events_complete_or_remove_every_request(seed: int, maker: FeatureMaker) -> None:
    run_random_events(seed, maker)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30, 230))
def test_many_random_events_complete_or_remove_every_request(
    seed: int, maker: FeatureMaker
) -> None:
    run_random_events(seed, maker)


def run_random_events(seed: int, maker: FeatureMaker) -> None:
    """Check that each sentence is computed once, and each request complete, failed or dropped."""
    random = Random(seed)
    schedule = Schedule(BatchLimits(pieces=40, sentences=4, uniform=bool(seed % 2)))
    taken: list[Preparation | Batch] = []
    requests: list[PendingRequest] = []
    ended: Counter[PendingRequest] = Counter()
    computed: Counter[tuple[PendingRequest, int]] = Counter()
    while len(requests) < 60 or len(schedule):
        event = random.choice(["add", "take", "take", "return", "return", "fail", "drop"])
        if event == "add" and len(requests) < 60:
            lengths = (random.randint(1, 12) for _ in range(random.randint(1, 9)))
            requests.append(request_of(random.choice("abcd"), *lengths))
            schedule.add(requests[-1])
        elif event == "take" and len(schedule) and (task := schedule.take(timeout=0)):
            taken.append(task)
        elif event == "return" and taken:
            task = taken.pop(random.randrange(len(taken)))
            if isinstance(task, Preparation):
                prepare(schedule, task, maker)
            else:
                compute(task)
                computed.update((row.request, row.index) for row in task.rows)
                ended.update(schedule.computed(task))
        elif event == "fail" and requests and random.random() < 0.1:
            ended.update(schedule.fail(random.sample(requests, 1), "why"))
        elif event == "drop" and random.random() < 0.05:
            ended.update(schedule.drop(random.choice([b"a", b"b"])))
    assert ended == Counter(requests)
    assert set(computed.values()) <= {1}
    for request in requests:
        if request.is_complete and request.error is None:
            assert sum(key[0] is request for key in computed) == request.sentences
            assert (request.reply()[1][:, 0, 0] == np.arange(request.sentences) + 1).all()
    assert_empty(schedule)
