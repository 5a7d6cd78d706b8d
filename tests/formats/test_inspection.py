"""The statistics of a result, and how ``bert-tokemb info`` prints them."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.registry import FORMATS
from support.command import Command
from support.memory import run_and_measure
from support.results import sentences_of, write_result
from support.tiny import rewrite

ARRAYS = [
    np.array([[1, -2, 3], [0, 0, 0]], np.float32),
    np.zeros((0, 3), np.float32),
    np.array([[np.nan, 1, 1], [np.inf, 7, -9.5]], np.float32),
    np.array([[0, 0.5, -1]], np.float32),
]
KINDS = pytest.mark.parametrize("kind", FORMATS)


def write(path: Path, kind: str, about: dict[str, object] | None = None) -> None:
    write_result(path, sentences_of(ARRAYS), kind, about=about)


# --- Statistics -------------------------------------------------------------------------------


@KINDS
def test_inspect_finds_statistics_in_each_format(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    write(path, kind, {"strategy": "avg"})
    found = inspect(str(path))
    assert (found.name, found.kind) == (str(path), FORMATS[kind].reader.description)
    assert (found.sentences, found.blank, found.words) == (4, 1, 5)
    assert (found.widths, found.types) == ({3}, {"float32"})
    assert (found.least, found.most) == (-9.5, 7)
    assert (found.zero, found.not_finite) == (1, 2)
    assert [number for number, _ in found.first] == [1, 1, 3]
    assert [row.tolist() for _, row in found.first[:2]] == [[1, -2, 3], [0, 0, 0]]
    files = path.iterdir() if path.is_dir() else [path]
    assert found.size == sum(file.stat().st_size for file in files)
    assert found.about == ({} if kind == "pkl" else {"strategy": "avg"})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_listed_several_times_count_as_often(protocol: int, tmp_path: Path) -> None:
    path, array, blank = tmp_path / "a.pkl", ARRAYS[0], ARRAYS[1]
    other = array[:1] + 6
    path.write_bytes(
        pickle.dumps([other, other, array, blank, array, blank, other], protocol=protocol)
    )
    found = inspect(str(path))
    assert (found.sentences, found.blank, found.words, found.zero) == (7, 2, 7, 2)
    assert [(number, row.tolist()) for number, row in found.first] == [
        (1, [7, 4, 9]),
        (2, [7, 4, 9]),
        (3, [1, -2, 3]),
    ]


def test_first_rows_are_cut_to_four_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([np.arange(50.0).reshape(5, 10)]))
    assert [row.tolist() for _, row in inspect(str(path)).first] == [
        [0, 1, 2, 3],
        [10, 11, 12, 13],
        [20, 21, 22, 23],
    ]


def test_widths_and_types_of_all_arrays_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([np.ones((1, 3), "f4"), np.ones((1, 5), "f2")]))
    found = inspect(str(path))
    assert (found.widths, found.types) == ({3, 5}, {"float32", "float16"})


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.ones(3), "float64 of shape (3,)"),
        (np.ones((1, 3, 2)), "float64 of shape (1, 3, 2)"),
        (np.ones((1, 3), int), "int64 of shape (1, 3)"),
        (np.ones((9, 0)), "float64 of shape (9, 0)"),
    ],
)
def test_arrays_of_something_else_are_refused(
    array: np.ndarray, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([ARRAYS[0], array]))
    message = f"does not contain word vectors: its array 2 is {problem}"
    with pytest.raises(InputError, match=re.escape(message)):
        inspect(str(path))


@pytest.mark.parametrize(
    ("about", "shown"), [(["a"], {}), ({"a": [1, None]}, {"a": "[1, None]"}), ("a", {}), (..., {})]
)
def test_about_may_have_any_value(about: object, shown: object, tmp_path: Path) -> None:
    write(tmp_path / "a.npyd", "npyd")
    rewrite(tmp_path / "a.npyd" / "meta.json", about=about)
    assert inspect(str(tmp_path / "a.npyd")).about == shown


def test_pipes_have_no_size(tmp_path: Path) -> None:
    write(tmp_path / "a", "pkl")
    os.mkfifo(pipe := tmp_path / "pipe")
    with subprocess.Popen(["cp", tmp_path / "a", pipe]):
        found = inspect(str(pipe))
    assert (found.size, found.sentences) == (None, 4)


def test_memory_is_bounded_by_an_array(tmp_path: Path) -> None:
    """The file has 160 MB in arrays of 16 MB, all of which ``pickle.dump`` memoizes."""
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        pickle.dump([np.ones((8_000, 500), np.float32) for _ in range(10)], file)
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, peak = run_and_measure(script, path)
    assert int(words) == 80_000
    assert peak * 1024 < 110e6


# --- The command ------------------------------------------------------------------------------


def test_info_prints_the_statistics(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ARRAYS))
    done = invoke("info", "a.pkl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.sub(r"\d+ B", "N B", done.stdout) == (
        "a.pkl: a pickled list of arrays, N B\n"
        "  sentences  4, 1 of them without words\n"
        "  words      5\n"
        "  vectors    3 wide, float32\n"
        "  numbers    -9.5 to 7\n"
        "  odd rows   1 of zeros, 2 with NaN or infinity\n"
        "  sentence 1:   1.0000  -2.0000   3.0000 ...\n"
        "  sentence 1:   0.0000   0.0000   0.0000 ...\n"
        "  sentence 3:      nan   1.0000   1.0000 ...\n"
    )


def test_info_of_an_empty_list_shows_no_numbers(invoke: Command, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([]))
    done = invoke("info", "a.pkl", cwd=tmp_path)
    assert "  sentences  0\n" in done.stdout
    assert "numbers" not in done.stdout


def test_info_reads_standard_input(invoke: Command) -> None:
    done = invoke("info", "-", stdin=pickle.dumps(ARRAYS))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("/dev/stdin: a pickled list of arrays")


def test_info_prints_how_a_result_was_made(
    invoke: Command, shared_tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a b\n")
    options = ("--model", shared_tiny, "--layers", "1,-1")
    assert invoke("embed", tmp_path / "text", "-o", tmp_path / "a.npyd", *options).returncode == 0
    printed = invoke("info", tmp_path / "a.npyd").stdout
    for line in (
        "strategy        avg",
        "layers          [-2, -1]",
        f"model           {shared_tiny}",
    ):
        assert f"\n  {line}\n" in printed
    assert not re.search("[0-9a-f]{16}", printed)  # a digest tells people nothing
    size = sum(file.stat().st_size for file in (tmp_path / "a.npyd").iterdir())
    assert f"{size / 1000:.1f} kB" in printed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot read '': No such file or directory"),
        (".", "cannot read .: a directory without meta.json is not a .npyd"),
        ("missing", "cannot read missing: No such file or directory"),
        ("text", "text is damaged, or not a pickled list of arrays: "),
    ],
)
def test_info_reports_files_that_it_cannot_read(
    name: str, message: str, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("text\n")
    done = invoke("info", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bert-tokemb: error: {message}")
    assert done.stderr.count("\n") == 1


@KINDS
def test_info_reads_names_that_are_not_utf8(kind: str, invoke: Command, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    write(tmp_path / f"{name}.{kind}", kind)
    done = invoke("info", f"{name}.{kind}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"\\udcff.{kind}: a")
    assert "  sentences  4, 1 of them without words\n" in done.stdout


@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1", "utf-8:surrogateescape"])
def test_info_escapes_names_in_every_encoding(encoding: str, run: Command, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    write(tmp_path / name, "pkl")
    done = run("info", name, cwd=tmp_path, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("\\udcff: a")


@pytest.mark.parametrize("kind", ["npyd", "h5", "parquet"])
def test_info_escapes_control_characters(kind: str, invoke: Command, tmp_path: Path) -> None:
    write(tmp_path / f"a.{kind}", kind, {"a\x1b]2;bc\x07": "\x1b[2J\nsentences 7\r", "c": "\ud800"})
    done = invoke("info", f"a.{kind}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  a\\x1b]2;bc\\x07  \\x1b[2J\\nsentences 7\\r\n" in done.stdout
    assert re.search(r"\n  c +\\ud800\n", done.stdout)
