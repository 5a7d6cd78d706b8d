"""Errors: their form, their exit codes, and the files that must differ."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from bert_tokemb.cli.advice import add_advice, exit_code, with_advice
from bert_tokemb.errors import (
    DiskSpaceError,
    InputError,
    LongSentenceError,
    MissingPackageError,
    ModelError,
    OutputNameError,
    ServerError,
    TokembError,
    UsageError,
)
from support.command import Command
from support.genuine import free_address
from support.standin import StandIn

# --- Usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message", "command"),
    [
        (["--nope"], "no such option", "bert-tokemb"),
        (["nope"], "no such command 'nope'", "bert-tokemb"),
        (["embed", "text", "-o"], "option '-o' requires an argument", "bert-tokemb embed"),
        (["embed"], "missing argument 'INPUT'", "bert-tokemb embed"),
        (["embed", "text"], "missing option '-o' / '--output'", "bert-tokemb embed"),
        (["info", "a", "b"], "got unexpected extra argument (b)", "bert-tokemb info"),
        (["serve", "--port", "x"], "invalid value for '--port'", "bert-tokemb serve"),
    ],
)
def test_usage_error_points_to_help(
    arguments: list[str], message: str, command: str, invoke: Command
) -> None:
    done = invoke(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bert-tokemb: error: {message}")
    assert done.stderr.endswith(f"; see {command} --help\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embd"], "no such command 'embd'; did you mean embed?"),
        (["embed", "--modle", "x"], "no such option '--modle'; did you mean --model?"),
    ],
)
def test_misspelling_is_corrected(arguments: list[str], message: str, invoke: Command) -> None:
    done = invoke(*arguments)
    assert (done.returncode, done.stderr) == (2, f"bert-tokemb: error: {message}\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--server", "host:port"], "'host:port' is not HOST[:PORT[:PORT_OUT]]"),
        (["--server", ":5"], "is not HOST"),
        (["--server", "h:1:2:3"], "is not HOST"),
        (["--server", "h:0"], "is not HOST"),
        (["--server", "h:65536"], "is not HOST"),
        (["--model", ""], "give a directory or a hub ID, not an empty name"),
        (["--layers", "one"], "'one' is not N[,N...]|all"),
        (["--layers", "-1,"], "'-1,' is not N[,N...]|all"),
        (["--max-seq-len", "2"], "2 is not in the range"),
        (["--threads", "0"], "0 is not in the range"),
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--timeout", "0"], "0.0 is not in the range"),
        (["--timeout", "nan"], "nan is not a number of seconds"),
        (["--timeout", "inf"], "inf is not in the range"),
        (["--retries", "-1"], "-1 is not in the range"),
        (["--blank-lines", "drop"], "'drop' is not one of"),
        (["--strategy", "mean"], "there is no strategy mean; choose one of avg, first, last, max"),
        (["--output", ""], "the name of the output is empty; give a path as --output, or - for"),
        (["--report", ""], "the name of the report is empty: give a path as --report"),
        (["--layer-pooling", "stack"], "--layer-pooling stack needs an --output that ends in"),
        (["--output", "out.pkl.gz"], "results are not compressed"),
    ],
)
def test_invalid_option_value_is_refused(
    options: list[str], message: str, invoke: Command, text: Path, tmp_path: Path
) -> None:
    done = invoke("embed", text, "-o", tmp_path / "out", *options)
    assert done.returncode == 2
    assert done.stderr.startswith("bert-tokemb: error: ")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == [text]


def test_output_must_not_be_input(invoke: Command, text: Path, tmp_path: Path) -> None:
    before = text.read_bytes()
    (tmp_path / "soft").symlink_to(text)
    (tmp_path / "hard").hardlink_to(text)
    for name in ("text", "soft", "hard"):
        done = invoke("embed", text, "-o", tmp_path / name)
        assert done.returncode == 2
        assert "INPUT and --output are the same file" in done.stderr
        assert text.read_bytes() == before


def test_report_must_not_be_input_or_output(invoke: Command, text: Path, tmp_path: Path) -> None:
    for name, message in (
        (text, "INPUT and --report are the same file"),
        (tmp_path / "out", "--output and --report are the same file"),
    ):
        done = invoke("embed", text, "-o", tmp_path / "out", "--report", name)
        assert done.returncode == 2
        assert message in done.stderr
    assert list(tmp_path.iterdir()) == [text]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "-"])
def test_report_must_not_be_standard_output(
    name: str, server: StandIn, text: Path, invoke: Command
) -> None:
    done = invoke("embed", text, "-o", "-", "--server", server.address, "--report", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "standard output" in done.stderr or "the same file" in done.stderr


def test_input_with_the_name_of_a_workspace_stays(
    server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / ".out.partial").write_text("a b\n")
    done = invoke("embed", ".out.partial", "-o", "out", "--server", server.address, cwd=tmp_path)
    assert done.returncode == 1
    assert ".out.partial is not a partial output; remove it" in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        ".out.partial": b"a b\n"
    }


# --- Faults -----------------------------------------------------------------------------------


def test_unreadable_input_is_reported(server: StandIn, invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "latin1").write_bytes(b"caf\xc3\xa9\ncaf\xe9\n")
    for name, message in (
        ("missing", "cannot read {}: No such file or directory"),
        (".", "cannot read {}: Is a directory"),
        ("latin1", "{} is not UTF-8: line 2, byte offset 9 "),
    ):
        path = tmp_path / name
        done = invoke("embed", path, "-o", tmp_path / "out", "--server", server.address)
        assert done.returncode == 1
        assert f"bert-tokemb: error: {message.format(path)}" in done.stderr
        assert done.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"latin1"}


def test_unwritable_output_is_reported(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    for name, message in (
        ("/dev/full", "No space left on device"),
        (str(tmp_path), "Is a directory"),
        (str(tmp_path / "no" / "folder"), "No such file or directory"),
        (str(tmp_path / ("x" * 300)), "File name too long"),
    ):
        done = invoke("embed", text, "-o", name, "--server", server.address)
        assert done.returncode == 1
        assert f"bert-tokemb: error: cannot write {name}: {message}" in done.stderr
        assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [text]


def test_disk_that_fills_up_keeps_older_output(
    server: StandIn, run: Command, tmp_path: Path
) -> None:
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


def test_unreachable_server_is_reported(invoke: Command, text: Path, tmp_path: Path) -> None:
    address = free_address()
    done = invoke("embed", text, "-o", tmp_path / "out", "--server", str(address))
    assert done.returncode == 3
    ports = f"ports {address.port} and {address.port_out}"
    assert f"no bert-serving-server at 127.0.0.1, {ports} (" in done.stderr
    assert "start one with: bert-serving-start" in done.stderr
    assert list(tmp_path.iterdir()) == [text]


def test_missing_model_is_reported(invoke: Command, text: Path, tmp_path: Path) -> None:
    done = invoke("embed", text, "-o", tmp_path / "out", "--model", "./nowhere")
    assert done.returncode == 4
    assert "./nowhere is no" in done.stderr
    assert list(tmp_path.iterdir()) == [text]


def test_bug_keeps_its_traceback(server: StandIn, run: Command, text: Path) -> None:
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


def test_memory_shortage_is_reported(server: StandIn, run: Command, text: Path) -> None:
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


def test_error_escapes_control_characters(invoke: Command) -> None:
    done = invoke("embed", "a\x1b[2Jb\nc", "-o", "out", "--model", "m")
    assert (
        done.stderr == r"bert-tokemb: error: cannot read a\x1b[2Jb c: No such file or directory"
        "\n"
    )


def errors_without_stderr(
    arguments: str, redirection: str, unbuffered: str, directory: Path
) -> tuple[int, bytes]:
    """Return the exit code and standard output of a command that cannot print its error."""
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m bert_tokemb {arguments} {redirection}', sys.executable],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        cwd=directory,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("arguments", "code"), [("embed in.txt --nope -o -", 2), ("info .", 1)])
def test_error_keeps_exit_code_without_stderr(
    arguments: str, code: int, redirection: str, tmp_path: Path
) -> None:
    assert errors_without_stderr(arguments, redirection, "", tmp_path) == (code, b"")


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [("embed in.txt --nope -o -", 2), ("embed", 2), ("--nope", 2), ("serve", 2), ("info .", 1)],
)
def test_every_error_keeps_exit_code_without_stderr(
    arguments: str, code: int, redirection: str, unbuffered: str, tmp_path: Path
) -> None:
    assert errors_without_stderr(arguments, redirection, unbuffered, tmp_path) == (code, b"")


# --- Advice -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 1),
        (UsageError("x"), 2),
        (ServerError("x"), 3),
        (ModelError("x"), 4),
        (MissingPackageError("x", "local", ["onnx"]), 4),
        (MissingPackageError("x", "hdf5", ["h5py"]), 1),
        (MemoryError(), 1),
    ],
)
def test_exit_code_depends_on_kind_of_error(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (InputError("x"), ""),
        (
            LongSentenceError(1, 9, 8, "max_seq_len", 9, 64),
            "; split the line, or give a larger --max-seq-len (up to 64)",
        ),
        (
            DiskSpaceError("out", 2000, 1000, can_be_halved=True),
            "; free some space, give --dtype float16, or give --no-disk-check to try anyway",
        ),
        (
            DiskSpaceError("out", 2000, 1000, can_be_halved=False),
            "; free some space, or give --no-disk-check to try anyway",
        ),
        (OutputNameError("-", "not seekable", "h5"), "; give --format pkl, or a path as --output"),
    ],
)
def test_advice_names_options(error: TokembError, advice: str) -> None:
    assert with_advice(error) == f"{error}{advice}"


def test_advice_on_model_that_may_be_cased() -> None:
    record = logging.makeLogRecord({"msg": "m does not say whether it is cased"})
    assert add_advice(record)
    assert record.getMessage() == "m does not say whether it is cased"
    record.assumed = "uncased"
    assert add_advice(record)
    assert record.getMessage().endswith("is cased; give --cased if it is cased")
