"""`bert-tokemb embed`: results, standard output, options by the environment, progress."""

from __future__ import annotations

import fcntl
import gzip
import os
import pickle
import re
import select
import struct
import subprocess
import sys
import termios
import time
import tty
from pathlib import Path

import pytest

from support.command import Command, load
from support.standin import StandIn, pieces_of


def test_embed_writes_one_array_per_line(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.pkl"
    done = invoke("embed", text, "-o", output, "--server", server.address, "-s", "last")
    assert (done.returncode, done.stdout) == (0, "")
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


def test_blank_lines_of_standard_input_are_skipped(
    server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    output = tmp_path / "out.pkl"
    done = invoke(
        *("embed", "-", "-o", output, "--server", server.address, "--blank-lines", "skip"),
        stdin="a b\r\n\r\nc",
    )
    assert done.returncode == 0, done.stderr
    assert [len(a) for a in load(output)] == [2, 1]
    assert "2 sentences, 3 words" in done.stderr
    assert "1 blank line" in done.stderr


@pytest.mark.parametrize("option", ["--quiet", "-q"])
def test_quiet_prints_nothing(
    option: str, server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    done = invoke("embed", text, "-o", tmp_path / "out", "--server", server.address, option)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_empty_input_gives_empty_result(server: StandIn, invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    options = ("-o", tmp_path / "out", "--server", server.address)
    done = invoke("embed", tmp_path / "empty", *options)
    assert done.returncode == 0
    assert "is empty: wrote an empty result" in done.stderr
    assert load(tmp_path / "out") == []


def test_strict_refuses_word_without_pieces(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = invoke("embed", text, "-o", output, "--server", server.address, "--strict")
    assert done.returncode == 1
    assert r"line 3: the word '\u200b' has no pieces" in done.stderr
    assert done.stderr.endswith("; change it, or run without --strict\n")
    assert not output.exists()


def test_closing_line_escapes_control_characters(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    name = "esc\x1b[31m\nline.pkl"
    done = invoke("embed", text, "-o", tmp_path / name, "--server", server.address)
    assert done.returncode == 0
    assert r"esc\x1b[31m\nline.pkl (" in done.stderr
    assert done.stderr.count("\n") == 1


# --- Standard output ---------------------------------------------------------------------------

LOUD = "def loud(pieces):\n    print('!')\n    return pieces[0]\n"


def embed_to_stdout(
    server: StandIn, text: Path, *options: str, name: str = "-", **settings: object
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", name, "--server"]
    return subprocess.run(  # type: ignore[call-overload]
        [*command, str(server.address), *options],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 60, **settings},
    )


def test_stdout_holds_the_pickle_alone(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "loud.py").write_text(LOUD)
    invoke("embed", text, "-o", tmp_path / "out", "--server", server.address, "-s", "first")
    done = embed_to_stdout(server, text, "--strategy", "loud:loud", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (tmp_path / "out").read_bytes()
    assert done.stderr.count(b"!\n") == 4
    assert b"3 sentences, 5 words -> standard output (" in done.stderr


def test_stdout_can_be_redirected_to_a_file_other_than_the_input(
    server: StandIn, text: Path, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as file:
        assert embed_to_stdout(server, text, stdout=file).returncode == 0
    assert [a.shape for a in load(tmp_path / "out")] == [(3, 8), (0, 8), (2, 8)]
    before = text.read_bytes()
    with text.open("ab") as file:
        done = embed_to_stdout(server, text, stdout=file)
    assert done.returncode == 2
    assert b"INPUT and --output are the same file" in done.stderr
    assert text.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["/dev/stdout", pytest.param("/dev/fd/1", marks=pytest.mark.slow), "link"]
)
def test_other_names_of_stdout_are_written_directly(
    name: str, server: StandIn, tmp_path: Path
) -> None:
    """A file that standard output is redirected to is not replaced."""
    (tmp_path / "text").write_text("a b\n")
    (tmp_path / "link").symlink_to("/dev/stdout")
    (tmp_path / "loud.py").write_text(LOUD)
    script = (
        "(printf 'before\\n'; \"$0\" -m bert_tokemb embed text -o $2 --server $1 --quiet "
        "--strategy loud:loud; printf 'after\\n') > out"
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
    assert written.endswith(b"after\n")
    (array,) = pickle.loads(written[len(b"before\n") :])
    assert array.shape == (2, 8)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_inherited_descriptor_is_written_directly(
    server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    """A run that writes to a descriptor is not resumed and has no hidden files."""
    (tmp_path / "text").write_text("a b\n")
    options = ("embed", "text", "--server", server.address, "-o")
    with (tmp_path / "out").open("ab", buffering=0) as file:
        file.write(b"before")
        name = f"/dev/fd/{file.fileno()}"
        assert invoke(*options, name, "--quiet", cwd=tmp_path).returncode == 0
        assert invoke(*options, name, "--quiet", "-s", "last", cwd=tmp_path).returncode == 0
        done = invoke(*options, name, "--format", "h5", cwd=tmp_path)
    assert done.returncode == 2
    assert f"cannot write h5 to {name}: only pkl can be written to" in done.stderr
    assert done.stderr.count("\n") == 1
    with (tmp_path / "out").open("rb") as file:
        assert file.read(6) == b"before"
        assert [len(pickle.load(file)) for _ in range(2)] == [1, 1]
        assert not file.read()
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


@pytest.mark.parametrize(
    "name",
    [
        "-",
        pytest.param("/dev/stdout", marks=pytest.mark.slow),
        pytest.param("/dev/fd/1", marks=pytest.mark.slow),
        pytest.param(None, id="name of the terminal"),
    ],
)
def test_output_on_terminal_is_refused(name: str | None, server: StandIn, text: Path) -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    name = name or os.ttyname(theirs)
    done = embed_to_stdout(server, text, stdout=theirs, name=name)
    assert done.returncode == 2
    assert b"is a terminal" in done.stderr
    assert done.stderr.count(b"\n") == 1
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
def test_unwritable_stdout_is_reported(
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


# --- Standard input and standard error --------------------------------------------------------


def test_closed_stdin_is_reported(server: StandIn, run: Command, tmp_path: Path) -> None:
    done = run(
        *("embed", "-", "-o", tmp_path / "out", "--server", server.address),
        preexec_fn=lambda: os.close(0),
    )
    assert done.returncode == 1
    assert done.stderr == "bert-tokemb: error: cannot read standard input: it is closed\n"


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_result_is_written_without_stderr(
    redirection: str, server: StandIn, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    script = f'exec "$@" -o {tmp_path}/out --server {server.address} {redirection}'
    command = [sys.executable, "-m", "bert_tokemb", "embed", str(text)]
    done = subprocess.run(["sh", "-c", script, "sh", *command], check=False)
    assert done.returncode == 0
    assert len(load(tmp_path / "out")) == 3


# --- Options by the environment ---------------------------------------------------------------


def test_options_are_read_from_the_environment(
    server: StandIn, invoke: Command, text: Path, tmp_path: Path
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
    done = invoke("embed", text, env=variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(a) for a in load(output)] == [3, 2]
    assert load(output)[0][0, 0] == 2  # the last piece
    assert invoke("embed", text, "--strategy", "first", env=variables).returncode == 0
    assert load(output)[0][0, 0] == 1
    strict = {**variables, "BERT_TOKEMB_STRICT": "true"}
    assert invoke("embed", text, env=strict).returncode == 1
    assert invoke("embed", text, "--no-strict", env=strict).returncode == 0


# --- Progress ---------------------------------------------------------------------------------


def on_terminal(*arguments: object) -> tuple[int, str]:
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
        except OSError:  # on Linux: the other end is closed
            break
        if not part:
            break
        drawn += part
    os.close(ours)
    return process.wait(timeout=30), drawn.decode()


def slowly(server: StandIn, frames: list[bytes], texts: list[str]) -> None:
    time.sleep(0.05)  # long enough for the bar to be drawn more than once


@pytest.mark.parametrize(
    "distinct", [pytest.param(1000, id="distinct"), pytest.param(10, id="repeated")]
)
def test_progress_of_file_is_drawn_on_terminal(distinct: int, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"word {n % distinct}\n" for n in range(1000)))
    with StandIn(fault=slowly) as server:
        code, drawn = on_terminal(text, "-o", tmp_path / "out", "--server", server.address)
    assert code == 0
    assert "100%" in drawn
    assert re.search(r"\d+:\d\d left", drawn)
    assert "1,000 sentences, 2,000 words -> " in drawn
    assert re.search(r"100%.* left, 1,000 sentences, [\d,]+ words/s", drawn)


def test_progress_of_compressed_file_has_no_percentage(tmp_path: Path) -> None:
    text = tmp_path / "text.gz"
    text.write_bytes(gzip.compress(b"".join(b"word %d\n" % n for n in range(1000))))
    with StandIn(fault=slowly) as server:
        code, drawn = on_terminal(text, "-o", tmp_path / "out", "--server", server.address)
    assert code == 0
    assert re.search(r"2.00k words \[\d\d:\d\d, 1,000 sentences, [\d,]+ words/s\]", drawn)
    assert "%" not in drawn
    assert drawn.count("words/s") == drawn.count(" sentences, ")


def test_quiet_draws_no_progress(server: StandIn, text: Path, tmp_path: Path) -> None:
    arguments = (text, "-o", tmp_path / "out", "--server", server.address, "--quiet")
    assert on_terminal(*arguments) == (0, "")
