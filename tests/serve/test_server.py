"""What the server's own thread decides: what is refused, and how it ends."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zmq
from bert_tokemb.serve.job import NO_MEMORY, Job
from bert_tokemb.serve.logs import JsonFormatter, logging_to

from bert_tokemb.models.engine import Engine
from bert_tokemb.serve import server as server_module
from bert_tokemb.serve.pooling import Pooling
from bert_tokemb.serve.server import Server
from bert_tokemb.serve.settings import Settings
from bert_tokemb.serve.sockets import Wire
from bert_tokemb.types import FloatArray, IntArray
from support.tiny import start

LONG = 60  # seconds
MOST = 20_000  # bytes that are kept for a client

SETTINGS = Settings(pooling_strategy=Pooling.NONE, max_seq_len=None, show_tokens_to_client=False)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire("127.0.0.1", 0, 0) as wire:
        yield wire


@pytest.fixture
def server(wire: Wire, shared_tiny: Path) -> Server:
    engine = start(shared_tiny, threads=1)
    return Server(wire, engine, SETTINGS, version="1", kept_replies=MOST)


class Asker:
    """Asks, and reads when it is told to."""

    def __init__(self, wire: Wire) -> None:
        self._context = zmq.Context()
        self.sender, self.reader = self._context.socket(zmq.PUSH), self._context.socket(zmq.SUB)
        self.sender.connect(f"tcp://127.0.0.1:{wire.port}")
        self.reader.rcvhwm, self.reader.rcvtimeo = 1, LONG * 1000
        self.reader.connect(f"tcp://127.0.0.1:{wire.port_out}")

    def ask(self, number: int, text: str = "a", n: int = 1) -> None:
        texts = json.dumps([text] * n).encode()
        self.sender.send_multipart([b"asker", texts, b"%d" % number, b"%d" % n])

    def errors(self, n: int) -> dict[int, str | None]:
        """Read replies."""
        self.reader.subscribe(b"asker")
        replies = [self.reader.recv_multipart() for _ in range(n)]
        return {int(number): json.loads(info).get("error") for _, info, _, number in replies}


@pytest.fixture
def asker(wire: Wire) -> Iterator[Asker]:
    asker = Asker(wire)
    yield asker
    asker._context.destroy(linger=0)


def turn_until_posted(server: Server) -> None:
    deadline = time.monotonic() + LONG
    while not len(server._outbox) or len(server._schedule):
        assert time.monotonic() < deadline
        server._turn(taking=True, longest=0.05)


def finish_and_read(server: Server, asker: Asker, n: int) -> dict[int, str | None]:
    thread = threading.Thread(target=server.finish)
    thread.start()
    errors = asker.errors(n)
    thread.join(LONG)
    return errors


def test_what_would_only_be_dropped_is_refused(
    server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When a reply comes, and when a request does; what is no request is told so."""
    caplog.set_level(logging.INFO)
    run = Engine.run

    def run_slowly(self: Engine, *arguments: Any) -> FloatArray:
        time.sleep(0.2)
        return run(self, *arguments)

    monkeypatch.setattr(Engine, "run", run_slowly)
    asker.ask(1, "the " * 62, 4)  # 32,768 bytes
    asker.ask(2, "the " * 60, 40)
    time.sleep(0.2)
    server.start()
    turn_until_posted(server)
    asker.ask(3)
    assert server._turn(taking=True, longest=LONG)
    asker.sender.send_multipart([b"asker", b"[", b"4", b"1"])
    assert server._turn(taking=True, longest=LONG)
    errors = finish_and_read(server, asker, 4)
    assert errors.pop(1) is None
    assert errors.pop(4).startswith("no JSON")
    assert errors == dict.fromkeys((2, 3), "replies to earlier requests are not read")
    refused = [record for record in caplog.records if record.msg == "request refused"]
    assert [str(record.sender) for record in refused] == ["asker#2", "asker#3"]


@pytest.mark.parametrize(
    ("fault", "told"), [("room", NO_MEMORY), ("reply", NO_MEMORY), ("large", "too many sentences")]
)
def test_a_request_that_does_not_fit(
    fault: str, told: str, server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told so, and the next one is answered."""

    def no_room(*arguments: object) -> None:
        monkeypatch.undo()
        raise MemoryError

    if fault == "room":
        monkeypatch.setattr(server_module, "Job", no_room)
    elif fault == "reply":
        monkeypatch.setattr(Job, "reply", no_room)
    else:
        monkeypatch.setattr(server_module, "LARGEST_REPLY", 1000)
    server.start()
    asker.ask(1, n=10)
    turn_until_posted(server)
    asker.ask(2)
    errors = finish_and_read(server, asker, 2)
    assert errors[1].startswith(told)
    assert errors[2] is None


def test_a_thread_that_has_died(server: Server, asker: Asker) -> None:
    asker.ask(1)  # and the threads have not even begun
    with pytest.raises(RuntimeError, match="a thread that computes has died"):
        server.run()


def test_its_end_comes_though_a_client_goes_on(
    server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_LAST_CALL", 1.0)
    over = threading.Event()

    def ask_on() -> None:
        number = 0
        while not over.wait(0.05):
            number += 1
            asker.ask(number)

    thread = threading.Thread(target=ask_on)
    server.start()
    thread.start()
    threading.Timer(LONG / 4, over.set).start()
    begin = time.monotonic()
    monkeypatch.setattr(server_module, "_PATIENCE", 0.1)
    server.finish()
    assert 1 <= time.monotonic() - begin < LONG / 4
    over.set()
    thread.join()


def test_nothing_is_taken_at_its_end(server: Server, wire: Wire, asker: Asker) -> None:
    """Whoever comes while the last replies are on their way is not let in."""
    server.start()
    asker.ask(1)
    thread = threading.Thread(target=server.finish)
    thread.start()
    with pytest.raises(ConnectionRefusedError):  # noqa: PT012
        while thread.is_alive():
            socket.create_connection(("127.0.0.1", wire.port)).close()
            time.sleep(0.05)
    assert thread.is_alive()
    assert asker.errors(1) == {1: None}
    thread.join(LONG)


def test_at_its_end_no_reply_waits_for_the_last(
    server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run, is_read = Engine.run, threading.Event()
    lengths = []

    def run_at_the_end(self: Engine, ids: IntArray, *arguments: Any) -> FloatArray:
        while "stopping" not in caplog.messages:
            time.sleep(0.01)
        if lengths:
            is_read.wait(LONG / 4)
        lengths.append(ids.shape[1])
        return run(self, ids, *arguments)

    monkeypatch.setattr(Engine, "run", run_at_the_end)
    asker.ask(1)
    asker.ask(2, "the " * 60)
    server.start()
    thread = threading.Thread(target=server.finish)
    thread.start()
    (first,) = asker.errors(1)
    assert len(lengths) == 1
    is_read.set()
    assert asker.errors(1) == {3 - first: None}
    thread.join(LONG)


def test_replies_that_nobody_reads(
    server: Server, asker: Asker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "_PATIENCE", 0.2)
    server.start()
    asker.ask(1)
    server.finish()
    assert "replies dropped: nobody reads them" in caplog.messages
    assert len(server._outbox) == 1


def test_replies_that_are_read_late(wire: Wire, asker: Asker, shared_tiny: Path) -> None:
    """Of 8 MB each, which is more than the network holds."""
    server = Server(wire, start(shared_tiny), SETTINGS, version="1")
    server.start()
    for number in range(5):
        asker.ask(number, "the " * 62, 1000)
    asker.reader.subscribe(b"asker")
    thread = threading.Thread(target=server.finish)
    thread.start()
    time.sleep(2)
    assert thread.is_alive()
    assert asker.errors(5) == dict.fromkeys(range(5))
    thread.join(LONG)
    assert not thread.is_alive()


def test_time_begins_anew_with_each_reply_that_is_read(
    wire: Wire,
    asker: Asker,
    shared_tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By a clock that goes on whenever one is read, by nearly all the time that there is."""
    server = Server(wire, start(shared_tiny), SETTINGS, version="1")
    server.start()
    for number in range(8):
        asker.ask(number, "the " * 62, 1000)  # 8 MB, which is more than the network holds
    turn_until_posted(server)
    asker.reader.subscribe(b"asker")
    passed = 0.0
    turn = server._turn

    def turn_and_read(**how: Any) -> bool:
        nonlocal passed
        before = server._outbox.size
        taken = turn(**how)
        if server._outbox.size < before:
            passed += 0.8 * server_module._PATIENCE
        elif asker.reader.poll(100):
            asker.reader.recv_multipart()
        return taken

    monkeypatch.setattr(server, "_turn", turn_and_read)
    monkeypatch.setattr(server_module, "_SLOWEST", 1e12)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + passed)
    monkeypatch.setattr(server_module, "time", clock)
    server.finish()
    assert passed > 2 * server_module._PATIENCE
    assert "replies dropped: nobody reads them" not in caplog.messages


def test_whoever_stops_it_wakes_it(server: Server, wire: Wire) -> None:
    server.stop()
    begin = time.monotonic()
    wire.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    server.run()  # which is over at once


def test_who_is_woken_waits_again(wire: Wire) -> None:
    for _ in range(100_000):  # more than a pipe holds
        wire.wake()
    begin = time.monotonic()
    wire.wait(LONG)
    assert time.monotonic() - begin < LONG / 2
    while True:
        begin = time.monotonic()
        wire.wait(0.2)
        if time.monotonic() - begin > 0.1:
            return


def test_a_line_of_the_log() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        told = {"exc_info": (type(error), error, error.__traceback__)}
    told |= {"levelname": "ERROR", "msg": "it", "client": b"a\xff", "created": 1.5, "msecs": 500.0}
    line = json.loads(JsonFormatter().format(logging.makeLogRecord(told)))
    assert line.pop("traceback").endswith("ZeroDivisionError: division by zero")
    assert line == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "error",
        "event": "it",
        "client": "a\\xff",
    }


def test_a_log_that_nobody_reads() -> None:
    """Lines are lost, and nobody waits."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    with os.fdopen(writer, "w") as stream:
        with logging_to(stream, logging.INFO):
            for _ in range(12_000):
                logging.getLogger("any").info("a line")
        assert time.monotonic() - begin < LONG / 2
        os.close(reader)  # which lets the thread go


def test_a_log_that_is_read_slowly() -> None:
    """Nothing is lost, though what it is written to does not wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    read = []

    def read_slowly() -> None:
        time.sleep(0.2)
        with os.fdopen(reader) as lines:
            read.extend(map(json.loads, lines))

    thread = threading.Thread(target=read_slowly)
    thread.start()
    with os.fdopen(writer, "w") as stream:
        with logging_to(stream, logging.INFO):
            for number in range(200):
                logging.getLogger("any").info(
                    "a line", extra={"number": number, "text": "x" * 9999}
                )
    thread.join(LONG)
    assert [line["number"] for line in read] == list(range(200))
