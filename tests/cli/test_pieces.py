"""`bert-tokemb pieces`: how words fall into pieces, for a person to look at."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from support.cases import CASES
from support.command import Command
from support.genuine import GenuineServer

COMMAND = [sys.executable, "-m", "bert_tokemb", "pieces"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """All that is known to be odd, and a line that is too long for the model."""
    cases = [case for case in CASES if not case.cased and not case.newer]
    lines = [" ".join(case.words) for case in cases]
    path = tmp_path / "text"
    path.write_text("\n".join([*lines, "", "hankcs " * 100 + "!" * 90]) + "\n", encoding="utf-8")
    return path


def test_the_engine(text: Path, shared_tiny: Path, run: Command) -> None:
    done = run("pieces", text, "--model", shared_tiny)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, blank, long = done.stdout.splitlines()
    cases = [case for case in CASES if not case.cased and not case.newer]
    compared = 0
    for line, case in zip(lines, cases, strict=True):
        if all(map(str.isprintable, case.words)):
            compared += 1
            shown = [
                " ".join(pieces).replace("|", r"\|")
                + (f"={word}" if not pieces or "[UNK]" in pieces else "")
                for word, pieces in zip(case.words, case.pieces, strict=True)
            ]
            assert line == " | ".join(shown)
    assert compared > len(cases) / 2
    assert blank == ""
    assert long == "hank ##cs | " * 100 + " ".join("!" * 90)


def test_a_server(
    text: Path, uncased_model: Path, server_none: GenuineServer, run: Command
) -> None:
    """Its Python is an older one, and has no name for newer characters: there are none here."""
    local = run("pieces", text, "--model", uncased_model, "--uncased")
    served = run("pieces", text, "--server", server_none.address)
    assert (served.returncode, served.stderr) == (0, "")
    assert served.stdout == local.stdout


def test_on_a_terminal(shared_tiny: Path, tmp_path: Path) -> None:
    """In colour, and with nothing that the text itself tells the terminal."""
    text = tmp_path / "text"
    text.write_text("hello \u2603\x1b[2J \u200b hankcs\n", encoding="utf-8")
    master, slave = pty.openpty()
    subprocess.run([*COMMAND, text, "--model", shared_tiny], stdout=slave, check=True)
    os.close(slave)
    shown = os.read(master, 4096).decode()
    os.close(master)
    assert shown == (
        "hello | \x1b[31m[UNK] [ 2 ##j=\u2603\\x1b[2J\x1b[0m | \x1b[33m=\\u200b\x1b[0m | "
        "hank ##cs\r\n"
    )


@pytest.mark.parametrize("variable", ["NO_COLOR=1", "TERM=dumb"])
def test_without_colours(variable: str, shared_tiny: Path, tmp_path: Path) -> None:
    """For those who cannot see them, or do not want to."""
    text = tmp_path / "text"
    text.write_text("hello \u2603\n", encoding="utf-8")
    master, slave = pty.openpty()
    command = ["env", variable, *COMMAND, text, "--model", shared_tiny]
    subprocess.run(command, stdout=slave, check=True)
    os.close(slave)
    assert os.read(master, 4096).decode() == "hello | [UNK]=\u2603\r\n"
    os.close(master)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("latin-1", "\\u6771 | [UNK]=\xe4\n"), ("utf-8:strict", "\u6771 | [UNK]=\xe4\n")],
)
def test_what_standard_output_cannot_encode(
    encoding: str, shown: str, shared_tiny: Path, tmp_path: Path, run: Command
) -> None:
    (tmp_path / "text").write_text("\u6771 \xe4\n", encoding="utf-8")
    env = {"PYTHONIOENCODING": encoding}
    code = encoding.partition(":")[0]
    done = run(
        "pieces", tmp_path / "text", "--model", shared_tiny, "--cased", env=env, encoding=code
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", shown)


def test_options_of_the_other_one(server_none: GenuineServer, run: Command) -> None:
    done = run("pieces", "-", "--server", server_none.address, "--cased", input="")
    assert done.returncode == 2
    assert "--cased cannot be given here" in done.stderr


def test_the_command_line_wins(shared_tiny: Path, run: Command) -> None:
    """Over a variable for the other one."""
    variables = {"BERT_TOKEMB_SERVER": "127.0.0.1:1"}
    done = run("pieces", "-", "--model", shared_tiny, input="a\n", env=variables)
    assert (done.returncode, done.stdout) == (0, "a\n")
    variables = {"BERT_TOKEMB_MODEL": str(shared_tiny)}
    done = run("pieces", "-", "--server", "127.0.0.1:1", input="a\n", env=variables)
    assert done.returncode == 3
    done = run("pieces", "-", input="a\n", env={**variables, "BERT_TOKEMB_SERVER": "127.0.0.1:1"})
    assert "--server and --model exclude each other" in done.stderr


@pytest.mark.parametrize("command", ["pieces", "info"])
def test_nobody_reads_more(command: str, shared_tiny: Path, tmp_path: Path, run: Command) -> None:
    text, output = tmp_path / "text", tmp_path / "out.pkl"
    text.write_text("a b\n" * 100_000)
    options = [text, "--model", shared_tiny]
    if command == "info":
        assert run("embed", *options, "-o", output).returncode == 0
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


def test_a_full_disk(shared_tiny: Path, tmp_path: Path, run: Command) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    text = tmp_path / "text"
    text.write_text("a b\n")
    with Path("/dev/full").open("w") as full:
        streams = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run("pieces", text, "--model", shared_tiny, **streams)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: cannot write standard output: No space left on device\n"
    )
