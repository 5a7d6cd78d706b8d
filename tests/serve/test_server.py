"""Decisions of the server's own thread: what it refuses, and how it stops."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb import Address
from bert_tokemb.errors import UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.serve.server import Server
from bert_tokemb.serve.settings import Limits, Settings
from bert_tokemb.serve.sockets import Sockets
from bert_tokemb.types import FloatArray
from support.ours import RawClient, wait_until
from support.sockets import FakeSockets
from support.tiny import start

TIMEOUT = 60  # seconds
LONG = "the " * 62  # 64 pieces, 8,192 bytes
LIMITS = Limits(kept_bytes=20_000)


class HookedEngine:
    """An engine that calls a function before each batch, with the number of the batch."""

    def __init__(self, engine: Engine, hook: Callable[[int], None]) -> None:
        self._engine = engine
        self._hook = hook
        self._batches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, *arguments: Any) -> FloatArray:
        self._hook(self._batches)
        self._batches += 1
        return self._engine.run(*arguments)


@pytest.fixture(scope="module")
def one_thread(shared_tiny: Path) -> Engine:
    return start(shared_tiny, threads=1)


@pytest.fixture
def sockets() -> FakeSockets:
    sockets = FakeSockets()
    sockets.subscribe()
    return sockets


def make_server(
    sockets: FakeSockets, engine: Engine | HookedEngine, limits: Limits = LIMITS, **options: Any
) -> Server:
    return Server(
        sockets, engine, Settings(), version="1", limits=limits, clock=sockets.clock, **options
    )


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Run a server in a thread within the block, and let it finish."""
    server.start()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()
        server.finish()


# --- Requests ---------------------------------------------------------------------------------


def test_server_refuses_requests_while_replies_are_not_read(
    sockets: FakeSockets, one_thread: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refused = threading.Event()
    engine = HookedEngine(one_thread, lambda n: n == 0 or refused.wait(TIMEOUT))
    sockets.is_delivering = False
    sockets.ask(1, *[LONG] * 4)  # 32,768 bytes
    sockets.ask(2, *["the " * 60] * 40)
    with running(make_server(sockets, engine)):
        # The first reply fills the queue: the second request is dropped, the third not accepted.
        wait_until(lambda: len(sockets.published) == 2)
        refused.set()
        sockets.ask(3, "a")
        wait_until(lambda: len(sockets.published) == 3)
        sockets.is_delivering = True
    unread = "replies to earlier requests have not been read"
    assert sockets.published == [(1, None), (2, unread), (3, unread)]
    refusals = [record for record in caplog.records if record.msg == "request refused"]
    assert [str(record.sender) for record in refusals] == ["client#2", "client#3"]


def test_server_refuses_requests_while_too_many_are_pending(
    sockets: FakeSockets, one_thread: Engine
) -> None:
    refused = threading.Event()
    engine = HookedEngine(one_thread, lambda n: refused.wait(TIMEOUT))
    sockets.ask(1, "a " * 9_000)
    sockets.ask(2, "a " * 9_000)
    with running(make_server(sockets, engine)):
        wait_until(lambda: sockets.published)
        refused.set()
        wait_until(lambda: len(sockets.published) == 2)
    assert sockets.published == [
        (2, "too many requests are pending: fetch replies first"),
        (1, None),
    ]


def test_server_refuses_too_many_sentences(sockets: FakeSockets, one_thread: Engine) -> None:
    sockets.ask(1, *["a"] * 10)
    sockets.ask(2, "a")
    with running(make_server(sockets, one_thread, Limits(reply_bytes=1000))):
        wait_until(lambda: len(sockets.published) == 2)
    assert sockets.published == [(1, "too many sentences: send fewer at a time"), (2, None)]


def test_server_answers_malformed_requests(
    sockets: FakeSockets, one_thread: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    sockets.send(b"nonsense")
    sockets.send(b"client", b'["a"]', b"7", b"2")
    sockets.ask(8, "a")
    with running(make_server(sockets, one_thread)):
        wait_until(lambda: len(sockets.published) == 2)
    assert sockets.published == [(7, "1 sentences, announced as 2"), (8, None)]
    assert caplog.messages == ["malformed request dropped"] * 2
    assert [record.reason for record in caplog.records] == [
        "1 frames instead of 4",
        "1 sentences, announced as 2",
    ]


def test_server_answers_commands(sockets: FakeSockets, one_thread: Engine) -> None:
    sockets.send(b"client", b"SHOW_CONFIG", b"1", b"0")
    sockets.ask(2, "a", "b")
    sockets.send(b"client", b"SHOW_STATUS", b"3", b"0")
    with running(make_server(sockets, one_thread)):
        wait_until(lambda: len(sockets.published) == 3)
    config, status = (info for info in sockets.infos if "server_version" in info)
    assert (config["server_version"], config["bert_tokemb_version"]) == ("1.10.0", "1")
    assert (config["client"], config["port"], config["port_out"]) == ("client", 1, 2)
    statistic = status.pop("statistic")
    assert {name: statistic[name] for name in statistic if name.startswith("num_")} == {
        "num_data_request": 1,
        "num_total_seq": 2,
        "num_sys_request": 2,
        "num_total_request": 3,
        "num_total_client": 1,
        "num_active_client": 1,
        **{f"num_{end}_request_per_client": 1 for end in ("min", "max")},
        **{f"num_{end}_size_per_request": 1 for end in ("min", "max")},
        **{f"num_{end}_last_two_interval": 1 for end in ("min", "max")},
    }
    assert statistic["avg_size_per_request"] == 2
    del config["server_current_time"], status["server_current_time"]
    assert config == status


def test_server_drops_requests_of_absent_clients(
    sockets: FakeSockets, one_thread: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    gone = threading.Event()
    engine = HookedEngine(one_thread, lambda n: gone.wait(TIMEOUT))
    sockets.ask(1, LONG)
    sockets.ask(2, LONG)
    with running(make_server(sockets, engine)):
        sockets.unsubscribe()
        wait_until(lambda: caplog.messages)
        assert sockets.now > LIMITS.absence
        gone.set()
    assert not sockets.published
    (record,) = caplog.records
    assert record.message == "requests dropped: the client is gone"
    assert (record.client, record.requests) == (b"client", 2)


def test_server_refuses_shutdown_by_default(
    sockets: FakeSockets, one_thread: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    sockets.send(b"client", b"TERMINATION", b"1", b"0")
    sockets.ask(2, "a")
    with running(make_server(sockets, one_thread)):
        wait_until(lambda: sockets.published == [(2, None)])
    assert caplog.messages == ["TERMINATION refused: clients may not shut down this server"]


def test_server_obeys_shutdown_if_allowed(sockets: FakeSockets, one_thread: Engine) -> None:
    server = make_server(sockets, one_thread, allow_shutdown=True)
    sockets.send(b"client", b"TERMINATION", b"1", b"0")
    server.start()
    server.run()  # returns
    server.finish()


def test_server_refuses_max_seq_len_beyond_the_model(
    sockets: FakeSockets, one_thread: Engine
) -> None:
    with pytest.raises(UsageError, match="max_seq_len is 65, more than the 64 pieces that"):
        Server(sockets, one_thread, Settings(max_seq_len=65), version="1")


def test_dead_worker_ends_the_server(sockets: FakeSockets, one_thread: Engine) -> None:
    sockets.ask(1, "a")
    with pytest.raises(RuntimeError, match="a thread that computes has died"):
        make_server(sockets, one_thread).run()  # whose threads have not even been started


# --- Stopping ---------------------------------------------------------------------------------


def test_stop_wakes_the_server(one_thread: Engine) -> None:
    with Sockets("127.0.0.1", 0, 0) as sockets:
        server = Server(sockets, one_thread, Settings(), version="1")
        server.stop()
        start = time.monotonic()
        sockets.wait(TIMEOUT)
        assert time.monotonic() - start < TIMEOUT / 2
        server.run()  # returns


def test_finish_accepts_requests_that_are_under_way(
    sockets: FakeSockets, one_thread: Engine
) -> None:
    arrivals = [0.2, 0.4, 0.6, 2.0]

    def arrive() -> None:
        while arrivals and sockets.now >= arrivals[0]:
            sockets.ask(int(10 * arrivals.pop(0)), "a")

    sockets.on_wait = arrive
    server = make_server(sockets, one_thread, Limits(quiet=0.3))
    server.start()
    server.finish()
    assert {number for number, _ in sockets.published} <= {2, 4, 6}
    assert len(sockets.published) >= 2


def test_finish_stops_accepting_though_a_client_continues(
    sockets: FakeSockets, one_thread: Engine
) -> None:
    closed_at = []

    def ask() -> None:
        sockets.now += 0.1
        if not sockets.is_closed:
            sockets.ask(1, "a")
        elif not closed_at:
            closed_at.append(sockets.now)

    sockets.on_wait = ask
    server = make_server(sockets, one_thread, Limits(last_requests=3.0))
    server.start()
    server.finish()
    assert 3.0 <= closed_at[0] < 4.0


def test_finish_refuses_connections(one_thread: Engine) -> None:
    limits = Limits(quiet=0.05)
    with Sockets("127.0.0.1", 0, 0) as sockets:
        address = Address("127.0.0.1", sockets.port, sockets.port_out)
        server = Server(sockets, one_thread, Settings(), version="1", limits=limits)
        server.start()
        with RawClient(address, reads=False) as client:
            client.ask(["a"])
            thread = threading.Thread(target=server.finish)
            thread.start()
            with pytest.raises(ConnectionRefusedError):  # noqa: PT012
                while thread.is_alive():
                    socket.create_connection((address.host, address.port)).close()
                    time.sleep(0.02)
            assert thread.is_alive()  # until the reply is read
            client.subscribe()
            assert client.errors(1) == {1: None}
            thread.join(TIMEOUT)


def test_finish_sends_each_reply_when_it_is_complete(
    sockets: FakeSockets, one_thread: Engine
) -> None:
    # The first batch is computed after the last request was accepted, the second after a reply.
    conditions = [lambda: sockets.is_closed, lambda: sockets.published]
    engine = HookedEngine(one_thread, lambda n: wait_until(conditions[n]))
    sockets.ask(1, "a")
    sockets.ask(2, "a b c d")
    server = make_server(sockets, engine)
    server.start()
    server.finish()
    assert sorted(sockets.published) == [(1, None), (2, None)]


def test_finish_drops_replies_that_are_not_read(
    sockets: FakeSockets, one_thread: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    sockets.is_delivering = False
    sockets.ask(1, "a")
    server = make_server(sockets, one_thread, Limits(unread=10.0))
    server.start()
    server.finish()
    assert caplog.messages == ["replies dropped: no client reads them"]
    assert caplog.records[0].bytes > 3 * 32 * 4
    assert 10 < sockets.now < 15


@pytest.mark.parametrize(
    ("sentences", "interval"),
    [(1, 8.0), (400, 12.0)],  # replies of 8 kB and of 3.3 MB, which is allowed 3.3 s more
    ids=["small", "large"],
)
def test_finish_waits_as_long_as_replies_are_read(
    sentences: int,
    interval: float,
    sockets: FakeSockets,
    one_thread: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each reply is read shortly before the time for it is over."""
    sockets.is_delivering = False
    for number in range(3):
        sockets.ask(number, *[LONG] * sentences)
    last_read = None

    def read() -> None:
        nonlocal last_read
        if len(sockets.published) == 3:
            last_read = last_read or sockets.now
            if sockets.now - last_read > interval:
                sockets.deliver_one()
                last_read = sockets.now

    sockets.on_wait = read
    server = make_server(sockets, one_thread, Limits(unread=10.0))
    server.start()
    server.finish()
    assert sockets.now > 3 * interval
    assert [error for _, error in sockets.published] == [None] * 3
    assert not caplog.messages


def test_finish_sends_large_replies_to_a_late_reader(one_thread: Engine) -> None:
    """More data than the buffers of the network hold."""
    limits = Limits(quiet=0.05)
    with Sockets("127.0.0.1", 0, 0) as sockets:
        address = Address("127.0.0.1", sockets.port, sockets.port_out)
        server = Server(sockets, one_thread, Settings(), version="1", limits=limits)
        server.start()
        with RawClient(address, reads=False) as client:
            for number in range(4):
                client.ask([LONG] * 500, number)  # 4 MB
            client.subscribe()
            thread = threading.Thread(target=server.finish)
            thread.start()
            thread.join(0.2)
            assert thread.is_alive()
            assert client.errors(4) == dict.fromkeys(range(4))
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def test_reply_of_a_request_contains_its_vectors(sockets: FakeSockets, one_thread: Engine) -> None:
    sockets.ask(1, "hello world")
    with running(make_server(sockets, one_thread)):
        wait_until(lambda: sockets.published)
    assert json.dumps(sockets.infos) == '[{"dtype": "float32", "shape": [1, 4, 32], "tokens": ""}]'
