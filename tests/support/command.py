"""Runs ``bert-tokemb`` in this process and reads its results."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO
from unittest import mock

import numpy as np

from bert_tokemb.cli.main import run

__all__ = ["ROOT", "Command", "invoke", "load"]

ROOT = Path(__file__).parents[2]
"""The repository."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def load(path: Path) -> list[np.ndarray]:
    """Read a pickled result."""
    return pickle.loads(path.read_bytes())


def invoke(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | bytes = "",
) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, in milliseconds instead of a second.

    The standard streams are redirected at the level of file descriptors. Logging, signal handlers,
    the environment and the working directory are restored.
    """
    data = stdin.encode() if isinstance(stdin, str) else stdin
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, env or {}))
        stack.enter_context(_working_directory(cwd))
        stack.enter_context(_process_state())
        source = stack.enter_context(_pipe(data))
        stdout, stderr = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(2))
        with _redirected(source, 0), _redirected(stdout, 1), _redirected(stderr, 2):
            code = run([str(argument) for argument in arguments])
        output, errors = (_content(file) for file in (stdout, stderr))
    return subprocess.CompletedProcess(arguments, code, output, errors)


@contextmanager
def _pipe(data: bytes) -> Iterator[IO[bytes]]:
    """Yield the read end of a pipe that contains the data."""
    read_end, write_end = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(write_end, "wb") as file:
            file.write(data)

    writer = Thread(target=write, daemon=True)
    writer.start()
    with os.fdopen(read_end, "rb") as file:
        yield file
    writer.join()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "backslashreplace")


@contextmanager
def _redirected(file: IO[bytes], descriptor: int) -> Iterator[None]:
    name = ("stdin", "stdout", "stderr")[descriptor]
    python_stream = getattr(sys, name)
    saved = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    mode = "r" if descriptor == 0 else "w"
    redirected = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
    setattr(sys, name, redirected)
    try:
        yield
    finally:
        if descriptor:
            redirected.flush()
        setattr(sys, name, python_stream)
        os.dup2(saved, descriptor)
        os.close(saved)


@contextmanager
def _working_directory(path: Path | None) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path or before)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _process_state() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    signals = {number: signal.getsignal(number) for number in _SIGNALS}
    path = sys.path[:]
    try:
        yield
    finally:
        logging.root.handlers[:], sys.path[:] = handlers, path
        logging.root.setLevel(level)
        for number, handler in signals.items():
            signal.signal(number, handler)
