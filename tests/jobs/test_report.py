"""`--report`, and whether the disk has room."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.jobs.report import Tally
from bert_tokemb.types import Diagnostics, EmbeddedSentence
from support.command import Command
from support.interrupted import PROGRAM, TAKEN_OVER, Run
from support.standin import StandIn

ROOM = """
import os
class Room:
    f_frsize = 1000
    f_bavail = {blocks}
os.statvfs = lambda path: Room
"""


def test_what_it_tells(shared_tiny: Path, run: Command, tmp_path: Path) -> None:
    text, output, report = tmp_path / "text", tmp_path / "out.pkl", tmp_path / "report.json"
    text.write_text("a \u2603 b\n\n\u200b c\n" + "a " * 63 + "\na \u2603 b\n", encoding="utf-8")
    options = ("--model", shared_tiny, "--strategy", "last", "--dtype", "float16")
    done = run("embed", text, "-o", output, *options, "--report", report)
    assert done.returncode == 0, done.stderr
    told = json.loads(report.read_text("utf-8"))
    assert told["format"] == "bert-tokemb report 1"
    assert "fingerprint" not in told["asked"]
    assert (told["input"], told["output"]) == (str(text), str(output))
    assert (told["bytes"], told["width"]) == (output.stat().st_size, 32)
    assert told["sentences_taken_over"] == 0
    assert told["seconds"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", told["begin"])
    assert told["counts"] == {
        "lines": 5,
        "sentences": 5,
        "words": 71,
        "blank_lines": 1,
        "unknown_words": 2,
        "empty_words": 1,
        "inexact_sentences": 0,
        "windowed_sentences": 1,
    }
    assert told["first"] == {
        "unknown_words": [{"line": 1, "word": "\u2603"}, {"line": 5, "word": "\u2603"}],
        "empty_words": [{"line": 3, "word": "\u200b"}],
        "windowed_sentences": [4],
    }
    asked = told["asked"]
    assert (asked["strategy"], asked["dtype"], asked["format"]) == ("last", "float16", "pkl")
    assert (asked["encoder"], asked["layers"], asked["max_seq_len"]) == ("engine", [-2], 64)
    assert asked["model"] == str(shared_tiny)
    assert set(told["versions"]) == {
        "bert_tokemb",
        "python",
        "numpy",
        "onnxruntime",
        "bert_serving_client",
    }


def test_it_is_bounded(run: Command, tmp_path: Path, server: StandIn) -> None:
    text, report = tmp_path / "text", tmp_path / "report.json"
    text.write_text("\u200b \u200b a\n" * 1000, encoding="utf-8")
    done = run(
        *("embed", text, "-o", tmp_path / "out", "--server", server.address, "--report", report)
    )
    assert done.returncode == 0
    told = json.loads(report.read_text())
    assert told["counts"]["empty_words"] == 2000
    assert len(told["first"]["empty_words"]) == 100
    assert told["first"]["empty_words"][-1]["line"] == 50
    assert told["asked"]["encoder"] == "server"
    assert told["asked"]["server"] == str(server.address)


def test_lines_are_bounded_too() -> None:
    tally = Tally()
    for line in range(1, 1000):
        tally.add(EmbeddedSentence(line, ["a"], np.zeros((1, 2)), Diagnostics((), (), True, True)))
    assert tally.inexact_sentences == tally.windowed_sentences == list(range(1, 101))


def test_long_words_are_cut(shared_tiny: Path, run: Command, tmp_path: Path) -> None:
    words = ["\u2603" * 100, "\u2603" * 101]
    (tmp_path / "text").write_text("\n".join(words), encoding="utf-8")
    options = ("-o", "out", "--model", shared_tiny, "--report", "report.json")
    assert run("embed", "text", *options, cwd=tmp_path).returncode == 0
    told = json.loads((tmp_path / "report.json").read_text("utf-8"))["first"]["unknown_words"]
    assert [one["word"] for one in told] == [words[0], words[0] + "\u2026"]


def test_of_a_run_that_was_interrupted(shared_tiny: Path, tmp_path: Path) -> None:
    """What was met before is told too."""
    lines = ["\u2603 first", "", *(f"a {'b ' * (n % 40)}" + "c" * (n // 40) for n in range(2000))]
    lines.append("\u2603 last")
    options = ("--layers", "0,1,2", "--blank-lines", "skip")
    run = Run(tmp_path, lines, "--model", shared_tiny, *options)
    run.interrupt(beyond=300)
    report = tmp_path / "report.json"
    code, done = run("--report", report)
    assert code == 0
    told = json.loads(report.read_text())
    taken = int(TAKEN_OVER.search(done).group(1).replace(",", ""))
    assert told["sentences_taken_over"] == taken > 300
    assert told["counts"]["sentences"] == 2002
    unknown = told["first"]["unknown_words"]
    assert [one["line"] for one in unknown if one["word"] == "\u2603"] == [1, 2003]


def test_it_fails_when_all_else_is_done(run: Command, tmp_path: Path, server: StandIn) -> None:
    """Then the result is there, and that is told."""
    (tmp_path / "text").write_text("a\n")
    options = ("text", "-o", "out", "--server", server.address, "--report", "/dev/full")
    done = run("embed", *options, cwd=tmp_path)
    assert done.returncode == 1
    closing, error = done.stderr.splitlines()
    assert "1 sentence, 1 word -> out" in closing
    assert error == "bert-tokemb: error: cannot write /dev/full: No space left on device"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


def test_two_runs_make_the_same(tmp_path: Path, server: StandIn) -> None:
    """The second is refused before it computes anything."""
    first = Run(tmp_path, ["a", "b"], "--server", server.address, "--report", tmp_path / "r.json")
    wait = (
        "import os, time\n"
        "def fsync(descriptor, fsync=os.fsync):\n"
        f"    while not os.path.exists({str(tmp_path / 'go on')!r}): time.sleep(0.01)\n"
        "    fsync(descriptor)\n"
        "os.fsync = fsync\n"
    )
    process = first.start(before=wait)
    while not (tmp_path / ".r.json.new").exists():
        time.sleep(0.01)
    first.output = tmp_path / "other.pkl"
    code, told = first()
    assert code == 1
    assert told.endswith("r.json: wait for it, or name another output\n")
    (tmp_path / "go on").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads((tmp_path / "r.json").read_text())["output"].endswith("out.pkl")


@pytest.mark.parametrize("name", ["nowhere/report.json", ".", ""])
def test_it_cannot_be_written(name: str, server: StandIn, run: Command, tmp_path: Path) -> None:
    """That is known before anything is computed."""
    (tmp_path / "text").write_text("a\n")
    options = ("text", "-o", "out", "--server", server.address, "--report", name)
    before = len(server.requests)
    done = run("embed", *options, cwd=tmp_path)
    assert done.returncode == (1 if name else 2)
    assert done.stderr.count("\n") == 1
    assert len(server.requests) == before
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize(
    ("output", "report", "code"),
    [
        ("out", "out", 2),
        ("out", "link", 2),
        ("-", "stdout", 2),
        ("-", "/dev/stdout", 2),
        ("-", "/dev/fd/1", 2),
        ("/dev/stdout", "/dev/fd/1", 2),
        ("/dev/fd/1", "stdout", 2),
        ("out", "-", 2),
        ("out", "stdout", 0),
        ("/dev/null", "/dev/null", 0),
    ],
)
def test_it_is_not_the_output(
    output: str, report: str, code: int, server: StandIn, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a\n")
    (tmp_path / "link").symlink_to("out")
    options = ("-o", output, "--report", report, "--server", str(server.address))
    with (tmp_path / "stdout").open("w") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "bert_tokemb", "embed", "text", *options],
            cwd=tmp_path,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == 1
    assert len(list(tmp_path.iterdir())) == 3 + (code == 0 and output == "out")


def test_of_a_text_whose_name_is_no_utf_8(server: StandIn, tmp_path: Path) -> None:
    name = os.fsdecode(b"text-\xff")
    (tmp_path / name).write_text("a\n")
    options = (name, "-o", "out", "--server", str(server.address), "--report", "report.json")
    subprocess.run(
        [sys.executable, "-m", "bert_tokemb", "embed", *options], cwd=tmp_path, check=True
    )
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["input"] == name


def test_none_of_a_run_that_fails(shared_tiny: Path, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a\n\xff\n")
    options = ("text", "-o", "out", "--model", shared_tiny, "--report", "report.json")
    assert run("embed", *options, cwd=tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


# --- Room -------------------------------------------------------------------------------------


@pytest.fixture
def text_run(tmp_path: Path, server: StandIn) -> Run:
    """10,000 words of 8 numbers: 320 kB, and 50 kB for 1,000 sentences."""
    return Run(tmp_path, ["a b c d e f g h i j"] * 1000, "--server", server.address)


@pytest.mark.parametrize(("blocks", "more", "code"), [
    (369, (), 1), (371, (), 0), (369, ("--no-disk-check",), 0), (300, ("--dtype", "float16"), 0)
])  # fmt: skip
def test_a_disk_without_room(
    blocks: int, more: tuple[str, ...], code: int, text_run: Run, server: StandIn
) -> None:
    asked = len(server.requests)
    returned, told = text_run(*more, before=ROOM.format(blocks=blocks))
    assert returned == code
    assert text_run.output.exists() == (code == 0)
    if code:
        assert told.endswith(
            "out.pkl: it may take 370.0 kB, and the disk has room for 369.0 kB; make room, give "
            "--dtype float16, or give --no-disk-check to try\n"
        )
        assert len(server.requests) == asked + 1  # to learn the width
        assert not text_run.leftovers


def test_only_what_helps_is_told(text_run: Run) -> None:
    """float16 does not, where that was asked for, or where the run before wrote float32."""
    code, told = text_run("--dtype", "float16", before=ROOM.format(blocks=100))
    assert (code, "make room, or give --no-disk-check" in told) == (1, True)


def test_what_is_there_already_needs_no_room(shared_tiny: Path, tmp_path: Path) -> None:
    lines = [f"a {'b ' * (n % 40)}" + "c" * (n // 40) for n in range(2000)]
    run = Run(tmp_path, lines, "--model", shared_tiny, "--layers", "0,1,2")
    run.interrupt(beyond=300)
    words = sum(len(line.split()) for line in lines)
    blocks = (words * 384 + 2000 * 50) // 1000
    # What is to come does, and it comes in the type in which it was begun.
    code, told = run(before=ROOM.format(blocks=10))
    assert (code, "make room, or give --no-disk-check" in told) == (1, True)
    assert run(before=ROOM.format(blocks=blocks - 10))[0] == 0


@pytest.mark.parametrize("kind", ["stream", "compressed"])
def test_a_stream_is_warned_of(kind: str, text_run: Run) -> None:
    content = text_run.text.read_bytes()
    arguments = ["embed", "-", "-o", text_run.output, *text_run.options]
    if kind == "compressed":
        arguments[1] = text_run.text.with_name("text.gz")
        arguments[1].write_bytes(gzip.compress(content))
    program = PROGRAM.format(before=ROOM.format(blocks=250))
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], input=content, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    told = done.stderr.decode()
    (words,) = re.findall(
        r"bert-tokemb: the disk has room for 250\.0 kB, which is about ([\d,]+) more words\n", told
    )
    assert 6700 < int(words.replace(",", "")) < 7000


def test_nobody_is_warned_of_blank_lines(text_run: Run) -> None:
    """They tell nothing of how much room a word takes."""
    program = PROGRAM.format(before=ROOM.format(blocks=0))
    arguments = ["embed", "-", "-o", text_run.output, *text_run.options]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        input=b"\n" * 1000,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"room" not in done.stderr


def test_room_is_looked_for_behind_a_link(text_run: Run) -> None:
    (text_run.directory / "other").mkdir()
    text_run.output.symlink_to("other/out")
    other = ROOM.format(blocks=0).replace(
        "lambda path: Room", "lambda path: {'other': Room}[path.name]"
    )
    assert "the disk has room for 0 B;" in text_run(before=other)[1]


def test_no_room_is_needed_for_a_device(text_run: Run) -> None:
    text_run.output = Path("/dev/null")
    assert text_run(before=ROOM.format(blocks=0))[0] == 0
