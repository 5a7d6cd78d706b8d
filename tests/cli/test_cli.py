"""The command, run as a process: what a shell script sees."""

from __future__ import annotations

import fcntl
import gzip
import os
import pickle
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from support.command import Command, load
from support.genuine import free_address
from support.standin import StandIn, pieces_of


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("Hello World !\n\nhank \u200b\n")
    return path


def test_embed(server: StandIn, run: Command, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.pkl"
    done = run("embed", text, "-o", output, "--server", server.address, "--strategy", "last")
    assert done.returncode == 0
    assert done.stdout == ""
    assert re.fullmatch(
        rf"3 sentences, 5 words -> {re.escape(str(output))} \(\d+ B\) in \d+\.\d s, "
        r"[\d,]+ words/s; 1 blank line, 1 word without pieces\n",
        done.stderr,
    )
    assert f"({output.stat().st_size} B)" in done.stderr
    arrays = load(output)
    assert [a.shape for a in arrays] == [(3, 8), (0, 8), (2, 8)]
    # Hello is hell + ##o, the second and third of seven with [CLS] and [SEP].
    assert arrays[0][0].tolist() == [2, 7, 3, ord("o"), 0, 0, 0, 0]
    assert len(pieces_of("Hello World !")) == 5


def test_standard_input_and_blank_lines(server: StandIn, run: Command, tmp_path: Path) -> None:
    output = tmp_path / "out.pkl"
    done = run(
        *("embed", "-", "-o", output, "--server", server.address, "--blank-lines", "skip"),
        input="a b\r\n\r\nc",
    )
    assert done.returncode == 0, done.stderr
    assert [len(a) for a in load(output)] == [2, 1]
    assert "2 sentences, 3 words" in done.stderr
    assert "1 blank line" in done.stderr


def test_quiet(server: StandIn, run: Command, text: Path, tmp_path: Path) -> None:
    done = run("embed", text, "-o", tmp_path / "out", "--server", server.address, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_empty_input(server: StandIn, run: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    done = run("embed", tmp_path / "empty", "-o", tmp_path / "out", "--server", server.address)
    assert done.returncode == 0
    assert "is empty: wrote an empty result" in done.stderr
    assert load(tmp_path / "out") == []


def test_strict(server: StandIn, run: Command, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run("embed", text, "-o", output, "--server", server.address, "--strict")
    assert done.returncode == 1
    assert r"line 3: the word '\u200b' has no pieces" in done.stderr
    assert not output.exists()


# --- Standard output ---------------------------------------------------------------------------


def embed_to_stdout(
    server: StandIn, text: Path, *options: str, name: str = "-", **settings: object
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", name, "--server"]
    return subprocess.run(  # type: ignore[call-overload]
        [*command, str(server.address), *options],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **settings},
    )


def test_standard_output(server: StandIn, run: Command, text: Path, tmp_path: Path) -> None:
    """It holds the pickle and nothing else, whatever a strategy prints."""
    (tmp_path / "loud.py").write_text("def loud(pieces):\n    print('!')\n    return pieces[0]\n")
    run("embed", text, "-o", tmp_path / "out", "--server", server.address, "--strategy", "first")
    done = embed_to_stdout(server, text, "--strategy", "loud:loud", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "out").read_bytes()
    assert done.stderr.count(b"!\n") == 4
    assert b"3 sentences, 5 words -> standard output (" in done.stderr


def test_a_report_does_not_follow_the_pickle(server: StandIn, text: Path, tmp_path: Path) -> None:
    for name in ("/dev/stdout", "/dev/fd/1", "-"):
        done = embed_to_stdout(server, text, "--report", name)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.count(b"\n") == 1
        assert b"standard output" in done.stderr


def test_names_in_the_closing_line_do_nothing_to_a_terminal(
    server: StandIn, run: Command, text: Path, tmp_path: Path
) -> None:
    name = "esc\x1b[31m\nline.pkl"
    done = run("embed", text, "-o", tmp_path / name, "--server", server.address)
    assert done.returncode == 0
    assert r"esc\x1b[31m\nline.pkl (" in done.stderr
    assert done.stderr.count("\n") == 1


def test_standard_output_into_a_file(server: StandIn, text: Path, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        assert embed_to_stdout(server, text, stdout=file).returncode == 0
    assert [a.shape for a in load(tmp_path / "out")] == [(3, 8), (0, 8), (2, 8)]
    before = text.read_bytes()
    with text.open("ab") as file:
        done = embed_to_stdout(server, text, stdout=file)
    assert done.returncode == 2
    assert b"INPUT and --output are the same file" in done.stderr
    assert text.read_bytes() == before


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_standard_output_by_another_name(name: str, server: StandIn, tmp_path: Path) -> None:
    """Into a file too, it is written to as `-` is: not replaced, and by nothing else."""
    (tmp_path / "text").write_text("a b\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    (tmp_path / "loud.py").write_text("def loud(pieces):\n    print('!')\n    return pieces[0]\n")
    script = (
        "(printf 'before\\n'; \"$0\" -m bert_tokemb embed text -o $2 --server $1 --quiet "
        "--strategy loud:loud; printf 'behind\\n') > out"
    )
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, str(server.address), name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "!\n!\n")
    written = (tmp_path / "out").read_bytes()
    assert written.startswith(b"before\n")
    assert written.endswith(b"behind\n")
    (array,) = pickle.loads(written[len(b"before\n") :])
    assert array.shape == (2, 8)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_file_that_is_open_already(server: StandIn, tmp_path: Path) -> None:
    """By its descriptor it is written to; nothing is to be continued, and nothing beside it."""
    (tmp_path / "text").write_text("a b\n")
    script = (
        "exec 3>> out; printf before >&3\n"
        '"$0" -m bert_tokemb embed text -o /dev/fd/3 --server $1 --quiet\n'
        '"$0" -m bert_tokemb embed text -o /dev/fd/3 --server $1 --quiet --strategy last\n'
        '"$0" -m bert_tokemb embed text -o /dev/fd/3 --format h5 --server $1\n'
    )
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, str(server.address)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot write /dev/fd/3: it is open already" in done.stderr
    assert done.stderr.count("\n") == 1
    with (tmp_path / "out").open("rb") as file:
        assert file.read(6) == b"before"
        assert [len(pickle.load(file)) for _ in range(2)] == [1, 1]
        assert not file.read()
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", None])
def test_output_that_is_a_terminal(name: str | None, server: StandIn, text: Path) -> None:
    """By whatever name, nothing is written to it."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    name = name or os.ttyname(theirs)
    done = embed_to_stdout(server, text, stdout=theirs, name=name)
    assert done.returncode == 2
    refused = f"--output {name} is a terminal: give a file, or send it into a pipe"
    assert done.stderr.decode() == f"bert-tokemb: error: {refused}\n"
    assert select.select([ours], [], [], 0)[0] == []
    os.close(theirs)
    os.close(ours)


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", "cannot write standard output: it is closed"),
        (">/dev/full", "cannot write standard output: No space left on device"),
        ("| true; exit ${PIPESTATUS[0]}", "cannot write standard output: Broken pipe"),
    ],
)
def test_standard_output_that_cannot_be_written(
    redirection: str, message: str, server: StandIn, tmp_path: Path
) -> None:
    text = tmp_path / "text"
    text.write_text("hello world\n" * 20_000)
    script = f'"$0" -m bert_tokemb embed text -o - --server {server.address} {redirection}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"bert-tokemb: error: {message}\n"


# --- Options by the environment ---------------------------------------------------------------


def test_every_option_by_a_variable(
    server: StandIn, run: Command, text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    variables = {
        "BERT_TOKEMB_OUTPUT": str(output),
        "BERT_TOKEMB_SERVER": str(server.address),
        "BERT_TOKEMB_STRATEGY": "last",
        "BERT_TOKEMB_TIMEOUT": "5",
        "BERT_TOKEMB_RETRIES": "1",
        "BERT_TOKEMB_BLANK_LINES": "skip",
        "BERT_TOKEMB_QUIET": "1",
        "BERT_TOKEMB_STRICT": "0",
    }
    done = run("embed", text, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(a) for a in load(output)] == [3, 2]
    assert load(output)[0][0, 0] == 2  # the last piece
    done = run("embed", text, "--strategy", "first", env=variables)
    assert load(output)[0][0, 0] == 1
    strict = {**variables, "BERT_TOKEMB_STRICT": "true"}
    assert run("embed", text, env=strict).returncode == 1
    assert run("embed", text, "--no-strict", env=strict).returncode == 0


def test_the_variables_that_help_lists(run: Command) -> None:
    listed = run("embed", "--help", env={"COLUMNS": "200"}).stdout
    options = re.findall(r"^  (?:-\w, )?--([a-z0-9-]+)", listed, re.MULTILINE)
    names = {f"BERT_TOKEMB_{name.upper().replace('-', '_')}" for name in options}
    assert set(re.findall(r"BERT_TOKEMB_\w+", listed)) == names - {"BERT_TOKEMB_HELP"}


# --- Usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server", "host:port"], "'host:port' is not HOST[:PORT[:PORT_OUT]]"),
        (["--server", ":5"], "is not HOST"),
        (["--server", "h:1:2:3"], "is not HOST"),
        (["--server", "h:0"], "is not HOST"),
        (["--server", "h:65536"], "is not HOST"),
        (["--timeout", "0"], "0.0 is not in the range"),
        (["--timeout", "nan"], "nan is no number of seconds"),
        (["--timeout", "inf"], "inf is not in the range"),
        (["--retries", "-1"], "-1 is not in the range"),
        (["--blank-lines", "drop"], "'drop' is not one of"),
        (["--strategy", "mean"], "no strategy mean; there are avg, first, last, max"),
        (["--no-such-option"], "No such option"),
        (["--output", ""], "--output is empty: give the path of a file, or - for stdout"),
    ],
)
def test_options_that_cannot_be_meant(
    options: list[str], message: str, run: Command, text: Path, tmp_path: Path
) -> None:
    done = run("embed", text, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_output_must_not_be_the_input(run: Command, text: Path, tmp_path: Path) -> None:
    before = text.read_bytes()
    (tmp_path / "soft").symlink_to(text)
    (tmp_path / "hard").hardlink_to(text)
    for name in ("text", "soft", "hard"):
        done = run("embed", text, "-o", tmp_path / name)
        assert done.returncode == 2
        assert "are the same file" in done.stderr
        assert text.read_bytes() == before


@pytest.mark.parametrize(("source", "more", "message"), [
    (".out.partial", (), "INPUT .out.partial and --output out exclude each other: a run uses"),
    (".out.journal", (), "INPUT .out.journal and --output out exclude each other"),
    (".r.partial", ("--report", "r"), "INPUT .r.partial and --report r exclude each other"),
    ("text", ("--report", ".out.partial"), "--output out and --report .out.partial exclude"),
])  # fmt: skip
def test_hidden_files_are_not_given(
    source: str, more: tuple[str, ...], message: str, run: Command, tmp_path: Path
) -> None:
    (tmp_path / source).write_text("a b\n")
    done = run("embed", source, "-o", "out", *more, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {source: b"a b\n"}


def test_output_is_required(run: Command, text: Path) -> None:
    done = run("embed", text)
    assert done.returncode == 2
    assert "Missing option '-o' / '--output'" in done.stderr


def test_version_and_help(run: Command) -> None:
    assert run("--version").stdout == "bert-tokemb, version 0.1.0\n"
    for arguments in (["--help"], ["-h"], ["embed", "--help"]):
        done = run(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("Usage: bert-tokemb")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["serve", "--help"], ["serve", "-version"]]
)
def test_help_that_cannot_be_written(arguments: list[str], unbuffered: str, run: Command) -> None:
    with Path("/dev/full").open("w") as full:
        streams = {"capture_output": False, "stdout": full, "stderr": subprocess.PIPE}
        done = run(*arguments, env={"PYTHONUNBUFFERED": unbuffered}, **streams)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: cannot write standard output: No space left on device\n"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("embed in.txt --nope -o -", 2), ("embed", 2), ("--nope", 2), ("serve", 2), ("info .", 1)],
)
def test_errors_that_cannot_be_told(
    arguments: str, code: int, redirection: str, unbuffered: str, tmp_path: Path
) -> None:
    """Standard output is for data."""
    script = f'"$0" -m bert_tokemb {arguments} {redirection}'
    done = subprocess.run(
        ["sh", "-c", script, sys.executable],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (code, b"")


def test_the_installed_command_is_the_module() -> None:
    command = Path(sys.executable).with_name("bert-tokemb")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "bert-tokemb, version 0.1.0\n"


# --- Errors of the world ----------------------------------------------------------------------


def test_input_errors(server: StandIn, run: Command, tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes(b"caf\xc3\xa9\ncaf\xe9\n")
    for name, message in (
        ("missing", "cannot read {}: No such file or directory"),
        (".", "cannot read {}: Is a directory"),
        ("latin1", "{} is not UTF-8: line 2, byte offset 9 "),
    ):
        path = tmp_path / name
        done = run("embed", path, "-o", tmp_path / "out", "--server", server.address)
        assert done.returncode == 1
        assert f"bert-tokemb: error: {message.format(path)}" in done.stderr
        assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"latin1"}


def test_output_errors(server: StandIn, run: Command, text: Path, tmp_path: Path) -> None:
    for name, message in (
        ("/dev/full", "No space left on device"),
        (str(tmp_path), "Is a directory"),
        ("/", "Is a directory"),
        (str(tmp_path / "no" / "folder"), "No such file or directory"),
        (str(tmp_path / ("x" * 300)), "File name too long"),
    ):
        done = run("embed", text, "-o", name, "--server", server.address)
        assert done.returncode == 1
        assert f"bert-tokemb: error: cannot write {name}: {message}" in done.stderr
        assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"text"}


def test_a_disk_that_fills_while_writing(server: StandIn, run: Command, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_text("".join(f"one two three {n}\n" for n in range(20_000)))
    (tmp_path / "out").write_bytes(b"older")
    done = run(
        *("embed", big, "-o", tmp_path / "out", "--server", server.address),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 1
    assert "cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "out").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"big", "out"}


def test_no_server(run: Command, text: Path, tmp_path: Path) -> None:
    address = free_address()
    begin = time.monotonic()
    done = run("embed", text, "-o", tmp_path / "out", "--server", address)
    assert time.monotonic() - begin < 10
    assert done.returncode == 3
    ports = f"ports {address.port} and {address.port_out}"
    assert f"no bert-serving-server at 127.0.0.1, {ports} (" in done.stderr
    assert "start one with: bert-serving-start" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_bug_keeps_its_traceback(server: StandIn, run: Command, text: Path) -> None:
    (text.parent / "mine.py").write_text("def broken(pieces):\n    return 1 / 0\n")
    output = text.parent / "out"
    done = run(
        *("embed", text, "-o", output, "--server", server.address),
        *("--strategy", "mine:broken"),
        cwd=text.parent,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert not output.exists()


def test_too_little_memory(server: StandIn, run: Command, text: Path) -> None:
    (text.parent / "mine.py").write_text("def large(pieces):\n    return bytes(1 << 60)\n")
    output = text.parent / "out"
    done = run(
        *("embed", text, "-o", output, "--server", server.address),
        *("--strategy", "mine:large"),
        cwd=text.parent,
    )
    assert done.returncode == 1
    assert done.stderr == "bert-tokemb: error: there is not enough memory\n"
    assert not output.exists()


# --- Signals ----------------------------------------------------------------------------------


@contextmanager
def start(*arguments: object, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """Start the command, and leave nothing of it behind."""
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
    """Tell whether the process has come as far as to have a handler; Python has none."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_waiting_for_the_server(
    signum: signal.Signals, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_bytes(b"older")
    with StandIn(fault=lambda *_: []) as silent:
        with start(text, "-o", tmp_path / "out", "--server", silent.address) as process:
            wait_until(lambda: silent.requests, process)
            process.send_signal(signum)
            _, told = process.communicate(timeout=10)
    assert process.returncode == 128 + signum
    assert told == f"bert-tokemb: stopped by {signum.name}, no file was written\n"
    assert (tmp_path / "out").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


ASKED_AGAIN = """
import os, signal, time
from bert_tokemb.signals import Interrupted, raise_on_signals

raise_on_signals()
try:
    os.kill(os.getpid(), signal.SIGINT)
except Interrupted:
    for _ in range(4 if {pause} == 0.1 else 1):
        time.sleep({pause})
        os.kill(os.getpid(), signal.{second})
    print("still tidying up", flush=True)
"""


@pytest.mark.parametrize(
    ("second", "pause", "code", "told"),
    [
        ("SIGTERM", 0, 143, ""),
        ("SIGINT", 0.5, 130, ""),
        ("SIGINT", 0, 0, "still tidying up\n"),  # as `timeout` does, and means one
        ("SIGINT", 0.1, 130, ""),  # a key that is held down
    ],
)
def test_a_second_signal_ends_it_whatever_it_does(
    second: str, pause: float, code: int, told: str
) -> None:
    program = ASKED_AGAIN.format(second=second, pause=pause)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, told, "")


def test_a_signal_at_any_moment(server: StandIn, text: Path, tmp_path: Path) -> None:
    """Also while modules are imported, as far as that is in our hands."""
    for moment in range(0, 400, 20):
        with start(text, "-o", tmp_path / "out", "--server", server.address) as process:
            wait_until(partial(handles_sigterm, process), process)
            time.sleep(moment / 1000)
            process.send_signal(signal.SIGTERM)
            _, told = process.communicate(timeout=20)
        assert "Traceback" not in told
        assert process.returncode in (0, 143), told
        assert (tmp_path / "out").exists() == (process.returncode == 0)
        (tmp_path / "out").unlink(missing_ok=True)
        left = {path.name for path in tmp_path.iterdir()} - {"text"}
        assert left == ({".out.journal", ".out.partial"} if "kept" in told else set())
        for name in left:
            (tmp_path / name).unlink()


def test_without_standard_error(
    server: StandIn, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed, or a pipe that nobody reads any more: the result is what was asked for."""
    command = f'exec "$@" -o {tmp_path}/out --server {server.address}'
    base = [sys.executable, "-m", "bert_tokemb", "embed", str(text)]
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    for redirected in ("2>&-", "2>/dev/full"):
        done = subprocess.run(["sh", "-c", f"{command} {redirected}", "sh", *base], check=False)
        assert done.returncode == 0
        assert len(load(tmp_path / "out")) == 3
        (tmp_path / "out").unlink()


def test_closed_standard_input(server: StandIn, run: Command, tmp_path: Path) -> None:
    done = run(
        *("embed", "-", "-o", tmp_path / "out", "--server", server.address),
        preexec_fn=lambda: os.close(0),
    )
    assert done.returncode == 1
    assert done.stderr == "bert-tokemb: error: cannot read standard input: it is closed\n"


def test_a_signal_while_waiting_for_input(server: StandIn, tmp_path: Path) -> None:
    before = len(server.requests)
    arguments = ("-", "-o", tmp_path / "out", "--server", server.address)
    with start(*arguments, stdin=subprocess.PIPE) as process:
        wait_until(lambda: len(server.requests) > before, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 143
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(server: StandIn, tmp_path: Path) -> None:
    """As under nohup, or behind a script's `&`."""
    before = len(server.requests)
    arguments = ("-", "-o", tmp_path / "out", "--server", server.address)

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with start(*arguments, stdin=subprocess.PIPE, preexec_fn=ignore) as process:
        wait_until(lambda: len(server.requests) > before, process)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate("hello\n", timeout=20)
    assert process.returncode == 0, told
    assert len(load(tmp_path / "out")) == 1


SIGNALLING = """
import os, signal
class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the signal's handler comes in between
            pass
left = [Last()]
def strategy(pieces):
    left.clear()
    return pieces[0]
"""


def test_a_signal_while_an_object_is_finalized(
    server: StandIn, run: Command, text: Path, tmp_path: Path
) -> None:
    """Python forgets what is raised there."""
    (tmp_path / "signalling.py").write_text(SIGNALLING)
    options = ("--strategy", "signalling:strategy", "--server", server.address)
    done = run("embed", text, "-o", "out", *options, cwd=tmp_path)
    assert done.stderr == "bert-tokemb: stopped by SIGTERM, no file was written\n"
    assert done.returncode == 143
    assert not (tmp_path / "out").exists()


# --- Progress ---------------------------------------------------------------------------------


def on_a_terminal(*arguments: object) -> tuple[int, str]:
    """Run the command with a terminal as its standard error, and return what it drew."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    command = [sys.executable, "-m", "bert_tokemb", "embed", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.DEVNULL)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    return process.wait(timeout=30), drawn.decode()


@pytest.mark.parametrize("distinct", [2000, 10])
def test_progress_is_drawn_on_a_terminal_only(distinct: int, tmp_path: Path) -> None:
    """Sentences that are known already are done, too."""
    text = tmp_path / "text"
    text.write_text("".join(f"word {n % distinct}\n" for n in range(2000)))

    def slowly(server: StandIn, frames: list[bytes], texts: list[str]) -> None:
        time.sleep(0.05)

    with StandIn(fault=slowly) as server:
        arguments = (text, "-o", tmp_path / "out", "--server", server.address)
        code, drawn = on_a_terminal(*arguments)
        assert code == 0
        assert "100%" in drawn
        assert re.search(r"\d+:\d\d left", drawn)
        assert "2,000 sentences, 4,000 words -> " in drawn
        assert re.search(r"100%.* left, 2,000 sentences, [\d,]+ words/s", drawn)
        code, drawn = on_a_terminal(*arguments, "--quiet")
        assert (code, drawn) == (0, "")
        # Of a stream nobody knows how much is still to come.
        compressed = text.with_suffix(".gz")
        compressed.write_bytes(gzip.compress(text.read_bytes()))
        code, drawn = on_a_terminal(compressed, *arguments[1:])
        assert code == 0
        assert re.search(r"4.00k words \[\d\d:\d\d, 2,000 sentences, [\d,]+ words/s\]", drawn)
        assert "%" not in drawn
        assert drawn.count("words/s") == drawn.count(" sentences, ")


def test_names_in_errors_do_nothing_to_a_terminal(run: Command) -> None:
    done = run("embed", "a\x1b[2Jb\nc", "-o", "out", "--model", "m")
    assert (
        done.stderr == r"bert-tokemb: error: cannot read a\x1b[2Jb c: No such file or directory"
        "\n"
    )
