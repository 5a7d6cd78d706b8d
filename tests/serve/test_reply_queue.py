"""Replies that wait for their clients, and bounds on their number."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from bert_tokemb.serve.protocol import Sender
from bert_tokemb.serve.reply_queue import ReplyQueue
from bert_tokemb.serve.settings import Limits
from bert_tokemb.serve.sockets import Sockets, Subscription

TIMEOUT = 60  # seconds
LIMITS = Limits(kept_bytes=100_000)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with Sockets("127.0.0.1", 0, 0) as sockets:
        yield sockets


@pytest.fixture
def queue(sockets: Sockets) -> ReplyQueue:
    return ReplyQueue(sockets, LIMITS)


@contextmanager
def subscriber(sockets: Sockets, name: bytes = b"name") -> Iterator[zmq.Socket[bytes]]:
    """Subscribe to messages that begin with a name; the queue does not know it yet."""
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger, reader.rcvtimeo = 0, TIMEOUT * 1000
        reader.subscribe(name)
        reader.connect(f"tcp://127.0.0.1:{sockets.port_out}")
        yield reader


def update(sockets: Sockets, queue: ReplyQueue, now: float) -> None:
    """Inform the queue of the next change of subscriptions."""
    while not (changes := sockets.subscriptions(1)):
        sockets.wait(TIMEOUT)
    queue.update(changes[0], now)


def put(queue: ReplyQueue, number: int, now: float, size: int = 1) -> None:
    queue.put(Sender(b"name", b"%d" % number), b"{}", bytes(size), now)


def numbers(reader: zmq.Socket[bytes], n: int) -> list[int]:
    return [int(reader.recv_multipart()[3]) for _ in range(n)]


def becomes_empty(queue: ReplyQueue, now: float) -> bool:
    """Return whether no reply is kept once the system has accepted all that were sent."""
    deadline = time.monotonic() + TIMEOUT
    queue.expire(now)
    while queue.size and time.monotonic() < deadline:
        time.sleep(0.01)
        queue.expire(now)
    return queue.size == 0


def test_replies_wait_for_a_subscription(sockets: Sockets, queue: ReplyQueue) -> None:
    put(queue, 1, 0)
    put(queue, 2, 9)
    assert queue.expire(9.9) == set()
    with subscriber(sockets, b"na"):
        update(sockets, queue, 9.9)
        assert queue.size
    with subscriber(sockets) as reader:
        update(sockets, queue, 9.9)
        update(sockets, queue, 9.9)
        put(queue, 3, 99)
        assert numbers(reader, 3) == [1, 2, 3]
        assert becomes_empty(queue, 99)


def test_replies_expire_without_a_subscription(
    queue: ReplyQueue, caplog: pytest.LogCaptureFixture
) -> None:
    put(queue, 1, 0)
    put(queue, 2, 9)
    assert queue.size
    assert queue.expire(10.1) == {b"name"}
    (record,) = caplog.records
    assert record.message == "replies dropped: the client is gone"
    assert (record.client, record.replies) == (b"name", 2)
    assert becomes_empty(queue, 10.1)


def test_client_without_subscription_is_absent_once(sockets: Sockets, queue: ReplyQueue) -> None:
    with subscriber(sockets):
        update(sockets, queue, 0)
    update(sockets, queue, 100)
    put(queue, 1, 105)
    assert queue.expire(109.9) == set()
    assert queue.expire(110.1) == {b"name"}
    assert queue.expire(110.2) == set()
    put(queue, 2, 111)
    with subscriber(sockets) as reader:
        update(sockets, queue, 112)
        assert numbers(reader, 2) == [1, 2]


def test_client_that_subscribes_again_is_not_absent(sockets: Sockets, queue: ReplyQueue) -> None:
    with subscriber(sockets):
        update(sockets, queue, 0)
    update(sockets, queue, 1)
    with subscriber(sockets):
        update(sockets, queue, 10)
        assert queue.expire(12) == set()


def test_client_that_never_subscribed_is_not_absent(queue: ReplyQueue) -> None:
    queue.update(Subscription(b"other", is_new=False), 1)
    assert queue.expire(12.1) == set()


def test_full_queue_still_sends_errors(sockets: Sockets, queue: ReplyQueue) -> None:
    put(queue, 0, 0, 150_000)
    for n in range(1, 1000):
        queue.put(Sender(b"name", b"%d" % n), b'{"error": "it"}', b"", 0, is_error=True)
    assert queue.size < 100_000 + (1 << 20)
    with subscriber(sockets) as reader:
        update(sockets, queue, 0)
        assert numbers(reader, 1) == [0]
        for n in range(1, 201):
            assert reader.recv_multipart() == [b"name", b'{"error": "it"}', b"", b"%d" % n]


def test_reply_beyond_the_limit_becomes_an_error(
    sockets: Sockets, queue: ReplyQueue, caplog: pytest.LogCaptureFixture
) -> None:
    put(queue, 0, 0, 30_000)
    assert not queue.is_full(b"name")
    assert queue.size > 33_000  # more than the data
    put(queue, 1, 0, 80_000)
    with subscriber(sockets) as reader:
        update(sockets, queue, 0)
        assert numbers(reader, 1) == [0]
        _, info, data, number = reader.recv_multipart()
        assert "100000 bytes" in json.loads(info)["error"]
        assert (data, number) == (b"", b"1")
        assert becomes_empty(queue, 0)
    events = [(record.message, getattr(record, "dropped", None)) for record in caplog.records]
    assert events == [
        ("replies dropped: the client does not read", None),
        ("client reads again", 1),
    ]


def test_single_reply_may_exceed_the_limit(
    sockets: Sockets, queue: ReplyQueue, caplog: pytest.LogCaptureFixture
) -> None:
    put(queue, 0, 1, 150_000)
    assert queue.is_full(b"name")
    assert not queue.is_full(b"another")
    for n in range(1, 1000):
        put(queue, n, 1, 0)
    assert queue.size < 100_000 + (1 << 20)
    with subscriber(sockets) as reader:
        update(sockets, queue, 2)
        assert len(reader.recv_multipart()[2]) == 150_000
        assert numbers(reader, 200) == list(range(1, 201))
        deadline = time.monotonic() + TIMEOUT
        while queue.is_full(b"name"):
            assert time.monotonic() < deadline
        assert becomes_empty(queue, 2)
    assert [record.message for record in caplog.records] == [
        "replies dropped: the client does not read",
        "client reads again",
    ]
    assert caplog.records[-1].dropped == 999
