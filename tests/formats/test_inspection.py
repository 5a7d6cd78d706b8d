"""What `bert-tokemb info` tells of a result, also of one that nobody vouches for."""

from __future__ import annotations

import io
import os
import pickle
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bert_tokemb.formats.unpickling import read_arrays

from bert_tokemb.errors import InputError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.npyd import NpydOutput
from bert_tokemb.formats.pickle import PickleOutput
from bert_tokemb.formats.registry import FORMATS, open_output
from bert_tokemb.types import EmbeddedSentence
from support.command import Command
from support.memory import run_and_measure
from support.tiny import rewrite

ARRAYS = [
    np.array([[1, -2, 3], [0, 0, 0]], np.float32),
    np.zeros((0, 3), np.float32),
    np.array([[np.nan, 1, 1], [np.inf, 7, -9.5]], np.float32),
    np.array([[0, 0.5, -1]], np.float32),
]


def read(content: bytes) -> list[np.ndarray]:
    seen: list[np.ndarray] = []

    def see(array: np.ndarray) -> int:
        seen.append(array.copy())
        return len(seen)

    listed = list(read_arrays(io.BytesIO(content), "it", see))
    assert listed == [*range(1, len(seen) + 1)]
    return seen


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol(protocol: int) -> None:
    others = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones((2, 2), ">f4")[:, ::-1]]
    arrays = [*ARRAYS, *others]
    for array, other in zip(read(pickle.dumps(arrays, protocol=protocol)), arrays, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


class Program:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, object]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "program",
    [
        Program(os.system, "touch harm"),
        Program(eval, "open('harm', 'w')"),
        Program(getattr, "", "join"),
        Program(np.load, "harm"),
        Program(np.memmap, "harm", "f4", "w+", 0, (1,)),
        Program(np.array, [1.0]),
        Program(np.ndarray, (1,)),
        Program(np.ndarray, print),
        Program(bytes, 10**15),
        Program(bytearray, 10**15),
        np.array([Program(os.system, "touch harm")]),
    ],
    ids=str,
)
def test_a_pickle_may_do_nothing(
    program: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ([program], program, [*ARRAYS, program], {"a": program}):
        with pytest.raises(InputError, match="it is no plain list|it is no pickle, or damaged"):
            read(pickle.dumps(content, protocol=protocol))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        *({}, [1], ["a"], None, [[np.ones(1)]], ARRAYS[0], {1: ARRAYS[0]}),
        *([np.array(["a"])], [np.zeros(1, "V4")], [np.zeros(1, "M8[s]")], [np.zeros(1, "f4,f4")]),
    ],
)
def test_pickles_of_other_things(content: object) -> None:
    with pytest.raises(InputError, match="it is no plain list of NumPy arrays"):
        read(pickle.dumps(content))


def test_a_pickle_that_cannot_be_read() -> None:
    with Path("/proc/self/mem").open("rb") as file, pytest.raises(InputError, match="cannot read"):
        read_arrays(file, "it", print)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x01\xff.",  # no UTF-8
        b"\x80\x04\x8e" + b"\xff" * 8 + b".",  # bytes, more than there can be
        b"\x80\x04]K\x01K\x01\x86b.",  # a list with attributes
        b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".",
        b"(" * 10 + b"t" * 20 + b".",
        b"g5\n.",
    ],
)
def test_pickles_that_nobody_wrote(content: bytes) -> None:
    with pytest.raises(InputError, match="is no pickle, or damaged"):
        read(content)


def test_standard_input(run: Command, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ARRAYS))
    with (tmp_path / "a.pkl").open("rb") as file:
        done = run("info", "-", stdin=file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("/dev/stdin: a pickled list of arrays")


def test_what_embed_has_written(run: Command, shared_tiny: Path, tmp_path: Path) -> None:
    """It tells how it was made, in what people can read."""
    (tmp_path / "text").write_text("a b\n")
    options = ("--model", shared_tiny, "--layers", "1,-1")
    assert run("embed", tmp_path / "text", "-o", tmp_path / "a.npyd", *options).returncode == 0
    told = run("info", tmp_path / "a.npyd").stdout
    for line in (
        "strategy        avg",
        "layers          [-2, -1]",
        f"model           {shared_tiny}",
    ):
        assert f"\n  {line}\n" in told
    assert not re.search("[0-9a-f]{16}", told)
    size = sum(file.stat().st_size for file in (tmp_path / "a.npyd").iterdir())
    assert f"{size / 1000:.1f} kB" in told


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x80\x04]", ": it ends too early$"),
        (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".", "$"),
        (b"I" + b"9" * 100_000 + b"\n.", "$"),
    ],
)
def test_what_is_damaged_is_told(content: bytes, why: str) -> None:
    """Whatever the errors of the standard library leave unsaid."""
    with pytest.raises(InputError, match=f"it is no pickle, or damaged{why}"):
        read(content)


def test_damaged_pickles() -> None:
    whole = pickle.dumps(ARRAYS, protocol=4)
    for i in range(len(whole)):
        with pytest.raises(InputError):
            read(whole[:i])
        turned = bytearray(whole)
        turned[i] ^= 0x55
        try:
            read(bytes(turned))
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_it_counts(tmp_path: Path) -> None:
    with (tmp_path / "a.pkl").open("wb") as file:
        output = PickleOutput(file)
        for array in ARRAYS:
            output.write(array)
        output.end()
    with NpydOutput(str(tmp_path / "a.npyd")) as directory:
        directory.begin(Content(3, np.dtype(np.float32)))
        for line, array in enumerate(ARRAYS, 1):
            directory.write(EmbeddedSentence(line, ["a"] * len(array), array))
    for name in ("a.pkl", "a.npyd"):
        seen = inspect(str(tmp_path / name))
        assert (seen.sentences, seen.blank, seen.words) == (4, 1, 5)
        assert (seen.widths, seen.types) == ({3}, {"float32"})
        assert (seen.least, seen.most) == (-9.5, 7)
        assert (seen.zero, seen.not_finite) == (1, 2)
        assert [(n, row.tolist()) for n, row in seen.first[:2]] == [(1, [1, -2, 3]), (1, [0, 0, 0])]
        assert [n for n, _ in seen.first] == [1, 1, 3]
        path = tmp_path / name
        files = path.iterdir() if path.is_dir() else [path]
        assert seen.size == sum(file.stat().st_size for file in files)
        assert not {"sentences", "words", "width", "dtype"} & set(seen.about)


def test_what_it_prints(run: Command, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ARRAYS))
    done = run("info", "a.pkl", cwd=tmp_path)
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([]), None),
        (pickle.dumps([np.ones(3)]), "holds no word vectors: its array 1 is of float64, (3,)"),
        (pickle.dumps([np.ones((1, 3, 2))]), "holds no word vectors: its array 1 is of float64"),
        (pickle.dumps([np.ones((1, 3), int)]), "holds no word vectors: its array 1 is of int64"),
        (b"", "is no pickle, or damaged"),
        (None, "No such file or directory"),
    ],
)
def test_what_it_cannot_tell(
    content: bytes | None, message: str | None, run: Command, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "a.pkl").write_bytes(content)
    done = run("info", "a.pkl", cwd=tmp_path)
    if message is None:
        assert "  sentences  0\n" in done.stdout
        assert "numbers" not in done.stdout
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_large_pickle_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        output = PickleOutput(file)
        for _ in range(25):
            output.write(np.ones((10_000, 1000), np.float16))  # 20 MB
        output.end()
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, peak = run_and_measure(script, path)
    assert int(words) == 250_000
    assert peak * 1024 < 300e6


def write(path: Path, kind: str, about: dict[str, object] | None = None) -> None:
    with open_output(str(path), kind) as output:
        output.begin(Content(3, np.dtype(np.float32), about or {}))
        for line, array in enumerate(ARRAYS, 1):
            output.write(EmbeddedSentence(line, ["a"] * len(array), array))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1", "utf-8:surrogateescape"])
def test_a_name_that_is_no_utf_8(kind: str, encoding: str, run: Command, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    write(tmp_path / f"{name}.{kind}", kind)
    done = run("info", f"{name}.{kind}", cwd=tmp_path, env={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"\\udcff.{kind}: a")
    assert "  sentences  4, 1 of them without words\n" in done.stdout


@pytest.mark.parametrize("kind", ["npyd", "h5", "parquet"])
def test_what_others_tell_does_nothing_to_a_terminal(
    kind: str, run: Command, tmp_path: Path
) -> None:
    write(tmp_path / f"a.{kind}", kind, {"a\x1b]2;bc\x07": "\x1b[2J\nsentences 7\r", "c": "\ud800"})
    done = run("info", f"a.{kind}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  a\\x1b]2;bc\\x07  \\x1b[2J\\nsentences 7\\r\n" in done.stdout
    assert re.search(r"\n  c +\\ud800\n", done.stdout)


def test_what_is_told_of_another_kind(tmp_path: Path) -> None:
    write(tmp_path / "a.npyd", "npyd")
    for about, shown in ((["a"], {}), ({"a": [1, None]}, {"a": "[1, None]"})):
        rewrite(tmp_path / "a.npyd" / "meta.json", about=about)
        assert inspect(str(tmp_path / "a.npyd")).about == shown


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a.pkl", "a.h5", "a.parquet", "a.npyd", "a"])
def test_what_it_is_says_the_content(kind: str, name: str, tmp_path: Path) -> None:
    """And its name only where that says nothing."""
    write(tmp_path / name, kind)
    assert inspect(str(tmp_path / name)).words == 5


def test_names_of_nothing(run: Command, tmp_path: Path) -> None:
    for name, message in (
        ("", "cannot read '': No such file or directory"),
        (".", "cannot read .: a directory without meta.json is no .npyd"),
    ):
        done = run("info", name, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"bert-tokemb: error: {message}\n"


@pytest.mark.parametrize("kind", ["pkl", "h5", "parquet"])
def test_through_a_pipe(kind: str, run: Command, tmp_path: Path) -> None:
    """It has no size; and only a pickle is read from its beginning to its end."""
    write(tmp_path / "a", kind)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cp", tmp_path / "a", pipe]):
        done = run("info", pipe)
    if kind == "pkl":
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{pipe}: a pickled list of arrays\n  sentences  4, ")
        return
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"bert-tokemb: error: cannot read {pipe}: a")
    assert done.stderr.endswith(" file cannot come through a pipe, only a pickle can\n")
