"""A directory of arrays is whole or absent."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bert_tokemb
from bert_tokemb.errors import OutputError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.npyd import NpydOutput
from bert_tokemb.types import EmbeddedSentence

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
