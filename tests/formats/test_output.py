"""Results of all formats are complete or absent, whatever happens while they are written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import OutputNameError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import format_of
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.types import EmbeddedSentence
from support.command import Command
from support.forked import ForkedCommand, limit_file_size, terminate_after
from support.standin import StandIn

FORMATS = ("pkl", "npyd", "h5", "parquet")
CONTENT = Content(2, np.dtype(np.float32))


def open_output(path: Path) -> Output:
    return Output(OutputTarget.resolve(str(path)), format_of(str(path)))


def sentences(number: int) -> list[EmbeddedSentence]:
    return [
        EmbeddedSentence(n, [f"w{n}"], np.full((1, 2), n, np.float32)) for n in range(1, number + 1)
    ]


def write(path: Path, number: int) -> None:
    with open_output(path) as output:
        output.start(CONTENT)
        for sentence in sentences(number):
            output.write(sentence)
        output.finish()
        output.commit()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("format", FORMATS)
def test_result_appears_when_it_is_complete(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{format}"
    write(path, 1)
    path.chmod(0o700)
    with open_output(path) as output:
        output.start(CONTENT)
        for sentence in sentences(5):
            output.write(sentence)
        assert inspect(str(path)).words == 1
        assert names(tmp_path) == {path.name, f".{path.name}.partial"}
        output.finish()
        output.commit()
        assert inspect(str(path)).words == 5
    assert names(tmp_path) == {path.name}
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    files = path.iterdir() if path.is_dir() else [path]
    assert output.size == sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("number", [None, 0, 1, 3000])
@pytest.mark.parametrize("format", FORMATS)
def test_existing_result_stays_if_writing_is_interrupted(
    format: str, number: int | None, tmp_path: Path
) -> None:
    """Writing is interrupted before the content is known, and after some sentences."""
    path = tmp_path / f"out.{format}"
    write(path, 1)
    with pytest.raises(KeyboardInterrupt), open_output(path) as output:  # noqa: PT012
        if number is not None:
            output.start(CONTENT)
            for sentence in sentences(number):
                output.write(sentence)
        raise KeyboardInterrupt
    assert inspect(str(path)).words == 1
    assert names(tmp_path) == {path.name}


@pytest.mark.parametrize("format", ["npyd", "h5", "parquet"])
def test_only_a_pickle_is_written_to_a_stream(format: str) -> None:
    with pytest.raises(OutputNameError, match=f"cannot write {format} to standard output: only"):
        Output(OutputTarget.resolve("-"), format_of("-", format))


# Sentences of one word, all different: HDF5 writes much besides the vectors.
TEXT = "".join(f"w{n}\n" for n in range(3000))


def embed(format: str, server: StandIn, directory: Path, **settings: object) -> ForkedCommand:
    (directory / "text").write_text(TEXT)
    options = ("--server", server.address, "--no-disk-check", "--quiet")
    return ForkedCommand(["embed", "text", "-o", f"out.{format}", *options], directory, **settings)


# The vectors take 96 kB, or less if they are compressed. Standard error is a file, too.
@pytest.mark.parametrize(
    ("format", "limit"),
    [
        (format, limit)
        for format, limits in {
            "pkl": (200, 50_000),
            "npyd": (200, 50_000),
            "h5": (200, 50_000, 500_000),
            "parquet": (200, 5000),
        }.items()
        for limit in limits
    ],
)
def test_full_disk_is_reported_in_one_sentence(
    format: str, limit: int, server: StandIn, tmp_path: Path
) -> None:
    """No file is left, and no library prints a message of its own when the process ends."""
    code, errors = embed(format, server, tmp_path, before=limit_file_size(limit)).wait()
    assert code == 1
    assert errors == f"bert-tokemb: error: cannot write out.{format}: File too large\n"
    assert names(tmp_path) <= {"text", "stdout", "stderr"}


def terminate(format: str, server: StandIn, directory: Path, seconds: float) -> bool:
    """Send a signal after some time; return whether the run was interrupted."""
    process = embed(format, server, directory, before=terminate_after(seconds))
    code, errors = process.wait()
    if code == -signal.SIGTERM:  # before the command installed its handlers
        return False
    if code == 0:
        assert errors == ""
        assert inspect(str(directory / f"out.{format}")).words == 3000
        return False
    assert code == 128 + signal.SIGTERM, errors
    assert "stopped by SIGTERM" in errors.splitlines()[-1]
    assert len(errors.splitlines()) <= 2
    assert f".out.{format}.partial" not in names(directory)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("format", ["h5", "parquet"])
def test_signal_is_not_lost_in_a_library(format: str, server: StandIn, tmp_path: Path) -> None:
    """Whenever a signal arrives during a run, it stops the run without an error message."""
    outcomes = [terminate(format, server, tmp_path, 0.05 * n) for n in range(15)]
    assert sum(outcomes) > 3


@pytest.mark.parametrize("format", FORMATS)
def test_stream_is_written_directly(format: str, server: StandIn, invoke: Command) -> None:
    done = invoke("embed", "-", "-o", "/dev/null", "--format", format, stdin="a b\n",
                  env={"BERT_TOKEMB_SERVER": str(server.address)})  # fmt: skip
    assert done.returncode == (0 if format == "pkl" else 2)
    assert "1 sentence, 2 words -> /dev/null" in done.stderr or format != "pkl"


def test_signal_ends_the_wait_for_a_reader_of_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.pkl")
    program = """
import os, signal, sys, threading
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import format_of
from bert_tokemb.signals import Interrupted, raise_on_signals
from bert_tokemb.storage.target import OutputTarget

raise_on_signals()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
try:
    Output(OutputTarget.resolve(sys.argv[1]), format_of(sys.argv[1]))
except Interrupted:
    print("interrupted")
"""
    arguments = [sys.executable, "-c", program, str(tmp_path / "out.pkl")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=15)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
