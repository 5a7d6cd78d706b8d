"""Replies that wait for their readers, and for how long."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from bert_tokemb.serve.protocol import Sender
from bert_tokemb.serve.reply_queue import Outbox
from bert_tokemb.serve.sockets import Subscription, Wire

LONG = 60  # seconds


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire("127.0.0.1", 0, 0) as wire:
        yield wire


@contextmanager
def reader_of(wire: Wire, name: bytes) -> Iterator[zmq.Socket[bytes]]:
    """Subscribe to what begins with a name; the outbox is not told yet."""
    with zmq.Context() as context, context.socket(zmq.SUB) as reader:
        reader.linger, reader.rcvtimeo = 0, LONG * 1000
        reader.subscribe(name)
        reader.connect(f"tcp://127.0.0.1:{wire.port_out}")
        yield reader


def hear(wire: Wire, outbox: Outbox, now: float) -> None:
    """Tell the outbox of the next change about who reads."""
    while not (changes := wire.subscriptions(1)):
        wire.wait(LONG)
    outbox.subscribe(changes[0], now)


def post(outbox: Outbox, number: int, now: float, size: int = 1) -> None:
    outbox.post(Sender(b"name", b"%d" % number), b"{}", bytes(size), now)


def numbers(reader: zmq.Socket[bytes], n: int) -> list[int]:
    return [int(reader.recv_multipart()[3]) for _ in range(n)]


def empties(outbox: Outbox, now: float) -> bool:
    """Tell whether nothing is kept once the system has taken what was sent."""
    deadline = time.monotonic() + LONG
    while len(outbox) and time.monotonic() < deadline:
        outbox.tidy(now)
        time.sleep(0.01)
    return not len(outbox) and outbox.size == 0


@pytest.mark.parametrize("name", [b"name", b"na", b""])
def test_replies_wait_for_a_subscription(name: bytes, wire: Wire) -> None:
    """To the client's name, or to what it begins with."""
    outbox = Outbox(wire, 100_000)
    post(outbox, 1, 0)
    post(outbox, 2, 9)
    assert outbox.tidy(9.9) == set()
    with reader_of(wire, name) as reader:
        hear(wire, outbox, 9.9)
        post(outbox, 3, 99)
        assert numbers(reader, 3) == [1, 2, 3]
        assert empties(outbox, 99)


def test_nobody_comes_for_them(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox(wire, 100_000)
    post(outbox, 1, 0)
    post(outbox, 2, 9)
    assert len(outbox) == 1
    assert outbox.tidy(10.1) == {b"name"}
    (record,) = caplog.records
    assert (record.client, record.replies) == (b"name", 2)
    assert empties(outbox, 10.1)


def test_a_reader_that_leaves(wire: Wire) -> None:
    outbox = Outbox(wire, 100_000)
    with reader_of(wire, b"name"):
        hear(wire, outbox, 0)
    hear(wire, outbox, 100)
    post(outbox, 1, 105)
    assert outbox.tidy(109.9) == set()
    assert outbox.tidy(110.1) == {b"name"}  # so that nothing is computed for it any more
    assert outbox.tidy(110.2) == set()
    post(outbox, 2, 111)
    with reader_of(wire, b"name") as reader:
        hear(wire, outbox, 112)
        assert numbers(reader, 2) == [1, 2]


def test_a_reader_that_comes_again(wire: Wire) -> None:
    outbox = Outbox(wire, 100_000)
    with reader_of(wire, b"name"):
        hear(wire, outbox, 0)
    hear(wire, outbox, 1)
    with reader_of(wire, b"name"):
        hear(wire, outbox, 10)
        assert outbox.tidy(12) == set()


def test_a_reader_that_is_said_to_be_gone(wire: Wire) -> None:
    """It gets its replies late; those who never came cannot leave."""
    outbox = Outbox(wire, 100_000)
    with reader_of(wire, b"name") as reader:
        hear(wire, outbox, 0)
        for name in (b"name", b"other"):
            outbox.subscribe(Subscription(name, begins=False), 1)
        post(outbox, 1, 2)
        assert outbox.tidy(12.1) == {b"name"}
        assert numbers(reader, 1) == [1]


def test_an_error_where_no_more_is_kept(wire: Wire) -> None:
    """It is told as it is, and also counts."""
    outbox = Outbox(wire, 100_000)
    post(outbox, 0, 0, 150_000)
    for n in range(1, 1000):
        outbox.post(Sender(b"name", b"%d" % n), b'{"error": "it"}', b"", 0, is_error=True)
    assert outbox.size < 100_000 + (1 << 20)
    with reader_of(wire, b"name") as reader:
        hear(wire, outbox, 0)
        assert numbers(reader, 1) == [0]
        for n in range(1, 201):
            assert reader.recv_multipart() == [b"name", b'{"error": "it"}', b"", b"%d" % n]


def test_more_than_is_kept(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """One reply is kept however large it is; of those that are dropped their client is told."""
    outbox = Outbox(wire, 100_000)
    post(outbox, 0, 0, 30_000)
    assert not outbox.is_full(b"name")
    assert outbox.size > 33_000  # what a reply takes besides its data is counted too
    post(outbox, 1, 0, 80_000)
    with reader_of(wire, b"name") as reader:
        hear(wire, outbox, 0)
        assert numbers(reader, 1) == [0]
        _, info, data, number = reader.recv_multipart()
        assert "100000 bytes" in json.loads(info)["error"]
        assert (data, number) == (b"", b"1")
        assert empties(outbox, 0)
    hear(wire, outbox, 1)
    post(outbox, 0, 1, 150_000)
    assert outbox.is_full(b"name")
    assert not outbox.is_full(b"another")
    for n in range(1, 1000):
        post(outbox, n, 1, 0)
    assert outbox.size < 100_000 + (1 << 20)
    with reader_of(wire, b"name") as reader:
        hear(wire, outbox, 2)
        assert len(reader.recv_multipart()[2]) == 150_000
        assert numbers(reader, 200) == list(range(1, 201))
        deadline = time.monotonic() + LONG
        while outbox.is_full(b"name"):
            assert time.monotonic() < deadline
        assert empties(outbox, 2)
    told = [record for record in caplog.records if "does not read" in record.msg]
    again = [record for record in caplog.records if "reads again" in record.msg]
    assert len(told) == 2
    assert [record.dropped for record in again] == [1, 999]
