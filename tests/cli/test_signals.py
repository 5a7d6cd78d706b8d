"""Ctrl-C, SIGTERM and SIGHUP."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from support.command import Command, load
from support.standin import StandIn

STOPPED = "bert-tokemb: stopped by {}\n"


@contextmanager
def start(*arguments: object, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """Start the command, and end it after the block."""
    command = [sys.executable, "-m", "bert_tokemb", "embed", *map(str, arguments)]
    process = subprocess.Popen(  # type: ignore[call-overload]
        command, stderr=subprocess.PIPE, text=True, **settings
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def handles_sigterm(process: subprocess.Popen[str]) -> bool:
    """Return whether the process has installed a handler; Python itself installs none."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_run_that_waits_for_server(
    signum: signal.Signals, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"older")
    with StandIn(fault=lambda *_: []) as silent:
        with start(text, "-o", tmp_path / "out", "--server", silent.address) as process:
            wait_until(lambda: silent.requests, process)
            process.send_signal(signum)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert errors == STOPPED.format(signum.name)
    assert (tmp_path / "out").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


def test_signal_stops_run_that_waits_for_input(server: StandIn, tmp_path: Path) -> None:
    before = len(server.requests)
    arguments = ("-", "-o", tmp_path / "out", "--server", server.address)
    with start(*arguments, stdin=subprocess.PIPE) as process:
        wait_until(lambda: len(server.requests) > before, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    assert list(tmp_path.iterdir()) == []


def test_signal_stops_run_that_computes(shared_tiny: Path, tmp_path: Path) -> None:
    arguments = ("-", "-o", tmp_path / "out", "--model", shared_tiny)
    with start(*arguments, stdin=subprocess.PIPE) as process:
        process.stdin.write("hello world\n" * 100_000)  # more than a pipe holds: it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.endswith(STOPPED.format("SIGINT"))
    assert list(tmp_path.iterdir()) == []


def test_ignored_signal_stays_ignored(server: StandIn, tmp_path: Path) -> None:
    """``nohup`` starts commands with SIGHUP ignored, and ``&`` in a script with SIGINT ignored."""
    before = len(server.requests)
    arguments = ("-", "-o", tmp_path / "out", "--server", server.address)

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with start(*arguments, stdin=subprocess.PIPE, preexec_fn=ignore) as process:
        wait_until(lambda: len(server.requests) > before, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate("hello\n", timeout=60)
    assert process.returncode == 0, errors
    assert len(load(tmp_path / "out")) == 1


@pytest.mark.slow
def test_signal_stops_run_at_any_moment(server: StandIn, text: Path, tmp_path: Path) -> None:
    """The moments include the import of modules."""
    for moment in range(0, 400, 20):
        with start(text, "-o", tmp_path / "out", "--server", server.address) as process:
            wait_until(partial(handles_sigterm, process), process)
            time.sleep(moment / 1000)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
        assert process.returncode in (0, 143), errors
        assert (tmp_path / "out").exists() == (process.returncode == 0)
        (tmp_path / "out").unlink(missing_ok=True)
        left = {path.name for path in tmp_path.iterdir()} - {"text"}
        assert left == ({".out.partial"} if "kept" in errors else set())
        if left:
            shutil.rmtree(tmp_path / ".out.partial")


# --- Signals that Python or a library would lose ----------------------------------------------

FINALIZER = """
import os, signal
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the handler is called meanwhile
            pass
left = [Last()]
def strategy(pieces):
    left.clear()
    return pieces[0]
"""


def test_signal_stops_run_while_object_is_finalized(
    server: StandIn, run: Command, text: Path, tmp_path: Path
) -> None:
    """Python discards exceptions that are raised in a finalizer."""
    (tmp_path / "signalling.py").write_text(FINALIZER)
    options = ("--strategy", "signalling:strategy", "--server", server.address)
    done = run("embed", text, "-o", "out", *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (143, STOPPED.format("SIGTERM"))
    assert not (tmp_path / "out").exists()


IMPORTING = """
import os, signal, sys
from bert_tokemb.__main__ import main

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == awaited:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGTERM)
            print("still importing", flush=True)

awaited = sys.argv.pop(1)
sys.meta_path.insert(0, Sender())
main()
"""


@pytest.mark.parametrize(
    ("module", "encoder"),
    [
        ("numpy", "--model"),
        ("onnxruntime.capi.onnxruntime_pybind11_state", "--model"),
        pytest.param("tokenizers.tokenizers", "--model", marks=pytest.mark.slow),
        ("zmq.backend.cython._zmq", "--server"),
    ],
)
def test_signal_stops_run_while_extension_module_is_imported(
    module: str, encoder: str, server: StandIn, shared_tiny: Path, text: Path, tmp_path: Path
) -> None:
    """An exception raised during the import would become an error of the module."""
    where = shared_tiny if encoder == "--model" else str(server.address)
    options = ["embed", text, "-o", tmp_path / "out", encoder, where]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, module, *options], capture_output=True, text=True
    )
    assert done.stdout == "still importing\n"
    assert (done.returncode, done.stderr) == (143, STOPPED.format("SIGTERM"))
    assert not (tmp_path / "out").exists()


# --- The second signal ------------------------------------------------------------------------

SECOND_SIGNAL = """
import os, signal, time
from bert_tokemb.signals import Interrupted, raise_on_signals

raise_on_signals()
try:
    os.kill(os.getpid(), signal.SIGINT)
except Interrupted:
    for _ in range({number}):
        time.sleep({pause})
        os.kill(os.getpid(), signal.{second})
    print("still cleaning up", flush=True)
"""


@pytest.mark.parametrize(
    ("second", "number", "pause", "code", "output"),
    [
        pytest.param("SIGTERM", 1, 0, 143, "", id="another signal"),
        pytest.param("SIGINT", 1, 0.5, 130, "", id="same signal later"),
        pytest.param("SIGINT", 1, 0, 0, "still cleaning up\n", id="duplicate by timeout(1)"),
        pytest.param("SIGINT", 4, 0.1, 130, "", id="key held down"),
    ],
)
def test_second_signal_ends_clean_up(
    second: str, number: int, pause: float, code: int, output: str
) -> None:
    program = SECOND_SIGNAL.format(number=number, pause=pause, second=second)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, output, "")
