"""Fixtures: models that TensorFlow 1.15 wrote, genuine servers, the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.genuine import GenuineServer, make_model
from support.models import TINY, toy_vocabulary

collect_ignore = ["genuine"]  # scripts for the genuine server's Python

NONE = ("-pooling_strategy", "NONE", "-show_tokens_to_client")

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def uncased_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("uncased"), TINY, toy_vocabulary(cased=False))


@pytest.fixture(scope="session")
def cased_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("cased"), TINY, toy_vocabulary(cased=True))


@pytest.fixture(scope="session")
def server_none(uncased_model: Path) -> Iterator[GenuineServer]:
    """A genuine server without a `max_seq_len`; its model takes 64 pieces."""
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


@pytest.fixture
def clean_environment() -> dict[str, str]:
    """Return the environment without the variables that are options of ours."""
    return {k: v for k, v in os.environ.items() if not k.startswith("BERT_TOKEMB_")}


@pytest.fixture
def run(clean_environment: dict[str, str]) -> Command:
    """Run the command as a process, and return what it printed."""

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
                "env": {**clean_environment, **(env or {})},
                **settings,
            },
        )

    return run
