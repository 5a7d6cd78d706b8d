"""Where an output goes: paths, symbolic links, streams, and the names next to it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bert_tokemb.errors import OutputError
from bert_tokemb.storage.target import OutputTarget


def test_target_follows_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    target = OutputTarget.resolve(str(tmp_path / "link"))
    assert target.path == tmp_path / "far" / "file"
    assert target.workspace == tmp_path / "far" / ".file.partial"
    assert target.name == str(tmp_path / "link")
    assert not target.is_stream


def test_target_knows_what_exists_under_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert OutputTarget.resolve(str(path)).permissions is None
    path.touch(mode=0o600)
    target = OutputTarget.resolve(str(path))
    assert (target.permissions, target.is_stream) == (0o600, False)
    assert not OutputTarget.resolve(str(tmp_path)).is_stream


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_names_of_standard_output_are_streams(name: str) -> None:
    target = OutputTarget.resolve(name)
    assert (target.descriptor, target.is_stream) == (1, True)


def test_link_to_an_open_descriptor_is_a_stream(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        target = OutputTarget.resolve(str(tmp_path / "link"))
        assert (target.descriptor, target.is_stream) == (file.fileno(), True)


def test_pipes_and_devices_are_streams(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in (str(tmp_path / "pipe"), os.devnull):
        target = OutputTarget.resolve(name)
        assert (target.descriptor, target.is_stream) == (None, True)


def test_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*file/out: Not a directory"):
        OutputTarget.resolve(str(tmp_path / "file" / "out"))


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_long_names_are_shortened(name: str) -> None:
    target = OutputTarget(name, Path("/a") / name)
    for path in (target.workspace, target.previous):
        assert len(os.fsencode(path.name)) <= 255


def test_long_names_with_the_same_start_stay_apart() -> None:
    one, other = (OutputTarget("", Path(f"/a/{'x' * 250}{n}")) for n in range(2))
    assert one.workspace != other.workspace
    assert one.workspace == OutputTarget("", Path(f"/a/{'x' * 250}0")).workspace
