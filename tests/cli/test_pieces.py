"""`bert-tokemb pieces`."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from support.cases import CASES
from support.checkpoints import write_google
from support.command import Command
from support.genuine import GenuineServer
from support.standin import StandIn

COMMAND = [sys.executable, "-m", "bert_tokemb", "pieces"]
CURRENT_CASES = [case for case in CASES if not case.cased and not case.newer]


@pytest.fixture
def odd_text(tmp_path: Path) -> Path:
    """All odd cases that are known, a blank line, and a line that is too long for the model."""
    lines = [" ".join(case.words) for case in CURRENT_CASES]
    path = tmp_path / "odd"
    path.write_text("\n".join([*lines, "", "hankcs " * 100 + "!" * 90]) + "\n", encoding="utf-8")
    return path


def test_pieces_prints_those_of_the_local_encoder(
    odd_text: Path, shared_tiny: Path, invoke: Command
) -> None:
    done = invoke("pieces", odd_text, "--model", shared_tiny)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, blank, long = done.stdout.splitlines()
    compared = 0
    for line, case in zip(lines, CURRENT_CASES, strict=True):
        if all(map(str.isprintable, case.words)):
            compared += 1
            shown = [
                " ".join(pieces).replace("|", r"\|")
                + (f"={word}" if not pieces or "[UNK]" in pieces else "")
                for word, pieces in zip(case.words, case.pieces, strict=True)
            ]
            assert line == " | ".join(shown)
    assert compared > len(CURRENT_CASES) / 2
    assert blank == ""
    assert long == "hank ##cs | " * 100 + " ".join("!" * 90)


def test_pieces_prints_those_of_the_server(server: StandIn, invoke: Command) -> None:
    done = invoke("pieces", "-", "--server", server.address, stdin="hello |\n")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "hell ##o | \\|\n")


@pytest.mark.slow
def test_pieces_of_genuine_server_equal_local_ones(
    odd_text: Path, uncased_model: Path, server_none: GenuineServer, invoke: Command
) -> None:
    local = invoke("pieces", odd_text, "--model", uncased_model, "--uncased")
    served = invoke("pieces", odd_text, "--server", server_none.address)
    assert (served.returncode, served.stderr) == (0, "")
    assert served.stdout == local.stdout


COLORED = (
    "hello | \x1b[31m[UNK] [ 2 ##j=\u2603\\x1b[2J\x1b[0m | \x1b[33m=\\u200b\x1b[0m | hank ##cs\r\n"
)
PLAIN = "hello | [UNK] [ 2 ##j=\u2603\\x1b[2J | =\\u200b | hank ##cs\r\n"


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        pytest.param({}, COLORED, id="color"),
        pytest.param({"NO_COLOR": "1"}, PLAIN, id="NO_COLOR"),
        pytest.param({"TERM": "dumb"}, PLAIN, id="dumb", marks=pytest.mark.slow),
    ],
)
def test_pieces_are_colored_and_escaped_on_a_terminal(
    variables: dict[str, str], shown: str, shared_tiny: Path, tmp_path: Path
) -> None:
    """Unknown words are red, and control characters of the text are escaped."""
    text = tmp_path / "text"
    text.write_text("hello \u2603\x1b[2J \u200b hankcs\n", encoding="utf-8")
    ours, theirs = pty.openpty()
    subprocess.run(
        [*COMMAND, text, "--model", shared_tiny],
        stdout=theirs,
        env={**os.environ, **variables},
        check=True,
    )
    os.close(theirs)
    assert os.read(ours, 4096).decode() == shown
    os.close(ours)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("latin-1", "\\u6771 | [UNK]=\xe4\n"), ("utf-8:strict", "\u6771 | [UNK]=\xe4\n")],
)
def test_characters_outside_the_encoding_of_stdout_are_escaped(
    encoding: str, shown: str, shared_tiny: Path, tmp_path: Path, run: Command
) -> None:
    (tmp_path / "text").write_text("\u6771 \xe4\n", encoding="utf-8")
    done = run(
        *("pieces", tmp_path / "text", "--model", shared_tiny, "--cased"),
        env={"PYTHONIOENCODING": encoding},
        encoding=encoding.partition(":")[0],
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", shown)


def test_model_that_may_be_cased_is_reported_with_advice(tmp_path: Path, invoke: Command) -> None:
    model = write_google(tmp_path / "model")
    done = invoke("pieces", "-", "--model", model, stdin="a\n")
    assert (done.returncode, done.stdout) == (0, "a\n")
    assert done.stderr.count("\n") == 1
    assert "does not say whether the model is cased" in done.stderr
    assert done.stderr.endswith("; give --cased if it is cased\n")
    assert invoke("pieces", "-", "--model", model, "--uncased", stdin="a\n").stderr == ""


def test_cased_is_refused_with_server(server: StandIn, invoke: Command) -> None:
    done = invoke("pieces", "-", "--server", server.address, "--cased")
    assert done.returncode == 2
    assert "--cased cannot be used with --server" in done.stderr


def test_command_line_wins_over_environment(shared_tiny: Path, invoke: Command) -> None:
    for_server = {"BERT_TOKEMB_SERVER": "127.0.0.1:1"}
    for_model = {"BERT_TOKEMB_MODEL": str(shared_tiny)}
    done = invoke("pieces", "-", "--model", shared_tiny, stdin="a\n", env=for_server)
    assert (done.returncode, done.stdout) == (0, "a\n")
    done = invoke("pieces", "-", "--server", "127.0.0.1:1", stdin="a\n", env=for_model)
    assert done.returncode == 3
    done = invoke("pieces", "-", stdin="a\n", env={**for_model, **for_server})
    assert "--server and --model exclude each other" in done.stderr


@pytest.mark.parametrize("command", ["pieces", "info"])
def test_closed_pipe_ends_command_with_sigpipe(
    command: str, shared_tiny: Path, tmp_path: Path, invoke: Command
) -> None:
    text, output = tmp_path / "text", tmp_path / "out.pkl"
    # Enough for pieces to fill the pipe; info prints only at the end.
    text.write_text("a b\n" * (100_000 if command == "pieces" else 10))
    options = [text, "--model", shared_tiny]
    if command == "info":
        assert invoke("embed", *options, "-o", output).returncode == 0
        options = [output]
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*COMMAND[:-1], command, *options], stdout=writing, stderr=subprocess.PIPE
    )
    os.close(writing)
    if command == "pieces":
        assert os.read(reading, 6) == b"a | b\n"
    os.close(reading)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == -13  # SIGPIPE, as of any other program


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", "cannot write standard output: it is closed"),
        (">/dev/full", "cannot write standard output: No space left on device"),
    ],
)
def test_unwritable_stdout_is_reported(
    redirection: str, message: str, shared_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a b\n")
    script = f'exec "$@" {redirection}'
    command = ["sh", "-c", script, "sh", *COMMAND, tmp_path / "text", "--model", shared_tiny]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, f"bert-tokemb: error: {message}\n")
