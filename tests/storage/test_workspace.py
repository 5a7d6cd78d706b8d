"""The workspace next to an output: complete or absent, locked, resumable."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bert_tokemb.errors import OutputError, OutputInUseError, ResumeError
from bert_tokemb.storage.byte_writer import ByteWriter
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.storage.workspace import Workspace, atomic_file


def workspace_of(path: Path, **options: Any) -> Workspace:
    return Workspace(OutputTarget.resolve(str(path)), **options)


def write(workspace: Workspace, data: bytes, *, file: str = "", kept: bytes = b"") -> None:
    os.write(workspace.open(file, keep=len(kept), crc32=zlib.crc32(kept)), data)


def commit(workspace: Workspace) -> None:
    workspace.sync()
    workspace.commit()


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- Complete or absent -----------------------------------------------------------------------


def test_output_appears_when_it_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with workspace_of(path) as workspace:
        write(workspace, b"newer")
        assert path.read_bytes() == b"older"
        assert names(tmp_path) == {"file", ".file.partial"}
        commit(workspace)
        assert path.read_bytes() == b"newer"
    assert names(tmp_path) == {"file"}


def test_existing_output_stays_if_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with suppress(KeyboardInterrupt), workspace_of(path) as workspace:
        write(workspace, b"newer")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == {"file"}


def test_uncommitted_output_is_absent(tmp_path: Path) -> None:
    with workspace_of(tmp_path / "file") as workspace:
        write(workspace, b"x")
    assert not names(tmp_path)


def test_full_disk_is_reported(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from bert_tokemb.storage.workspace import atomic_file\n"
        "with atomic_file(sys.argv[1]) as file:\n"
        "    for _ in range(100): file.write(bytes(50_000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "file"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "OutputError: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert names(tmp_path) == set()


# --- Permissions ------------------------------------------------------------------------------


def test_new_output_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    for directory, make in ((False, Path.touch), (True, Path.mkdir)):
        with workspace_of(tmp_path / "ours", directory=directory) as workspace:
            write(workspace, b"x", file="x" if directory else "")
            commit(workspace)
        make(tmp_path / f"other-{directory}")
        assert permissions(tmp_path / "ours") == permissions(tmp_path / f"other-{directory}")
        (tmp_path / "ours").rename(tmp_path / f"ours-{directory}")


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
def test_permissions_of_an_existing_file_are_kept(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    with workspace_of(path) as workspace:
        write(workspace, b"x")
        # Never wider, and always writable by its owner.
        assert permissions(workspace.data) == mode | 0o600
        commit(workspace)
    assert permissions(path) == mode


def test_permissions_of_an_existing_directory_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir(mode=0o500)
    with workspace_of(path, directory=True, may_replace=lambda path: True) as workspace:
        write(workspace, b"x", file="x")
        assert permissions(workspace.data) == 0o700
        commit(workspace)
    assert permissions(path) == 0o500


def test_others_cannot_look_into_a_workspace(tmp_path: Path) -> None:
    with workspace_of(tmp_path / "file") as workspace:
        assert permissions(workspace.path) == 0o700


# --- Directories ------------------------------------------------------------------------------


def is_ours(path: Path) -> bool:
    return names(path) <= {"x"}


def directory_workspace(path: Path) -> Workspace:
    return workspace_of(path, directory=True, may_replace=is_ours)


def test_directory_replaces_an_existing_one(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in (b"older", b"newer"):
        with directory_workspace(path) as workspace:
            write(workspace, content, file="x")
            commit(workspace)
        assert (path / "x").read_bytes() == content
        assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("late", [False, True])
def test_foreign_directory_is_not_replaced(late: bool, tmp_path: Path) -> None:
    """The foreign file may exist at the start or appear while the new directory is written."""
    path = tmp_path / "out"
    path.mkdir()
    foreign = path / "foreign"
    if not late:
        foreign.touch()
    with (  # noqa: PT012
        pytest.raises(OutputError, match="is not a result of this format, or contains other files"),
        directory_workspace(path) as workspace,
    ):
        write(workspace, b"y", file="x")
        foreign.touch()
        commit(workspace)
    assert names(path) == {"foreign"}
    assert names(tmp_path) == {"out"}


def test_directory_and_file_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    with pytest.raises(OutputError, match="is not a result of this format"):
        directory_workspace(tmp_path / "file")
    with pytest.raises(OutputError, match=r"cannot write .*directory: Is a directory"):
        workspace_of(tmp_path / "directory")
    with pytest.raises(OutputError, match="cannot write /: Is a directory"):
        workspace_of(Path("/"))
    assert names(tmp_path) == {"file", "directory"}


def test_previous_directory_is_restored(tmp_path: Path) -> None:
    """A crash between the two renames leaves such a directory."""
    path = tmp_path / "out"
    path.mkdir()
    (path / "x").write_bytes(b"older")
    path.rename(OutputTarget.resolve(str(path)).previous)
    with directory_workspace(path):
        assert (path / "x").read_bytes() == b"older"
    assert names(tmp_path) == {"out"}


def test_previous_directory_is_removed_if_the_new_one_is_there(tmp_path: Path) -> None:
    """A crash between the second rename and the clean-up leaves both directories."""
    path = tmp_path / "out"
    for directory in (path, OutputTarget.resolve(str(path)).previous):
        directory.mkdir()
        (directory / "x").touch()
    path.chmod(0o500)
    with directory_workspace(path):
        assert names(tmp_path) == {"out", ".out.partial"}


def test_existing_directory_is_restored_if_the_new_one_cannot_be_renamed(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir()
    (path / "x").write_bytes(b"older")
    with (  # noqa: PT012
        pytest.raises(OutputError, match="No such file or directory"),
        directory_workspace(path) as workspace,
    ):
        write(workspace, b"newer", file="x")
        workspace.sync()
        workspace.data.rename(tmp_path / "elsewhere")
        workspace.commit()
    assert (path / "x").read_bytes() == b"older"
    assert names(tmp_path) == {"out", "elsewhere"}


def test_previous_directory_that_cannot_be_removed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The new directory is complete, so the run has not failed."""
    path = tmp_path / "out"
    path.mkdir()

    def fail(path: Path) -> None:
        raise OSError(1, os.strerror(1))

    with directory_workspace(path) as workspace:
        write(workspace, b"newer", file="x")
        workspace.sync()
        monkeypatch.setattr(shutil, "rmtree", fail)
        workspace.commit()
        monkeypatch.undo()
    assert (path / "x").read_bytes() == b"newer"
    assert "the previous" in caplog.text
    assert names(tmp_path) == {"out", ".out.previous"}


@pytest.mark.parametrize("function", ["open", "fsync"])
def test_directories_that_cannot_be_synced_are_written_to(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories may be unreadable, and some file systems cannot sync directories."""
    original = getattr(os, function)

    def fail(place: Any, *more: Any) -> Any:
        if stat.S_ISDIR(os.stat(place).st_mode):  # noqa: PTH116 - a path or a descriptor
            raise OSError(13, os.strerror(13))
        return original(place, *more)

    with workspace_of(tmp_path / "file") as workspace:
        write(workspace, b"x")
        monkeypatch.setattr(os, function, fail)
        commit(workspace)
        monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == b"x"


def test_foreign_directory_with_the_name_of_a_previous_one_stays(tmp_path: Path) -> None:
    previous = OutputTarget.resolve(str(tmp_path / "out")).previous
    previous.mkdir()
    (previous / "foreign").touch()
    with directory_workspace(tmp_path / "out"):
        pass
    assert names(previous) == {"foreign"}


CRASH = """
import os, sys
remaining = int(sys.argv[2])
def hook(event, arguments):
    global remaining
    changes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")
    if changes or (event == "open" and ".partial" in str(arguments[0])):
        remaining -= 1
        if remaining < 0:
            os._exit(9)
from pathlib import Path
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.storage.workspace import Workspace
target = OutputTarget.resolve(sys.argv[1])
directory = target.path.name == "directory"
sys.addaudithook(hook)
with Workspace(target, directory=directory, may_replace=lambda path: True) as workspace:
    workspace.discard()
    os.write(workspace.open("x" if directory else ""), b"newer")
    workspace.sync()
    workspace.commit()
"""


@pytest.mark.parametrize("name", ["file", "directory"])
def test_crash_at_any_step_leaves_the_old_or_the_new_output(name: str, tmp_path: Path) -> None:
    """The process ends before each change of the file system in turn."""
    path = tmp_path / name
    directory = name == "directory"
    content = path / "x" if directory else path
    seen = set()
    for step in range(100):
        if directory:
            path.mkdir(exist_ok=True)
        content.write_bytes(b"older")
        done = subprocess.run([sys.executable, "-c", CRASH, path, str(step)], check=False)
        with workspace_of(path, directory=directory, may_replace=lambda path: True):
            seen.add(content.read_bytes())
        assert names(tmp_path) == {name}
        if done.returncode == 0:
            break
        assert done.returncode == 9
    assert seen == {b"older", b"newer"}
    assert 3 < step < 99


# --- State ------------------------------------------------------------------------------------


def interrupt(path: Path, data: bytes, state: Any) -> None:
    """Leave a partial output and a state."""
    with suppress(KeyboardInterrupt), workspace_of(path) as workspace:
        workspace.discard()
        write(workspace, data)
        workspace.checkpoint(state)
        raise KeyboardInterrupt


def test_interrupted_run_leaves_its_state_and_data(tmp_path: Path) -> None:
    path = tmp_path / "file"
    interrupt(path, b"12345", {"bytes": 3})
    assert names(tmp_path) == {".file.partial"}
    with workspace_of(path) as workspace:
        assert workspace.state == {"bytes": 3}
        assert workspace.leftover == 5
        write(workspace, b"xyz", kept=b"123")
        commit(workspace)
    assert path.read_bytes() == b"123xyz"
    assert names(tmp_path) == {"file"}


def test_changed_data_are_reported(tmp_path: Path) -> None:
    interrupt(tmp_path / "file", b"12345", {"bytes": 3})
    with (
        workspace_of(tmp_path / "file") as workspace,
        pytest.raises(ResumeError, match=r"is damaged \(its data have changed\)"),
    ):
        write(workspace, b"xyz", kept=b"122")


def test_state_survives_a_run_that_does_not_start(tmp_path: Path) -> None:
    interrupt(tmp_path / "file", b"12345", {"bytes": 3})
    with workspace_of(tmp_path / "file"):
        pass
    with workspace_of(tmp_path / "file") as workspace:
        assert workspace.state == {"bytes": 3}


def test_discarding_removes_state_and_data(tmp_path: Path) -> None:
    interrupt(tmp_path / "file", b"12345", {"bytes": 3})
    with workspace_of(tmp_path / "file") as workspace:
        workspace.discard()
        assert (workspace.state, workspace.leftover) == (None, 0)
    assert not names(tmp_path)


def test_state_without_data_is_ignored(tmp_path: Path) -> None:
    """A crash while the workspace of a complete output is removed leaves such a state."""
    interrupt(tmp_path / "file", b"12345", {"bytes": 3})
    (tmp_path / ".file.partial" / "data").unlink()
    with workspace_of(tmp_path / "file") as workspace:
        assert workspace.state is None
    assert not names(tmp_path)


def test_shortened_data_are_reported(tmp_path: Path) -> None:
    interrupt(tmp_path / "file", b"12", {"bytes": 3})
    with (
        pytest.raises(ResumeError, match="the partial output of .*file is damaged"),
        workspace_of(tmp_path / "file") as workspace,
    ):
        workspace.open(keep=3)


@pytest.mark.parametrize("leave", ["file", "directory"])
def test_partial_output_of_an_earlier_version_is_reported(leave: str, tmp_path: Path) -> None:
    partial, journal = tmp_path / ".file.partial", tmp_path / ".file.journal"
    journal.touch()
    if leave == "file":
        partial.write_bytes(b"x")
    else:
        partial.mkdir()
        (partial / "vectors.npy").touch()
    with pytest.raises(ResumeError, match="was started by another version"):
        workspace_of(tmp_path / "file")
    assert names(tmp_path) == {".file.partial", ".file.journal"}
    with workspace_of(tmp_path / "file", restart=True) as workspace:
        assert workspace.leftover == 0
    assert not names(tmp_path)


def test_state_of_another_version_is_reported(tmp_path: Path) -> None:
    interrupt(tmp_path / "file", b"12345", {"bytes": 3})
    state = tmp_path / ".file.partial" / "state.json"
    state.write_text(json.dumps({"format": "bert-tokemb partial output 1", "state": {}}))
    with pytest.raises(ResumeError, match="was started by another version"):
        workspace_of(tmp_path / "file")
    with workspace_of(tmp_path / "file", restart=True) as workspace:
        assert workspace.state is None


def test_only_the_latest_waiting_state_is_saved(tmp_path: Path) -> None:
    """While one state is being saved, those in between are skipped."""
    saved: list[Any] = []
    saving, may_continue = threading.Event(), threading.Event()

    class Observed(Workspace):
        def sync_data(self) -> None:
            super().sync_data()
            saving.set()
            may_continue.wait(60)
            saved.append(self.state)

    target = OutputTarget.resolve(str(tmp_path / "file"))
    with Observed(target) as workspace:
        write(workspace, b"x")
        workspace.checkpoint({"n": 0})
        assert saving.wait(60)
        for n in range(1, 5):
            workspace.checkpoint({"n": n})
        may_continue.set()
    assert saved == [None, {"n": 0}]
    with workspace_of(tmp_path / "file") as workspace:
        assert workspace.state == {"n": 4}


def test_state_is_not_saved_before_the_data(tmp_path: Path) -> None:
    class FullDisk(Workspace):
        def sync_data(self) -> None:
            raise OSError(28, os.strerror(28))

    with FullDisk(OutputTarget.resolve(str(tmp_path / "file"))) as workspace:
        write(workspace, b"x")
        workspace.checkpoint({"n": 0})
    assert not names(tmp_path)


# --- Locks ------------------------------------------------------------------------------------


def test_second_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with workspace_of(path) as workspace:
        write(workspace, b"x")
        with pytest.raises(OutputInUseError, match="another run is writing .*file"):
            workspace_of(path)
        commit(workspace)
    assert path.read_bytes() == b"x"
    with workspace_of(path):
        pass


@pytest.mark.parametrize("replaced", [False, True])
def test_removed_workspace_is_reported(replaced: bool, tmp_path: Path) -> None:
    """There is no result, and files that another run has put in its place stay."""
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with (  # noqa: PT012
        pytest.raises(OutputError, match="was removed while it was in use; run the command again"),
        workspace_of(path) as workspace,
    ):
        write(workspace, b"x")
        workspace.path.rename(tmp_path / "removed")
        other = workspace_of(path) if replaced else None
        commit(workspace)
    assert path.read_bytes() == b"older"
    if other:
        assert names(tmp_path) == {"file", "removed", ".file.partial"}
        with other:
            write(other, b"y")
            commit(other)
        assert path.read_bytes() == b"y"


def test_many_runs_take_turns(tmp_path: Path) -> None:
    """No run ever locks a workspace that another has removed."""
    path = tmp_path / "file"
    script = (
        "import sys\n"
        "from bert_tokemb.errors import OutputInUseError\n"
        "from bert_tokemb.storage.workspace import atomic_file\n"
        "done = 0\n"
        "while done < 50:\n"
        "    try:\n"
        "        with atomic_file(sys.argv[1]) as file: file.write(b'x' * 10)\n"
        "        done += 1\n"
        "    except OutputInUseError: pass\n"
    )
    runs = [subprocess.Popen([sys.executable, "-c", script, path]) for _ in range(2)]
    assert [run.wait(120) for run in runs] == [0, 0]
    assert names(tmp_path) == {"file"}
    assert path.read_bytes() == b"x" * 10


@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        os.mkfifo,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to("."),
        lambda path: (path / "foreign").mkdir(parents=True),
    ],
    ids=["file", "pipe", "dangling link", "link", "foreign directory"],
)
def test_something_else_with_the_name_of_the_workspace_stays(
    make: Callable[[Path], object], tmp_path: Path
) -> None:
    make(tmp_path / ".file.partial")
    before = names(tmp_path)
    with pytest.raises(OutputError, match=r"\.file\.partial is not a partial output; remove it"):
        workspace_of(tmp_path / "file")
    assert names(tmp_path) == before


def test_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write .*: No such file or directory"):
        workspace_of(tmp_path / "no" / "such" / "folder")


# --- Small files ------------------------------------------------------------------------------


def test_atomic_file_is_replaced_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with atomic_file(str(path)) as file:
        file.write(b"newer")
        assert path.read_bytes() == b"older"
    assert path.read_bytes() == b"newer"
    with suppress(ZeroDivisionError), atomic_file(str(path)) as file:
        file.write(b"never")
        _ = 1 / 0
    assert path.read_bytes() == b"newer"
    assert names(tmp_path) == {"file"}


def test_atomic_file_writes_to_streams_directly(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with atomic_file(f"/dev/fd/{write_end}") as file:
        file.write(b"x" * 10_000)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == b"x" * 10_000
    with atomic_file(os.devnull) as file:
        file.write(b"x")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("size", [10, 10_000])
def test_byte_writer_reports_a_full_disk(size: int) -> None:
    """The error is raised at the latest when the buffer is written at the end."""
    message = "cannot write /dev/full: No space left on device"
    with pytest.raises(OutputError, match=message), atomic_file("/dev/full") as file:
        file.write(bytes(size))


def test_byte_writer_keeps_the_order_of_small_and_large_data(tmp_path: Path) -> None:
    parts = [bytes([n]) * size for n, size in enumerate((3, 100_000, 5, 1 << 17, 8191, 8192, 0))]
    with (tmp_path / "file").open("wb") as file:
        writer = ByteWriter("file", file.fileno(), size=7)
        for part in parts:
            writer.write(memoryview(part))
        assert writer.size == 7 + sum(map(len, parts))
        writer.flush()
    assert (tmp_path / "file").read_bytes() == b"".join(parts)
