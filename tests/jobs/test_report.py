"""The closing line and the JSON report of a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command import Command
from support.resuming import RESUMED, Run
from support.standin import StandIn


def embed(invoke: Command, directory: Path, text: str, *options: object) -> dict[str, Any]:
    """Embed a text, and return its report."""
    (directory / "text").write_text(text, encoding="utf-8")
    done = invoke(
        *("embed", "text", "-o", "out.pkl", "--report", "report.json", *options), cwd=directory
    )
    assert done.returncode == 0, done.stderr
    return json.loads((directory / "report.json").read_text("utf-8"))


def test_report_lists_counts_examples_and_options(
    shared_tiny: Path, invoke: Command, tmp_path: Path
) -> None:
    text = "a \u2603 b\n\n\u200b c\n" + "a " * 63 + "\na \u2603 b\n"
    options = ("--model", shared_tiny, "--strategy", "last", "--dtype", "float16")
    report = embed(invoke, tmp_path, text, *options)
    assert report["format"] == "bert-tokemb report 2"
    assert (report["input"], report["output"]) == ("text", "out.pkl")
    assert (report["bytes"], report["width"]) == ((tmp_path / "out.pkl").stat().st_size, 32)
    assert report["sentences_resumed"] == report["words_resumed"] == 0
    assert report["seconds"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", report["started"])
    assert report["counts"] == {
        "lines": 5,
        "sentences": 5,
        "words": 71,
        "blank_lines": 1,
        "unknown_words": 2,
        "empty_words": 1,
        "nonfinite_words": 0,
        "inexact_sentences": 0,
        "shared_sentences": 0,
        "windowed_sentences": 1,
    }
    assert report["first"] == {
        "unknown_words": [{"line": 1, "word": "\u2603"}, {"line": 5, "word": "\u2603"}],
        "empty_words": [{"line": 3, "word": "\u200b"}],
        "windowed_sentences": [4],
    }
    assert report["options"] == {
        "version": report["versions"]["bert_tokemb"],
        "unicode": report["options"]["unicode"],
        "format": "pkl",
        "dtype": "float16",
        "strategy": "last",
        "blank_lines": "keep",
        "allow_nonfinite": False,
        "encoder": "local",
        "model": str(shared_tiny),
        "model_from": str(shared_tiny),
        "layers": [-2],
        "max_seq_len": 64,
        "device": "cpu",
        "precision": "fp32",
        "do_lower_case": True,
        "strip_accents": True,
        "strict": False,
        "long_sentences": "window",
    }
    assert set(report["versions"]) == {
        "bert_tokemb",
        "python",
        "numpy",
        "onnxruntime",
        "bert_serving_client",
    }


def test_report_is_bounded(invoke: Command, tmp_path: Path, server: StandIn) -> None:
    report = embed(invoke, tmp_path, "\u200b \u200b a\n" * 1000, "--server", server.address)
    assert report["counts"]["empty_words"] == 2000
    assert len(report["first"]["empty_words"]) == 100
    assert report["first"]["empty_words"][-1] == {"line": 50, "word": "\u200b"}
    assert report["options"]["encoder"] == "server"
    assert report["options"]["server"] == str(server.address)


def test_report_shortens_long_words(shared_tiny: Path, invoke: Command, tmp_path: Path) -> None:
    words = ["\u2603" * 100, "\u2603" * 101]
    report = embed(invoke, tmp_path, "\n".join(words), "--model", shared_tiny)
    listed = [found["word"] for found in report["first"]["unknown_words"]]
    assert listed == [words[0], words[0] + "\u2026"]


def test_report_includes_what_an_interrupted_run_found(shared_tiny: Path, tmp_path: Path) -> None:
    lines = ["\u2603 first", "", *(f"a {'b ' * (n % 40)}" + "c" * (n // 40) for n in range(2000))]
    lines.append("\u2603 last")
    options = ("--layers", "0,1,2", "--blank-lines", "skip")
    run = Run(tmp_path, lines, "--model", shared_tiny, *options)
    run.break_off(line=1500)
    done = run("--report", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    resumed = int(RESUMED.search(done.stderr)[1].replace(",", ""))
    assert report["sentences_resumed"] == resumed > 0
    assert report["counts"]["sentences"] == 2002
    snowmen = [found for found in report["first"]["unknown_words"] if found["word"] == "\u2603"]
    assert [found["line"] for found in snowmen] == [1, 2003]


def test_report_that_fails_at_the_end_leaves_the_result(
    invoke: Command, tmp_path: Path, server: StandIn
) -> None:
    (tmp_path / "text").write_text("a\n")
    options = ("-o", "out", "--server", server.address, "--report", "/dev/full")
    done = invoke("embed", "text", *options, cwd=tmp_path)
    assert done.returncode == 1
    closing, error = done.stderr.splitlines()
    assert "1 sentence, 1 word -> out" in closing
    assert error == "bert-tokemb: error: cannot write /dev/full: No space left on device"
    assert {path.name for path in tmp_path.iterdir()} == {"text", "out"}


def test_second_run_with_the_same_report_is_refused(tmp_path: Path, shared_tiny: Path) -> None:
    report = tmp_path / "r.json"
    first = Run(
        tmp_path, [f"a {n}" for n in range(2000)], "--model", shared_tiny, "--report", report
    )
    process = first.start_and_pause(after=3000)
    first.output = tmp_path / "other.pkl"
    done = first()
    assert done.returncode == 1
    assert "another run is writing" in done.stderr
    assert "r.json; wait for it" in done.stderr
    process.kill()


@pytest.mark.parametrize("name", ["nowhere/report.json", ".", ""])
def test_report_that_cannot_be_written_is_refused_first(
    name: str, server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a\n")
    options = ("-o", "out", "--server", server.address, "--report", name)
    before = len(server.requests)
    done = invoke("embed", "text", *options, cwd=tmp_path)
    assert done.returncode == (1 if name else 2)
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
def test_report_and_output_must_differ(
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
    assert len(list(tmp_path.iterdir())) == 3 + (code == 0 and output == "out")


def test_report_names_a_text_that_is_not_utf8(
    server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    name = os.fsdecode(b"text-\xff")
    (tmp_path / name).write_text("a\n")
    options = ("-o", "out", "--server", server.address, "--report", "report.json")
    assert invoke("embed", name, *options, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["input"] == name


def test_failed_run_leaves_no_report(shared_tiny: Path, invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a\n\xff\n")
    options = ("-o", "out", "--model", shared_tiny, "--report", "report.json")
    assert invoke("embed", "text", *options, cwd=tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
