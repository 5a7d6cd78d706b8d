"""``bert-tokemb serve`` as a process: signals, standard streams, memory."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb import Address
from support.client import connect
from support.ours import OurServer, RawClient, serve_command, wait_until

TIMEOUT = 60  # seconds


def address_in(ready: Path) -> Address:
    wait_until(ready.exists)
    host, port, port_out = ready.read_text().strip().split(":")
    return Address(host, int(port), int(port_out))


@contextlib.contextmanager
def started(command: list[str], **settings: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a server without reading its standard output; end it after the block."""
    process = subprocess.Popen(command, text=True, **settings)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# --- Signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "signum",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_signal_drains_pending_requests(signum: int, shared_tiny: Path) -> None:
    texts = ["the " * 60] * 500
    with OurServer("--model", shared_tiny, "--threads", "1", "--verbose") as server:
        with connect(server.address) as client:
            for _ in range(4):
                client.encode(texts, blocking=False)
            wait_until(lambda: len(server.logged("request")) == 4)
            server.process.send_signal(signum)
            replies = client.fetch_all()
            assert [reply.shape for reply in replies] == [(500, 62, 32)] * 4
            assert all(reply.any(axis=(1, 2)).all() for reply in replies)
            assert server.process.wait(TIMEOUT) == 0


def test_signal_drains_requests_that_have_not_been_received(shared_tiny: Path) -> None:
    with OurServer("--model", shared_tiny, "--threads", "1") as server:
        with connect(server.address) as client:
            client.receiver.rcvtimeo = 1000 * TIMEOUT  # fetch_all() has no time-out
            server.process.send_signal(signal.SIGSTOP)
            for _ in range(300):
                client.encode(["a"], blocking=False)
            time.sleep(0.3)  # until they are in the buffers of the network, as is likely
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGCONT)
            assert len(client.fetch_all()) == 300
        assert server.process.wait(TIMEOUT) == 0


def test_second_signal_ends_the_server_at_once(shared_tiny: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    options = ("--threads", "1", "--verbose", "--ready-file", ready)
    with OurServer("--model", shared_tiny, *options) as server:
        with connect(server.address) as client:
            for _ in range(50):
                client.encode(["hello world " * 20] * 500, blocking=False)
            wait_until(lambda: len(server.logged("request")) == 50)
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: server.logged("stopping"))
            assert not ready.exists()
            time.sleep(0.3)  # a signal that comes sooner counts as the same one
            assert server.stop(signal.SIGINT) == 130


# --- Standard streams that are not read -------------------------------------------------------


def test_full_stdout_does_not_block_the_server(shared_tiny: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    ready = tmp_path / "ready"
    command = serve_command("--model", shared_tiny, "--ready-file", ready)
    with started(command, stdout=writer) as process:
        with connect(address_in(ready)) as client:
            client.encode(["a"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    "redirection", [">&-", pytest.param("| true", marks=pytest.mark.slow)], ids=["closed", "broken"]
)
def test_missing_stdout_does_not_stop_the_server(
    redirection: str, shared_tiny: Path, tmp_path: Path
) -> None:
    ready, errors = tmp_path / "ready", tmp_path / "errors"
    command = shlex.join(serve_command("--model", shared_tiny, "--ready-file", ready))
    script = f"exec {command} 2>{shlex.quote(str(errors))} {redirection}"
    if redirection == "| true":
        # It starts when nothing reads the pipe any more.
        script = f"{{ sleep 0.5; exec {command} 2>{shlex.quote(str(errors))}; }} | true & wait"
    process = subprocess.Popen(["bash", "-c", script], start_new_session=True)
    try:
        wait_until(ready.exists)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(TIMEOUT)
    wait_until(lambda: not ready.exists())
    assert errors.read_text() == ""


def test_unread_log_does_not_block_the_server(shared_tiny: Path) -> None:
    command = serve_command("--model", shared_tiny, "--verbose")
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, address = process.stdout.readline().split()
        host, port, port_out = address.split(":")
        with connect(Address(host, int(port), int(port_out))) as client:
            for _ in range(300):  # more lines than a pipe holds
                client.encode(["a"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0


# --- Memory and fairness under load -----------------------------------------------------------


def resident(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if "VmRSS" in line))


@pytest.mark.slow
def test_client_that_does_not_read_takes_bounded_memory(shared_tiny: Path) -> None:
    """Replies of up to 256 MB are kept for it, and other clients are not affected."""
    texts = ["the " * 62] * 400  # 64 pieces of 96 numbers, 400 times: 9.8 MB
    with OurServer("--model", shared_tiny, "--layers", "0,1,2", "--verbose") as server:
        before = resident(server.process)
        with RawClient(server.address, b"mute") as raw, connect(server.address) as client:
            for number in range(60):
                raw.ask(texts, number)
            wait_until(
                lambda: len(server.logged("reply")) + len(server.logged("request refused")) == 60
            )
            assert client.encode(["a"]).shape == (1, 3, 96)
            (dropped,) = server.logged("replies dropped: the client does not read")
            assert 240e6 < dropped["bytes"] <= 256e6
            assert resident(server.process) - before < 256e6 + 150e6
            replies = [raw.receive() for _ in range(60)]
            assert {int(reply[3]) for reply in replies} == set(range(60))
            whole = [reply for reply in replies if len(reply[2]) == 400 * 64 * 96 * 4]
            assert 25 <= len(whole) <= 30  # those that are kept, and what the sockets hold
            assert all("error" in json.loads(reply[1]) for reply in replies if not reply[2])
            assert len(whole) + sum(not reply[2] for reply in replies) == 60
            wait_until(lambda: server.logged("client reads again"))
            raw.ask(texts, 99)
            assert raw.receive()[3] == b"99"
            wait_until(lambda: resident(server.process) - before < 100e6)


@pytest.mark.slow
def test_requests_of_absent_client_are_not_computed_to_the_end(shared_tiny: Path) -> None:
    with OurServer("--model", shared_tiny, "--verbose") as server:
        with RawClient(server.address, b"gone") as raw:
            raw.ask(["a"])
            raw.receive()
            for number in range(2, 30):
                raw.ask(["the " * 60] * 20_000, number)
            wait_until(lambda: len(server.logged("request")) == 29)
        with connect(server.address) as client:
            assert client.encode(["a"]).shape == (1, 3, 32)
        wait_until(lambda: server.logged("requests dropped: the client is gone"))
        assert "gone#29" not in [line["sender"] for line in server.logged("reply")]


@pytest.mark.slow
def test_small_request_overtakes_a_large_one(shared_tiny: Path) -> None:
    with OurServer("--model", shared_tiny, "--threads", "1", "--verbose") as server:
        with connect(server.address) as one, connect(server.address) as other:
            one.encode(["the " * 40] * 20_000, blocking=False)
            wait_until(lambda: server.logged("request"))
            other.encode(["a"])
            one.encode(["a b"], blocking=False)
            assert next(one.fetch()).embedding.shape == (1, 4, 32)
            assert next(one.fetch()).embedding.shape == (20_000, 42, 32)


@pytest.mark.slow
def test_memory_does_not_grow_with_requests(shared_tiny: Path) -> None:
    with OurServer("--model", shared_tiny) as server:
        sizes = []
        for _ in range(3):
            for _ in range(20):
                with connect(server.address) as client:
                    for _ in range(50):
                        client.encode(["hello world " * 5] * 3)
            sizes.append(resident(server.process))
    assert sizes[2] - sizes[0] < 30e6
