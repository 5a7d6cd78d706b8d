"""A directory of arrays: written as a stream, read by NumPy and by us, whole or absent."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bert_tokemb
from bert_tokemb.errors import InputError, OutputError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.npyd import NpydOutput
from bert_tokemb.types import EmbeddedSentence
from support.command import Command, load
from support.memory import run_and_measure
from support.standin import StandIn
from support.tiny import rewrite

Arrays = list[np.ndarray]


def some_arrays(dtype: str = "float32", n: int = 20) -> Arrays:
    draw = np.random.default_rng(1)
    return [draw.normal(size=(i % 4, 3)).astype(dtype) for i in range(n)]


def write(path: Path, arrays: Arrays, dtype: str = "float32") -> None:
    with NpydOutput(str(path)) as output:
        output.begin(Content(3, np.dtype(dtype)))
        for line, array in enumerate(arrays, 1):
            output.write(EmbeddedSentence(line, ["a"] * len(array), array))


@pytest.mark.parametrize("left", [0, 127, 10_000])
def test_what_was_left_is_written_over(left: int, tmp_path: Path) -> None:
    partial = tmp_path / ".out.npyd.partial"
    partial.mkdir()
    for name in ("vectors.npy", "offsets.npy"):
        (partial / name).write_bytes(b"x" * left)
    write(tmp_path / "out.npyd", some_arrays())
    write(tmp_path / "other.npyd", some_arrays())
    for name in ("vectors.npy", "offsets.npy"):
        assert (tmp_path / "out.npyd" / name).read_bytes() == (
            tmp_path / "other.npyd" / name
        ).read_bytes()


def test_less_was_left_than_was_noted(tmp_path: Path) -> None:
    with NpydOutput(str(tmp_path / "out.npyd")) as output:
        content = Content(3, np.dtype(np.float32))
        assert output.begin(content)
        assert not output.begin(content, {"words": 1, "sentences": 0})
        assert output.begin(content)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", [0, 1, 20])
def test_numpy_reads_it(n: int, dtype: str, tmp_path: Path) -> None:
    path, arrays = tmp_path / "out.npyd", some_arrays(dtype, n)
    write(path, arrays, dtype)
    vectors, offsets = np.load(path / "vectors.npy"), np.load(path / "offsets.npy")
    assert (vectors.dtype, offsets.dtype) == (np.dtype(dtype), np.dtype(np.int64))
    assert offsets.tolist() == np.cumsum([0, *map(len, arrays)]).tolist()
    np.testing.assert_array_equal(vectors, np.concatenate([np.zeros((0, 3), dtype), *arrays]))
    meta = json.loads((path / "meta.json").read_text())
    assert (meta["sentences"], meta["words"]) == (n, offsets[-1])
    assert (meta["width"], meta["dtype"]) == (3, dtype)


def test_arrays_of_another_layout(tmp_path: Path) -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    arrays = [wide[:, ::2], np.asfortranarray(wide[:, :3]), wide[:, 3:].astype(">f8")]
    with NpydOutput(str(tmp_path / "out.npyd")) as output:
        output.begin(Content(3, np.dtype(np.float32)))
        for line, array in enumerate(arrays, 1):
            output.write(EmbeddedSentence(line, ["a"] * len(array), array))
    text = bert_tokemb.open(tmp_path / "out.npyd")
    np.testing.assert_array_equal(text.vectors, np.concatenate(arrays))
    files = (tmp_path / "out.npyd").iterdir()
    assert output.size == sum(path.stat().st_size for path in files)


@pytest.mark.parametrize("n", [0, 1, 20])
def test_it_is_opened(n: int, tmp_path: Path) -> None:
    arrays = some_arrays(n=n)
    write(tmp_path / "out.npyd", arrays)
    text = bert_tokemb.open(tmp_path / "out.npyd")
    assert len(text) == n
    for i in range(-n, n):
        np.testing.assert_array_equal(text[i], arrays[i])
    for array, other in zip(text, arrays, strict=True):
        np.testing.assert_array_equal(array, other)
    assert [len(array) for array in text[3:9:2]] == [len(array) for array in arrays[3:9:2]]
    for i in (n, -n - 1):
        with pytest.raises(IndexError):
            text[i]


def test_what_was_taken_out_stays(tmp_path: Path) -> None:
    """Whatever becomes of the files; and it may be written to."""
    path, arrays = tmp_path / "out.npyd", some_arrays()
    write(path, arrays)
    text = bert_tokemb.open(path)
    taken = text[3]
    assert not np.shares_memory(taken, text.vectors)
    del text
    shutil.rmtree(path)
    taken += 1
    np.testing.assert_array_equal(taken, arrays[3] + 1)


def test_it_is_not_read_as_a_whole(tmp_path: Path) -> None:
    """A gigabyte and a half, most of it a hole in the file, where half a gigabyte is allowed."""
    path = tmp_path / "out.npyd"
    write(path, [np.ones((1, 3), np.float32)])
    words = 1 << 27
    for name, shape in (("vectors.npy", (words, 3)), ("offsets.npy", (3,))):
        array = np.lib.format.open_memmap(
            path / name, "w+", "f4" if name == "vectors.npy" else "i8", shape
        )
        array[-1] = 2 if name == "vectors.npy" else words
    offsets = np.load(path / "offsets.npy", mmap_mode="r+")
    offsets[:] = 0, words - 1, words
    offsets.flush()
    meta = json.loads((path / "meta.json").read_text()) | {"words": words, "sentences": 2}
    (path / "meta.json").write_text(json.dumps(meta))
    script = "import bert_tokemb; print(bert_tokemb.open(sys.argv[1])[1].tolist())"
    row, peak = run_and_measure(script, path)
    assert row == b"[[2.0, 2.0, 2.0]]\n"
    assert peak * 1024 < 500e6


def test_what_is_no_such_directory(tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    with pytest.raises(InputError, match="cannot read .*: No such file"):
        bert_tokemb.open(path)
    write(path, some_arrays())
    archive = io.BytesIO()
    np.savez(archive, np.arange(21))
    for damage in (
        lambda: rewrite(path / "meta.json", words=7),
        lambda: rewrite(path / "meta.json", words="20"),
        lambda: rewrite(path / "meta.json", sentences="20"),
        lambda: rewrite(path / "meta.json", sentences=None),
        lambda: rewrite(path / "meta.json", format=...),
        lambda: rewrite(path / "meta.json", words=...),
        lambda: rewrite(path / "meta.json", sentences=...),
        lambda: rewrite(path / "meta.json", width=...),
        lambda: rewrite(path / "meta.json", format="other"),
        lambda: (path / "meta.json").write_text("[]"),
        lambda: (path / "meta.json").write_text("{"),
        lambda: (path / "offsets.npy").write_bytes(b""),
        lambda: os.truncate(path / "vectors.npy", 100),
        lambda: (path / "meta.json").write_text("[" * 200_000),
        lambda: (path / "offsets.npy").write_bytes(archive.getvalue()),
        lambda: (path / "offsets.npy").write_bytes(b"PK\3\4, said to be an archive"),
        lambda: (path / "offsets.npy").write_bytes(b"\x93NUMPY\1\0\7\0{1L:'''"),
        lambda: (path / "offsets.npy").write_bytes(b"\x93NUMPY\1\0\7\0  a\n b"),
        lambda: np.save(path / "offsets.npy", np.arange(21.0) * 1.5),
        lambda: np.save(path / "offsets.npy", np.arange(21).astype("U2")),
        lambda: np.save(path / "offsets.npy", np.zeros(21, "i8,i8")),
        lambda: np.save(path / "offsets.npy", np.zeros((21, 1), int)),
        lambda: np.save(path / "offsets.npy", np.array([0] * 20 + [30], np.int32)),
        lambda: np.save(path / "offsets.npy", np.array([1] * 20 + [30])),
        lambda: np.save(path / "offsets.npy", np.array([0] * 20 + [29])),
        lambda: np.save(path / "vectors.npy", np.zeros((30, 3), int)),
    ):
        if path.exists():
            shutil.rmtree(path)  # it is not replaced, as it is
        write(path, some_arrays())
        damage()
        with pytest.raises(InputError, match="is damaged, or no .npyd directory"):
            bert_tokemb.open(path)


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a directory without meta.json is no .npyd"):
        bert_tokemb.open(tmp_path)


def test_one_that_has_no_rows_only_as_is_said(tmp_path: Path) -> None:
    """Of no rows nothing is mapped; but neither is a large file read."""
    path = tmp_path / "out.npyd"
    write(path, some_arrays())
    np.save(path / "offsets.npy", np.zeros(21, int))
    rewrite(path / "meta.json", words=0)
    os.truncate(path / "vectors.npy", 1 << 33)
    with pytest.raises(InputError, match="vectors.npy is not empty"):
        bert_tokemb.open(path)


@pytest.mark.parametrize("middle", [(-1, 2), (2, 1), (1, 31), (1 << 62, 3), (-1 << 63, 3)])
def test_arrays_where_none_can_lie(middle: tuple[int, int], tmp_path: Path) -> None:
    """Found out of those that are looked at; `info` looks at all."""
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=20))
    offsets = np.load(path / "offsets.npy")
    offsets[3:5] = middle
    np.save(path / "offsets.npy", offsets)
    text = bert_tokemb.open(path)
    assert len(text[0]) + len(text[1]) == 1
    for i in (3, -17):
        with pytest.raises(InputError, match="out.npyd is damaged: array 3 is said to be the rows"):
            text[i]
    with pytest.raises(InputError, match="out.npyd is damaged: array [234] is said to be the rows"):
        inspect(str(path))


def test_an_older_one_is_replaced_when_all_is_well(tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=3))
    with pytest.raises(ZeroDivisionError), NpydOutput(str(path)) as output:  # noqa: PT012
        output.begin(Content(3, np.dtype(np.float32)))
        assert len(list(tmp_path.iterdir())) == 2
        _ = 1 / 0
    assert len(bert_tokemb.open(path)) == 3
    write(path, some_arrays(n=5))
    assert len(bert_tokemb.open(path)) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npyd"]


@pytest.mark.parametrize("other", [False, True])
def test_somebody_has_removed_what_was_written(other: bool, tmp_path: Path) -> None:
    """Then there is no result; and what another run has put there stays."""
    path, partial = tmp_path / "out.npyd", tmp_path / ".out.npyd.partial"
    write(path, some_arrays(n=3))
    with (  # noqa: PT012
        pytest.raises(OutputError, match=f"somebody has removed {partial}, into which it was"),
        NpydOutput(str(path)) as output,
    ):
        output.begin(Content(3, np.dtype(np.float32)))
        partial.rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "meta.json").touch()
        partial.symlink_to("elsewhere")
        if other:
            partial.unlink()
            partial.mkdir()
    assert len(bert_tokemb.open(path)) == 3
    assert os.path.lexists(partial)


def test_what_was_moved_aside_is_in_the_way(tmp_path: Path) -> None:
    """Told before anything is computed; where the only result is that one, it is left alone."""
    path, aside = tmp_path / "out.npyd", tmp_path / ".out.npyd.older"
    write(aside, some_arrays(n=2))
    with pytest.raises(ZeroDivisionError), NpydOutput(str(path)):
        _ = 1 / 0
    assert len(bert_tokemb.open(aside)) == 2
    write(path, some_arrays(n=3))
    assert not aside.exists()
    aside.touch()
    with pytest.raises(OutputError, match=f"cannot write .*: {aside} cannot be removed, remove it"):
        NpydOutput(str(path))
    aside.unlink()
    write(path, some_arrays(n=4))
    assert len(bert_tokemb.open(path)) == 4


def test_an_older_one_that_nobody_may_change(tmp_path: Path) -> None:
    """It is replaced, as a file would be."""
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=3))
    path.chmod(0o500)
    write(path, some_arrays(n=4))
    assert len(bert_tokemb.open(path)) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npyd"]
    assert path.stat().st_mode & 0o777 == 0o500


def test_the_new_one_cannot_take_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the older one has it again."""
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=3))

    def rename(self: Path, target: Path, rename: Callable[..., Path] = Path.rename) -> Path:
        if self.name == ".out.npyd.partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputError, match="Input/output error"):
        write(path, some_arrays(n=4))
    assert len(bert_tokemb.open(path)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npyd"]


def test_file_systems_that_cannot_sync_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "out.npyd", some_arrays(n=3))
    assert len(bert_tokemb.open(tmp_path / "out.npyd")) == 3


def test_an_older_one_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new one is there: no reason to fail."""
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=3))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    write(path, some_arrays(n=4))
    assert len(bert_tokemb.open(path)) == 4
    assert "out.npyd cannot be removed, it is " in caplog.text


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_somebody_has_put_into_it_is_not_lost(when: str, tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    write(path, some_arrays(n=3))
    if when == "before":
        (path / "thesis.tex").touch()
        with pytest.raises(OutputError, match="holds something else: name another, or remove it"):
            NpydOutput(str(path))
    else:
        with (  # noqa: PT012
            pytest.raises(OutputError, match="holds something else"),
            NpydOutput(str(path)) as output,
        ):
            output.begin(Content(3, np.dtype(np.float32)))
            (path / "thesis.tex").touch()
    assert (path / "thesis.tex").exists()
    assert len(bert_tokemb.open(path)) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.npyd"]


@pytest.mark.parametrize("meta", ["{}", "[]", "no JSON", '{"format": "another"}', "[" * 100_000])
def test_meta_data_of_another_are_left_alone(meta: str, tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(OutputError, match="is there already, and is no such directory"):
        NpydOutput(str(tmp_path))
    assert (tmp_path / "meta.json").exists()


def test_two_write_it(tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    with NpydOutput(str(path)) as output:
        output.begin(Content(3, np.dtype(np.float32)))
        with pytest.raises(OutputError, match="another run is writing .*out.npyd"):
            NpydOutput(str(path))
        output.write(EmbeddedSentence(1, ["a"], np.ones((1, 3), np.float32)))
    assert bert_tokemb.open(path)[0].tolist() == [[1, 1, 1]]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    for name in ("file", "directory"):
        path = tmp_path / name
        path.touch() if name == "file" else path.mkdir()
        with pytest.raises(OutputError, match=f"{name} is there already, and is no such directory"):
            NpydOutput(str(path))
    with pytest.raises(OutputError, match="cannot write .*: No such file or directory"):
        NpydOutput(str(tmp_path / "nowhere" / "out.npyd"))
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "directory"}


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OutputError, match="cannot write .*: File too large"):
            write(tmp_path / "out.npyd", [np.ones((10_000, 3), np.float32)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [[], ["--format", "npyd"], ["--blank-lines", "skip"]])
def test_the_command(options: list[str], server: StandIn, run: Command, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("Hello World !\n\nhank \u200b\n")
    output = tmp_path / ("out" if "--format" in options else "out.npyd")
    common = ("embed", text, "--server", server.address)
    assert run(*common, *options, "-o", output).returncode == 0
    assert run(*common, *options, "--format", "pkl", "-o", tmp_path / "p.npyd").returncode == 0
    for array, other in zip(bert_tokemb.open(output), load(tmp_path / "p.npyd"), strict=True):
        np.testing.assert_array_equal(array, other)


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
def test_numbers_of_half_the_size(name: str, server: StandIn, run: Command, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("Hello World !\n\nhank\n")
    output = tmp_path / name
    done = run("embed", text, "--server", server.address, "-o", output, "--dtype", "float16")
    assert done.returncode == 0
    arrays = load(output) if name == "out.pkl" else list(bert_tokemb.open(output))
    assert [(array.dtype.name, len(array)) for array in arrays] == [
        ("float16", 3),
        ("float16", 0),
        ("float16", 1),
    ]
    assert arrays[0][0, 3] == (ord("l") + ord("o")) / 2


SCALED = """
import numpy as np
def scaled(pieces): return np.full_like(pieces[0], {factor})
"""


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
def test_numbers_too_large_for_half_the_size(
    name: str, server: StandIn, run: Command, tmp_path: Path
) -> None:
    """Those that become infinite are told; those that are so already are what was asked for."""
    text = tmp_path / "text"
    text.write_text("\nhello\n")
    options = ("--server", server.address, "--strategy", "scaled:scaled", "--dtype")
    command = ("embed", "text", "-o", name, *options)
    (tmp_path / "scaled.py").write_text(SCALED.format(factor="-1e6"))
    done = run(*command, "float16", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: line 2: a value is too large for float16, whose maximum is 65,504; "
        "give --dtype float32 and --restart\n"
    )
    assert not (tmp_path / name).exists()
    assert run(*command, "float32", cwd=tmp_path).returncode == 0
    for factor in ("np.nan", "-np.inf"):
        (tmp_path / "scaled.py").write_text(SCALED.format(factor=factor))
        done = run(*command, "float16", cwd=tmp_path)
        assert done.returncode == 0
        assert "Warning" not in done.stderr


def test_standard_output_takes_no_directory(server: StandIn, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    done = run(
        "embed", tmp_path / "text", "-o", "-", "--format", "npyd", "--server", server.address
    )
    assert done.returncode == 2
    assert "--format npyd cannot be written to standard output" in done.stderr
