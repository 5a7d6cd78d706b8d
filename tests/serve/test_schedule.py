"""Who is computed next, and with whom."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from bert_tokemb.serve import job as job_module
from bert_tokemb.serve import schedule as schedule_module
from bert_tokemb.serve.features import FeatureMaker, UnfitError
from bert_tokemb.serve.job import Job
from bert_tokemb.serve.schedule import Batch, Preparation, Schedule
from bert_tokemb.types import BatchLimits
from support.jobs import JOB_WIDTH, job_of, maker_of

UNIFORM = BatchLimits(pieces=64, sentences=64, uniform=True)


@pytest.fixture(scope="module")
def maker(shared_tiny: Path) -> FeatureMaker:
    return maker_of(shared_tiny)


def compute(batch: Batch) -> None:
    for row in batch.rows:
        row.job.put(row, np.full((row.length, JOB_WIDTH), row.place + 1, np.float32))


def next_batch(schedule: Schedule, maker: FeatureMaker) -> Batch:
    while isinstance(task := schedule._next(), Preparation):
        schedule.prepared(task.job, task.job.prepare(maker))
    assert isinstance(task, Batch)
    return task


def clients_of(batch: Batch) -> list[str]:
    return sorted(row.job.sender.client.decode() for row in batch.rows)


def one_batch(schedule: Schedule, maker: FeatureMaker) -> Batch:
    batch = next_batch(schedule, maker)
    compute(batch)
    schedule.computed(batch)
    return batch


def all_batches(schedule: Schedule, maker: FeatureMaker) -> list[Batch]:
    batches = []
    while len(schedule):
        batches.append(one_batch(schedule, maker))
    return batches


def assert_nothing_is_left(schedule: Schedule) -> None:
    assert len(schedule) == 0
    assert not schedule._clients
    assert not schedule._ready
    assert not schedule._begun
    assert schedule._ready_pieces == 0


def test_requests_of_several_clients_are_computed_together(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for client in "abcdef":
        schedule.add(job_of(client, 6, 3))
    batches = all_batches(schedule, maker)
    assert [clients_of(batch) for batch in batches] == [list("abcdef")] * 2
    assert [{row.length for row in batch.rows} for batch in batches] == [{8}, {5}]
    assert_nothing_is_left(schedule)


def test_requests_of_one_client_are_computed_together(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for _ in range(3):
        schedule.add(job_of("a", 6))
    assert [len(batch.rows) for batch in all_batches(schedule, maker)] == [3]


def test_a_batch_fits_the_budget(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    schedule.add(job_of("a", *[14] * 11))  # 16 pieces each
    assert [len(batch.rows) for batch in all_batches(schedule, maker)] == [4, 4, 3]
    for pieces in (8, 64):
        schedule = Schedule(BatchLimits(pieces=pieces, sentences=2, uniform=True))
        schedule.add(job_of("a", 20, 1, 1, 1))
        assert [len(batch.rows) for batch in all_batches(schedule, maker)] == [1, 2, 1]


def test_batches_may_be_padded_on_a_gpu(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=64, sentences=64))
    schedule.add(job_of("a", 10, 5))
    schedule.add(job_of("b", 8, 7))
    lengths = [[row.length for row in batch.rows] for batch in all_batches(schedule, maker)]
    assert lengths == [[12, 10, 9], [7]]


def test_clients_share_evenly(maker: FeatureMaker) -> None:
    """Whoever asks for much does not keep the others waiting, nor the other way round."""
    schedule = Schedule(BatchLimits(pieces=8, sentences=1, uniform=True))
    schedule.add(job_of("much", *[6] * 40))
    first = [one_batch(schedule, maker) for _ in range(3)]
    for n in range(20):
        schedule.add(job_of("little", 6 + n % 2))
    order = [*first, *all_batches(schedule, maker)]
    turns = "".join(clients_of(batch)[0][0] for batch in order)
    assert turns.startswith("mmm")
    # On a par from its coming on, by pieces.
    assert 17 <= turns[3:43].count("l") <= 20
    assert "lll" not in turns[3:43]
    assert "mmm" not in turns[3:40]


def test_a_small_request_overtakes_a_large_one_of_its_client(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=8, sentences=1, uniform=True))
    large, small = job_of("a", *[6] * 100), job_of("a", 6)
    schedule.add(large)
    one_batch(schedule, maker)
    schedule.add(small)
    assert next_batch(schedule, maker).rows[0].job is small


def test_a_large_request_is_prepared_while_others_are_computed(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    schedule.add(job_of("much", *[6] * 100_000))
    task = schedule.take()
    assert isinstance(task, Preparation)
    schedule.prepared(task.job, task.job.prepare(maker))
    schedule.add(job_of("little", 5))
    preparations = 0
    while isinstance(task := schedule.take(), Preparation):
        preparations += 1
        schedule.prepared(task.job, task.job.prepare(maker))
    assert clients_of(task) == ["little"]
    assert preparations <= 3


def test_clients_are_prepared_for_in_turn(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=1024, sentences=64, uniform=True))
    for client in "ab":
        schedule.add(job_of(client, *[6] * 2000))
    turns = ""
    while isinstance(task := schedule.take(), Preparation):
        turns += task.job.sender.client.decode()
        schedule.prepared(task.job, task.job.prepare(maker))
    assert turns == "ab" * 8


def test_small_requests_do_not_keep_a_large_one_waiting_for_ever(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=8, sentences=1, uniform=True))
    large = job_of("a", *[6] * 20)
    schedule.add(large)
    for _ in range(100):
        schedule.add(job_of("a", 6))
        batch = next_batch(schedule, maker)
        compute(batch)
        if large in schedule.computed(batch):
            return
    raise AssertionError("it waits for ever")


def test_large_replies_begin_one_after_another(
    maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "_MOST_UNDER_WAY", 2000)
    monkeypatch.setattr(schedule_module, "_SMALL", 400)
    schedule = Schedule(BatchLimits(pieces=16, sentences=1, uniform=True))
    for client in "abc":  # 2,048 bytes each
        schedule.add(job_of(client, 14, 14, 14, 14))
    schedule.add(job_of("d", 6))
    batches = [next_batch(schedule, maker) for _ in range(5)]
    assert Counter(clients_of(batch)[0] for batch in batches) == {"a": 4, "d": 1}
    assert schedule._next() is None
    done = []
    for batch in batches:
        compute(batch)
        done += schedule.computed(batch)
    assert len(done) == 2
    assert len(all_batches(schedule, maker)) == 8
    assert_nothing_is_left(schedule)


def test_what_begins_beside_a_large_reply(
    maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest is left out of the sum, and small ones always begin."""
    monkeypatch.setattr(schedule_module, "_MOST_UNDER_WAY", 1200)
    monkeypatch.setattr(schedule_module, "_SMALL", 400)
    schedule = Schedule(UNIFORM)
    schedule.add(job_of("a", 62))  # 2,048 bytes
    assert clients_of(next_batch(schedule, maker)) == ["a"]
    for client in "bc":
        schedule.add(job_of(client, 14, 14))  # 1,024 bytes
    assert clients_of(next_batch(schedule, maker)) == ["b", "b"]
    schedule.add(job_of("d", 10))
    assert clients_of(next_batch(schedule, maker)) == ["d"]
    assert schedule._next() is None


def test_a_job_that_fails(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    bad, good = job_of("a", 6, 6), job_of("b", 6, 5)
    schedule.add(bad)
    schedule.add(good)
    batch = next_batch(schedule, maker)
    assert clients_of(batch) == ["a", "a", "b"]
    assert schedule.fail([bad], "why") == [bad]
    assert schedule.fail([bad], "again") == []
    assert bad.reply() == (b'{"error": "why"}', b"")
    compute(batch)
    assert schedule.computed(batch) == []
    assert clients_of(*all_batches(schedule, maker)) == ["b"]
    assert b'"shape": [2, 8, 8]' in good.reply()[0]
    assert_nothing_is_left(schedule)


def test_a_client_that_is_dropped(maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    for n in range(3):
        schedule.add(job_of("a", 6 + n))
    kept = job_of("b", 4)
    schedule.add(kept)
    task = schedule.take()
    assert isinstance(task, Preparation)
    assert schedule.waiting_bytes(b"a") == 23 + 27 + 31
    assert len(schedule.drop(b"a")) == 3
    assert schedule.waiting_bytes(b"a") == 0
    schedule.prepared(task.job, task.job.prepare(maker))  # too late
    assert schedule.drop(b"a") == []
    assert clients_of(*all_batches(schedule, maker)) == ["b"]
    assert_nothing_is_left(schedule)


def test_too_large_a_reply(maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_module, "LARGEST_REPLY", 8 * JOB_WIDTH * 4)
    job_of("a", 6).prepare(maker)
    with pytest.raises(UnfitError, match=r"would take 0\.0 GB: ask for fewer"):
        job_of("a", 7).prepare(maker)


def test_a_reply_that_the_system_has_no_room_for(
    maker: FeatureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "LARGEST_REPLY", 1 << 60)
    job = job_of("a", 1, width=1 << 20, positions=1 << 28, fixed_embed_length=True)
    with pytest.raises(UnfitError, match="would take 1125899.9 GB: ask for fewer"):
        job.prepare(maker)


@pytest.mark.parametrize(
    ("settings", "t"),
    [
        ({}, 8),  # that of the longer part, though a shorter one comes behind it
        ({"fixed_embed_length": True}, 64),
        ({"fixed_embed_length": True, "max_seq_len": 25}, 8),
    ],
)
def test_the_length_of_a_reply(settings: dict[str, Any], t: int, maker: FeatureMaker) -> None:
    schedule = Schedule(UNIFORM)
    job = job_of("a", 6, 3, max_batch_size=1, show_tokens_to_client=False, **settings)
    schedule.add(job)
    all_batches(schedule, maker)
    info, vectors = job.reply()
    assert json.loads(info) == {"dtype": "float32", "shape": [2, t, JOB_WIDTH], "tokens": ""}
    assert [int(own.any(axis=1).sum()) for own in vectors] == [8, 5]


def test_what_is_left_is_prepared_in_order(maker: FeatureMaker) -> None:
    schedule = Schedule(BatchLimits(pieces=10_000, sentences=64, uniform=True))
    words = Random(1).sample(range(1, 60), 40)
    jobs = [job_of("a", n) for n in words]
    for job in jobs:
        schedule.add(job)
    whole = schedule.waiting_bytes(b"a")
    schedule.fail(jobs[::3], "why")
    left = sorted((job for job in jobs if job.error is None), key=lambda job: job.size)
    assert schedule.waiting_bytes(b"a") == sum(job.size for job in left) < whole
    prepared = []
    while isinstance(task := schedule.take(), Preparation):
        prepared.append(task.job)
        schedule.prepared(task.job, task.job.prepare(maker))
    assert prepared == left


@pytest.mark.parametrize("lengths", [(), (6, 5, 4)])
def test_its_end(lengths: tuple[int, ...], maker: FeatureMaker) -> None:
    """Threads leave when it is closed and nothing is left, not before."""
    schedule = Schedule(UNIFORM)
    left = []
    all_compute = threading.Barrier(3, timeout=30)

    def work() -> None:
        while task := schedule.take():
            if isinstance(task, Preparation):
                schedule.prepared(task.job, task.job.prepare(maker))
            else:
                compute(task)
                all_compute.wait()
                time.sleep(task.rows[0].length % 2 / 10)  # the others wait for one of them
                left.extend(schedule.computed(task))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    if lengths:
        schedule.add(job_of("a", *lengths))
    schedule.close()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert len(left) == len(lengths[:1])
    assert_nothing_is_left(schedule)


@pytest.mark.parametrize("seed", range(30))
def test_any_order_of_events(seed: int, maker: FeatureMaker) -> None:
    """Each sentence is computed once, each job is done, failed or dropped, and nothing is left."""
    random = Random(seed)
    schedule = Schedule(BatchLimits(pieces=40, sentences=4, uniform=bool(seed % 2)))
    out: list[Preparation | Batch] = []
    jobs: list[Job] = []
    over: Counter[Job] = Counter()
    computed: Counter[tuple[Job, int]] = Counter()
    while len(jobs) < 60 or len(schedule):
        event = random.choice(["add", "take", "take", "give", "give", "fail", "drop"])
        if event == "add" and len(jobs) < 60:
            lengths = (random.randint(1, 12) for _ in range(random.randint(1, 9)))
            jobs.append(job_of(random.choice("abcd"), *lengths))
            schedule.add(jobs[-1])
        elif event == "take" and len(schedule) and (task := schedule._next()):
            out.append(task)
        elif event == "give" and out:
            task = out.pop(random.randrange(len(out)))
            if isinstance(task, Preparation):
                schedule.prepared(task.job, task.job.prepare(maker))
            else:
                compute(task)
                computed.update((row.job, row.place) for row in task.rows)
                over.update(schedule.computed(task))
        elif event == "fail" and jobs and random.random() < 0.1:
            over.update(schedule.fail(random.sample(jobs, 1), "why"))
        elif event == "drop" and random.random() < 0.05:
            over.update(schedule.drop(random.choice([b"a", b"b"])))
    assert over == Counter(jobs)
    assert set(computed.values()) <= {1}
    for job in jobs:
        if job.is_done:
            assert sum(key[0] is job for key in computed) == job.sentences
            assert (job._result[:, 0, 0] == np.arange(job.sentences) + 1).all()
    assert_nothing_is_left(schedule)
