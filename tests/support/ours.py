"""Our own server, as a process or in this one, and a client without rules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import zmq

from bert_tokemb import Address
from bert_tokemb.models.engine import Engine
from bert_tokemb.serve.server import Server
from bert_tokemb.serve.settings import Limits, Settings
from bert_tokemb.serve.sockets import Sockets

from .command import invoke

__all__ = [
    "OurServer",
    "RawClient",
    "invoke_serve",
    "serve_command",
    "serving",
    "wait_until",
]

TIMEOUT = 60  # seconds; generous, for a machine under load


class OurServer:
    """``bert-tokemb serve`` as a process, on free ports; a context manager that ends it.

    Args:
        options: The arguments after ``bert-tokemb serve``, except the ports.
        env: The environment, by default that of this process.
    """

    def __init__(self, *options: str | Path, env: Mapping[str, str] | None = None) -> None:
        self._command = serve_command(*options)
        self._env = env
        # A file, since nothing reads a pipe while the server runs.
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end

    @property
    def stderr(self) -> str:
        """The text on standard error so far."""
        size = self._stderr.seek(0, os.SEEK_END)
        return os.pread(self._stderr.fileno(), size, 0).decode()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lines of its log so far."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of the log with an event."""
        return [line for line in self.log if line["event"] == event]

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(signum)
        return self.process.wait(TIMEOUT)

    def __enter__(self) -> OurServer:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=self._stderr, text=True, env=self._env
        )
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.__exit__()
            raise AssertionError(self.stderr)
        self.address = _address(line.split()[1])
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()
        self._stderr.close()


def serve_command(*options: str | Path) -> list[str]:
    """Return the command that starts a server on free ports."""
    return [sys.executable, "-m", "bert_tokemb", *_serve_arguments(options)]


def invoke_serve(
    client: Callable[[Address], None],
    *options: str | Path,
    ready_file: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``bert-tokemb serve`` on free ports in this process, until a client function returns.

    The client function is called in a thread, with the address of the server.
    """
    finished = Event()
    errors: list[BaseException] = []

    def run_client() -> None:
        while not finished.wait(0.01):
            # The file appears under its name when it is complete.
            if ready.exists():
                address = _address(ready.read_text())
                try:
                    client(address)
                except BaseException as error:  # raised again by the main thread
                    errors.append(error)
                with RawClient(address) as raw:
                    raw.send(b"raw", b"TERMINATION", b"1", b"0")
                    finished.wait(TIMEOUT)
                return

    with tempfile.TemporaryDirectory() as scratch:
        ready = ready_file or Path(scratch) / "ready"
        thread = Thread(target=run_client)
        thread.start()
        try:
            done = invoke(
                *(*_serve_arguments(options), "--ready-file", ready, "--allow-shutdown"), env=env
            )
        finally:
            finished.set()
            thread.join()
    if errors:
        raise errors[0]
    return done


@contextmanager
def serving(
    engine: Engine, settings: Settings, limits: Limits | None = None, **options: Any
) -> Iterator[Address]:
    """Serve from a thread of this process within the block, and report the settings to clients."""
    limits = limits or Limits(quiet=0.05)
    names = ("max_seq_len", "max_batch_size", "show_tokens_to_client")
    reported = {name: getattr(settings, name) for name in names}
    reported |= {"pooling_strategy": settings.pooling_strategy.value, "do_lower_case": True}
    settings = replace(settings, reported={**reported, "num_worker": 1, "model_dir": "model"})
    with Sockets("127.0.0.1", 0, 0, limits) as sockets:
        server = Server(sockets, engine, settings, version="1", limits=limits, **options)
        server.start()

        def serve() -> None:
            server.run()
            server.finish()

        thread = Thread(target=serve)
        thread.start()
        try:
            yield Address("127.0.0.1", sockets.port, sockets.port_out)
        finally:
            server.stop()
            thread.join()


class RawClient:
    """A client that sends arbitrary frames, and may not read replies; a context manager."""

    def __init__(self, address: Address, name: bytes = b"raw", *, reads: bool = True) -> None:
        self._context = zmq.Context()
        self.name = name
        self.sender = self._context.socket(zmq.PUSH)
        self.sender.connect(f"tcp://{address.host}:{address.port}")
        self.receiver = self._context.socket(zmq.SUB)
        self.receiver.rcvhwm = 1
        if reads:
            self.subscribe()
        self.receiver.connect(f"tcp://{address.host}:{address.port_out}")

    def subscribe(self) -> None:
        """Receive replies from now on."""
        self.receiver.subscribe(self.name)

    def send(self, *frames: bytes) -> None:
        """Send a message."""
        self.sender.send_multipart(frames)

    def ask(self, texts: list[Any], number: int = 1) -> None:
        """Send a request."""
        self.send(self.name, json.dumps(texts).encode(), b"%d" % number, b"%d" % len(texts))

    def receive(self) -> list[bytes]:
        """Return the frames of the next reply."""
        assert self.receiver.poll(TIMEOUT * 1000), "no reply"
        return self.receiver.recv_multipart()

    def errors(self, n: int) -> dict[int, str | None]:
        """Return the error, or None, of each of the next replies by the number of its request."""
        replies = [self.receive() for _ in range(n)]
        return {int(number): json.loads(info).get("error") for _, info, _, number in replies}

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.destroy(linger=0)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


def _serve_arguments(options: tuple[str | Path, ...]) -> list[str]:
    # Flags of bert-serving-start have one dash, and -m is ours.
    ours = {"--model", "-m"} & set(options)
    ports = ("--port", "--port-out") if ours else ("-port", "-port_out")
    return ["serve", *map(str, options), *(part for name in ports for part in (name, "0"))]


def _address(text: str) -> Address:
    host, port, port_out = text.strip().split(":")
    return Address(host, int(port), int(port_out))
