"""Fixtures: models, genuine and stand-in servers, and the command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import support.command
from bert_tokemb.models.engine import Engine
from support.command import Command
from support.genuine import NONE, GenuineServer, make_model
from support.models import (
    TINY,
    minilm_config,
    minilm_vocabulary,
    minilm_weights,
    toy_vocabulary,
)
from support.standin import StandIn
from support.tiny import start, write_tiny

collect_ignore = ["genuine"]  # scripts for the genuine server's Python

# The duration of an example depends on the load of the machine.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

# Under `nohup` or `&` in a script, these signals are ignored, and child processes inherit that.
# Handlers are not inherited: with one, the processes that the tests start receive the signals.
for signum in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(signum) is signal.SIG_IGN:
        signal.signal(signum, lambda signum, frame: None)


@pytest.fixture(scope="session")
def uncased_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("uncased"), TINY, toy_vocabulary(cased=False))


@pytest.fixture(scope="session")
def cased_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("cased"), TINY, toy_vocabulary(cased=True))


@pytest.fixture(scope="session")
def real_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """all-MiniLM-L6-v2 as a TensorFlow checkpoint."""
    directory = tmp_path_factory.mktemp("minilm")
    return make_model(directory, minilm_config(), minilm_vocabulary(), minilm_weights())


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "model")


@pytest.fixture(scope="session")
def shared_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, for tests that do not change it."""
    return write_tiny(tmp_path_factory.mktemp("shared") / "model")


@pytest.fixture(scope="session")
def engine(shared_tiny: Path) -> Engine:
    """An engine that returns all layers of the tiny model."""
    return start(shared_tiny, (0, 1, 2))


@pytest.fixture(scope="session")
def server_none(uncased_model: Path) -> Iterator[GenuineServer]:
    """A genuine server without a `max_seq_len`; its model accepts 64 pieces."""
    with GenuineServer("-model_dir", uncased_model, *NONE, "-max_seq_len", "NONE") as server:
        yield server


@pytest.fixture(scope="session")
def server_32(uncased_model: Path) -> Iterator[GenuineServer]:
    """A genuine server with a `max_seq_len` of 32."""
    with GenuineServer("-model_dir", uncased_model, *NONE, "-max_seq_len", "32") as server:
        yield server


@pytest.fixture(scope="session")
def server_cased(cased_model: Path) -> Iterator[GenuineServer]:
    options = ("-model_dir", cased_model, *NONE, "-max_seq_len", "NONE", "-cased_tokenization")
    with GenuineServer(*options) as server:
        yield server


@pytest.fixture(scope="session")
def server() -> Iterator[StandIn]:
    """A stand-in server; its vectors contain the positions of their pieces."""
    with StandIn() as server:
        yield server


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables that set options, but keep those that configure the tests."""
    for name in list(os.environ):
        if re.match(r"BERT_TOKEMB_(?!PYTHON_|TEST_)", name):
            monkeypatch.delenv(name)
    # An address without a server: ordinary processes cannot listen on port 1.
    monkeypatch.setenv("BERT_TOKEMB_DEFAULT_SERVER", "127.0.0.1:1")


@pytest.fixture
def invoke() -> Command:
    """Run the command line in this process; see :func:`support.command.invoke`."""
    return support.command.invoke


@pytest.fixture
def run() -> Command:
    """Run the command as a process, for tests of signals, pipes, memory and exit codes."""

    def run(
        *arguments: str | Path, env: dict[str, str] | None = None, **settings: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bert_tokemb", *map(str, arguments)],
            **{  # type: ignore[call-overload]
                "capture_output": True,
                "text": True,
                "encoding": "utf-8",
                "timeout": 120,
                "env": {**os.environ, **(env or {})},
                **settings,
            },
        )

    return run
