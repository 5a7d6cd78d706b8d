"""HDF5 and Parquet files are whole or absent, though libraries in C write them."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError, OutputError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.registry import open_output
from bert_tokemb.storage.seekable_file import SeekableFile
from bert_tokemb.types import EmbeddedSentence
from support.command import Command
from support.standin import StandIn

BOTH = pytest.mark.parametrize("kind", ["h5", "parquet"])
NEEDS = {"h5": ("h5py", "hdf5"), "parquet": ("pyarrow", "parquet")}

# Sentences of one word, all different: HDF5 has much to say where they are.
WRITE = """
import sys
import numpy as np
from bert_tokemb.formats.registry import open_output
from bert_tokemb.formats.base import Content
from bert_tokemb.types import EmbeddedSentence
draw = np.random.default_rng(1)
with open_output(sys.argv[1], sys.argv[2]) as output:
    output.begin(Content(16, np.dtype(np.float32)))
    for line in range(1, int(sys.argv[3]) + 1):
        array = draw.normal(size=(1, 16)).astype(np.float32)
        output.write(EmbeddedSentence(line, [f"w{line}"], array))
"""


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def write(path: Path, kind: str) -> None:
    with open_output(str(path), kind) as output:
        output.begin(Content(2, np.dtype(np.float32)))
        output.write(EmbeddedSentence(1, ["a"], np.ones((1, 2), np.float32)))
    assert output.size == path.stat().st_size


def test_it_is_a_file_of_python(tmp_path: Path) -> None:
    with SeekableFile(str(tmp_path / "file")) as file:
        assert file.write(b"0123456789") == file.tell() == file.size == 10
        assert file.seek(8) == 8
        file.write(memoryview(b"abc"))
        assert file.seek(0, os.SEEK_END) == file.size == 11
        file.seek(7)
        buffer = bytearray(9)
        assert file.readinto(buffer) == 4
        assert buffer[:4] == b"7abc"
        file.truncate(9)
        assert file.seek(0, os.SEEK_END) == file.size == 9
    assert (tmp_path / "file").read_bytes() == b"01234567a"


@BOTH
def test_it_appears_when_it_is_complete(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"out.{kind}"
    path.write_bytes(b"older")
    path.chmod(0o600)
    with open_output(str(path), kind) as output:
        output.begin(Content(2, np.dtype(np.float32)))
        output.write(EmbeddedSentence(1, ["a"], np.ones((1, 2), np.float32)))
        assert path.read_bytes() == b"older"
        assert names(tmp_path) == {path.name, f".{path.name}.partial"}
    assert inspect(str(path)).words == 1
    assert names(tmp_path) == {path.name}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert output.size == path.stat().st_size


@BOTH
@pytest.mark.parametrize("sentences", [None, 0, 1, 3000])
def test_an_older_file_stays_when_something_goes_wrong(
    sentences: int | None, kind: str, tmp_path: Path
) -> None:
    """Before it is known what will come, and at any time after that."""
    path = tmp_path / f"out.{kind}"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt), open_output(str(path), kind) as output:  # noqa: PT012
        if sentences is not None:
            output.begin(Content(2, np.dtype(np.float32)))
            for line in range(sentences):
                output.write(EmbeddedSentence(line + 1, ["a"], np.ones((1, 2), np.float32)))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == {path.name}


@BOTH
@pytest.mark.parametrize("limit", [0, 1, 1000, 50_000, 200_000, 1 << 20, 3 << 20])
def test_a_disk_that_is_full(limit: int, kind: str, tmp_path: Path) -> None:
    """Whenever it is: nothing stays, and no library has anything to add when the program ends."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE, tmp_path / f"out.{kind}", kind, "60000"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("bert_tokemb.errors.OutputError: cannot write ")
    assert last.endswith(f"out.{kind}: File too large")
    assert names(tmp_path) == set()


# HDF5 writes 3000 sentences first and then where they are.
@pytest.mark.parametrize(
    ("kind", "call"), [("h5", 1), ("h5", 3010), ("parquet", 1), ("parquet", 3)]
)
def test_a_signal_while_the_library_writes(kind: str, call: int, tmp_path: Path) -> None:
    """It is neither lost in there nor taken for an error."""
    script = f"""
import os, signal
from bert_tokemb.storage import seekable_file
calls = iter(range(1, 1 << 20))
def stopped(*arguments):
    if next(calls) == {call}:
        os.kill(os.getpid(), signal.SIGTERM)
    return pwrite(*arguments)
pwrite, seekable_file.os.pwrite = os.pwrite, stopped
from bert_tokemb.cli import main as cli
cli.run = lambda: exec({WRITE!r}, globals())
from bert_tokemb.__main__ import main
main()
"""
    path = tmp_path / f"out.{kind}"
    done = subprocess.run(
        [sys.executable, "-c", script, path, kind, "3000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 143, done.stderr
    assert done.stderr == "bert-tokemb: stopped by SIGTERM, no file was written\n"
    assert names(tmp_path) == set()


@BOTH
def test_an_interrupted_run_is_begun_anew(kind: str, run: Command, tmp_path: Path) -> None:
    """Nothing stays of it; nor does what a killed one has left do any harm."""
    path = tmp_path / f"out.{kind}"
    (tmp_path / "text").write_text("a\n" * 1000)
    (tmp_path / f".{path.name}.partial").write_bytes(b"left" * 100_000)

    def stop(server: StandIn, *request: object) -> list[list[bytes]]:
        process.terminate()
        return []

    with StandIn(fault=stop) as server:
        command = ["embed", "text", "-o", path.name, "--server", str(server.address)]
        process = subprocess.Popen(
            [sys.executable, "-m", "bert_tokemb", *command],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.communicate()[1] == "bert-tokemb: stopped by SIGTERM, no file was written\n"
        assert process.returncode == 143
        assert names(tmp_path) == {"text"}
        server.fault = None
        done = run(*command, cwd=tmp_path)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert names(tmp_path) == {"text", path.name}
    assert inspect(str(path)).sentences == 1000


@BOTH
def test_nobody_goes_on_with_one(kind: str, tmp_path: Path) -> None:
    with open_output(str(tmp_path / "out"), kind) as output:
        content = Content(2, np.dtype(np.float32))
        assert not output.begin(content, {"bytes": 1})
        assert output.begin(content)
        assert not output.can_go_on


@BOTH
def test_a_package_that_is_missing(kind: str, run: Command, tmp_path: Path) -> None:
    """Told before anything is computed."""
    package, extra = NEEDS[kind]
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "sitecustomize.py").write_text(
        f"import sys\nsys.modules[{package!r}] = None\n"
    )
    env = {"PYTHONPATH": str(tmp_path / "packages")}
    (tmp_path / "text").write_text("a\n")
    common = {"cwd": tmp_path, "env": env}
    with StandIn() as server:
        done = run("embed", "text", "-o", f"x.{kind}", "--server", server.address, **common)
        assert not server.requests
    feature = f"reading or writing .{kind} files"
    message = f"pip install 'bert-tokemb[{extra}]': {feature} needs the missing package {package}\n"
    assert (done.returncode, done.stderr) == (1, f"bert-tokemb: error: {message}")
    assert names(tmp_path) == {"packages", "text"}
    write(tmp_path / f"x.{kind}", kind)
    done = run("info", f"x.{kind}", **common)
    assert (done.returncode, done.stderr) == (1, f"bert-tokemb: error: {message}")


ENDING = """
import os, signal
from bert_tokemb.formats.{module} import {output} as Output
def finish(self, finish=Output._finish):
    os.kill(os.getpid(), signal.SIGTERM)
    finish(self)
Output._finish = finish
from bert_tokemb.__main__ import main
main()
"""


@pytest.mark.parametrize(("kind", "output"), [("hdf5", "Hdf5Output"), ("parquet", "ParquetOutput")])
def test_what_ends_it_may_be_interrupted(
    kind: str, output: str, server: StandIn, tmp_path: Path
) -> None:
    """Of a long text it takes its time."""
    (tmp_path / "text").write_text("a\n")
    name = {"hdf5": "x.h5"}.get(kind, "x.parquet")
    arguments = ["embed", "text", "-o", name, "--server", str(server.address)]
    done = subprocess.run(
        [sys.executable, "-c", ENDING.format(module=kind, output=output), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 143, done.stderr
    assert names(tmp_path) == {"text"}


@BOTH
def test_standard_output_takes_none(kind: str, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    done = run("embed", tmp_path / "text", "-o", "-", "--format", kind)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--format {kind} cannot be written to standard output, only pkl can" in done.stderr


@BOTH
def test_what_is_no_regular_file(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    read_end, write_end = os.pipe()
    for name in (os.devnull, f"/dev/fd/{write_end}", tmp_path / "pipe"):
        with pytest.raises(OutputError, match=f"cannot write {name}: it is no regular file"):
            open_output(str(name), kind)
    os.close(read_end)
    os.close(write_end)
    assert names(tmp_path) == {"pipe"}


@BOTH
@pytest.mark.parametrize(
    ("name", "reason"), [(".", "Is a directory"), ("no/such/folder", "No such file or directory")]
)
def test_places_that_cannot_be_written(
    name: str, reason: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=f"cannot write {name}: {reason}"):
        open_output(name, kind)


@BOTH
def test_there_is_nothing_to_look_at(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*: No such file or directory"):
        inspect(str(tmp_path / f"x.{kind}"))
