"""The pickle, read by old and new Pythons, and the file that is whole or absent."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import os
import pickle
import pickletools
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from bert_tokemb.storage.beside import names_of
from bert_tokemb.storage.whole_file import WholeFile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bert_tokemb.errors import OutputError, UsageError
from bert_tokemb.formats.pickle import PickleOutput
from bert_tokemb.formats.registry import format_of
from support.interpreters import environment

Arrays = list[np.ndarray]


def pickled(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    output = PickleOutput(file)
    for array in arrays:
        output.write(array)
    output.end()
    return file.getvalue()


SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 9))


@given(
    arrays=st.sampled_from([np.float32, np.float16]).flatmap(
        lambda dtype: st.lists(hnp.arrays(dtype, SHAPES), max_size=5)
    )
)
def test_it_is_the_pickle_of_the_list(arrays: Arrays) -> None:
    loaded = pickle.loads(pickled(arrays))
    assert type(loaded) is list
    assert len(loaded) == len(arrays)
    for array, other in zip(loaded, arrays, strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == other.dtype
        assert array.tobytes() == other.tobytes()
        assert array.shape == other.shape
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_it_names_nothing_but_what_every_numpy_has() -> None:
    data = pickled([np.ones((2, 3), np.float32), np.ones((1, 3), np.float32)])
    texts = [arg for op, arg, _ in pickletools.genops(data) if op.name == "SHORT_BINUNICODE"]
    assert set(texts) - {"f4", "<"} == {
        "numpy.core.multiarray",
        "_reconstruct",
        "numpy",
        "ndarray",
        "dtype",
    }
    assert max(op.proto for op, _, _ in pickletools.genops(data)) == 4
    pickletools.dis(data, out=io.StringIO())  # raises where the stack or the memo are misused


def test_arrays_of_another_layout() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    (loaded,) = pickle.loads(pickled([wide[:, ::2]]))
    np.testing.assert_array_equal(loaded, wide[:, ::2])
    (loaded,) = pickle.loads(pickled([wide.astype(">f4")]))
    np.testing.assert_array_equal(loaded, wide)


def test_arrays_of_several_types_are_a_bug() -> None:
    output = PickleOutput(io.BytesIO())
    output.write(np.ones((1, 1), np.float32))
    with pytest.raises(ValueError, match="float16 among float32"):
        output.write(np.ones((1, 1), np.float16))


READ = """
import json, pickle, sys, warnings
warnings.simplefilter("error")
import numpy
with open(sys.argv[1], "rb") as file:
    arrays = pickle.load(file)
assert type(arrays) is list
for array in arrays:
    assert type(array) is numpy.ndarray and array.flags.writeable and array.flags.c_contiguous
    array += 1
    array -= 1
print(json.dumps([numpy.__version__, [str(a.dtype) for a in arrays], [a.tolist() for a in arrays]]))
"""


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("python", "numpy"),
    [("3.6", "numpy==1.13.3"), ("3.7", "numpy==1.18.5"), ("3.13", "numpy>=2.1,<3")],
)
def test_old_and_new_pythons_read_it(python: str, numpy: str, dtype: type, tmp_path: Path) -> None:
    arrays = [np.arange(n * 40, dtype=dtype).reshape(n, 40) / 8 for n in (2, 0, 17, 1)]
    path = tmp_path / "output.pkl"
    path.write_bytes(pickled(arrays))
    interpreter = environment(python, [numpy])
    done = subprocess.run(
        [interpreter, "-c", READ, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    version, dtypes, values = json.loads(done.stdout)
    assert version.startswith("2." if python == "3.13" else "1.")
    assert dtypes == [np.dtype(dtype).name] * 4
    assert values == [array.tolist() for array in arrays]


# --- Whole or absent --------------------------------------------------------------------------


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_it_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    with WholeFile(str(path)) as file:
        file.write(b"new")
        file.write(memoryview(bytes(100_000)))
        file.write(b"er")
        assert path.read_bytes() == b"older"
        assert names(tmp_path) == {"file", ".file.new"}
    assert path.read_bytes() == b"new" + bytes(100_000) + b"er"
    assert file.size == 100_005
    assert names(tmp_path) == {"file"}


def test_an_older_file_stays_when_something_goes_wrong(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"older")
    file = WholeFile(str(path))
    with suppress(KeyboardInterrupt), file:
        file.write(b"new" * 100_000)
        raise KeyboardInterrupt
    assert file.size == 300_000
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == {"file"}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    with WholeFile(str(tmp_path / "ours")):
        pass
    (tmp_path / "other").touch()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_permissions_of_an_older_file_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o600)
    with WholeFile(str(path)):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_was_private_stays_so_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o400)
    with WholeFile(str(path)) as file:
        file.write(b"x")
        assert stat.S_IMODE((tmp_path / ".file.new").stat().st_mode) == 0o600
    assert stat.S_IMODE(path.stat().st_mode) == 0o400


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can be put into it all the same."""

    def open_file(
        path: str | Path, flags: int, *more: int, old: Callable[..., int] = os.open
    ) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return old(path, flags, *more)

    monkeypatch.setattr(os, "open", open_file)
    with WholeFile(str(tmp_path / "file")) as file:
        file.write(b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_report_leaves_what_a_result_has_kept(tmp_path: Path) -> None:
    """Of the same name, which an interrupted run is to have, or one that is under way."""
    for make in (Path.mkdir, Path.touch):
        make(tmp_path / ".file.partial")
        with WholeFile(str(tmp_path / "file")):
            pass
        assert names(tmp_path) == {"file", ".file.partial"}
        (tmp_path / "file").unlink()
        if (tmp_path / ".file.partial").is_dir():
            (tmp_path / ".file.partial").rmdir()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.H5", "h5"), ("a.Hdf5", "h5"), ("a.NPYD", "npyd"), ("A.PARQUET", "parquet"), ("a", "pkl")],
)
def test_the_extension_says_the_format(name: str, kind: str) -> None:
    assert format_of(name) == kind
    assert format_of(name, "npyd") == "npyd"


@pytest.mark.parametrize("ending", ["gz", "BZ2", "xz", "zst"])
def test_results_are_not_compressed(ending: str) -> None:
    """Though texts may be; a name that says so would be a lie."""
    with pytest.raises(UsageError, match=r"out.pkl.* results are not compressed"):
        format_of(f"out.pkl.{ending}")
    assert format_of(f"out.pkl.{ending}", "pkl") == "pkl"


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_names(name: str, tmp_path: Path) -> None:
    with WholeFile(str(tmp_path / name)) as file:
        file.write(b"x")
    assert names(tmp_path) == {name}


def test_long_names_that_begin_alike(tmp_path: Path) -> None:
    one, other = (str(tmp_path / f"{'x' * 250}{n}") for n in range(2))
    with WholeFile(one) as file, WholeFile(other) as second:
        file.write(b"one")
        second.write(b"other")
    assert (Path(one).read_bytes(), Path(other).read_bytes()) == (b"one", b"other")
    for name in (one, other):
        assert all(len(os.fsencode(path.name)) <= 255 for path in names_of(name))
    assert not set(names_of(one)) & set(names_of(other))


def test_two_write_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with WholeFile(str(path)) as file:
        file.write(b"x" * 100_000)
        with pytest.raises(OutputError, match="another run is writing .*file: wait for it, or"):
            WholeFile(str(path))
    assert path.read_bytes() == b"x" * 100_000
    with WholeFile(str(path)) as file:
        file.write(b"y")
    assert path.read_bytes() == b"y"


@pytest.mark.parametrize("other", [None, b"another's"])
def test_somebody_has_removed_what_was_written(other: bytes | None, tmp_path: Path) -> None:
    """Then there is no result; and what another run has put there stays."""
    partial = tmp_path / ".file.new"
    (tmp_path / "file").write_bytes(b"older")
    message = f"cannot write .*file: somebody has removed {partial}, into which it was written"
    with (  # noqa: PT012
        pytest.raises(OutputError, match=message),
        WholeFile(str(tmp_path / "file")) as file,
    ):
        file.write(b"x")
        partial.unlink()
        if other:
            partial.write_bytes(other)
    assert (tmp_path / "file").read_bytes() == b"older"
    assert (partial.read_bytes() if partial.exists() else None) == other


def test_what_was_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.new").write_bytes(b"x" * 100)
    with WholeFile(str(tmp_path / "file")) as file:
        file.write(b"y")
    assert (tmp_path / "file").read_bytes() == b"y"


def test_one_is_opened_when_another_takes_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened before that, and locked after it, is the other's result."""
    path, lock, first = tmp_path / "file", fcntl.flock, [True]

    def lock_late(descriptor: int, how: int) -> None:
        if first:
            first.clear()
            with WholeFile(str(path)) as other:
                other.write(b"other")
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with pytest.raises(ZeroDivisionError), WholeFile(str(path)) as file:  # noqa: PT012
        file.write(b"x" * 100_000)
        _ = 1 / 0
    assert path.read_bytes() == b"other"
    assert names(tmp_path) == {"file"}


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    hidden = tmp_path / ".file.new"
    for make in (lambda: hidden.symlink_to(tmp_path), lambda: hidden.symlink_to("text"),
                 lambda: os.mkfifo(hidden)):  # fmt: skip
        make()
        with pytest.raises(OutputError, match=r"\.file\.new is not what a run leaves there"):
            WholeFile(str(tmp_path / "file"))
        hidden.unlink()


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    with WholeFile(f"/dev/fd/{write_end}") as file:
        file.write(b"x" * 10_000)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert reader.read() == b"x" * 10_000


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    with WholeFile(str(tmp_path / "link")) as file:
        file.write(b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_bytes() == b"x"


def test_a_device_is_written_to_and_not_replaced() -> None:
    with WholeFile(os.devnull) as file:
        file.write(b"x" * 10_000)
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize("size", [10, 10_000])
def test_a_full_disk(size: int) -> None:
    """Told at the latest at the end, when what was gathered is written."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    message = "cannot write /dev/full: No space left on device"
    with pytest.raises(OutputError, match=message), WholeFile("/dev/full") as file:
        file.write(bytes(size))


@pytest.mark.parametrize(
    ("name", "reason"), [(".", "Is a directory"), ("no/such/folder", "No such file or directory")]
)
def test_places_that_cannot_be_written(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=f"cannot write {name}: {reason}"):
        WholeFile(name)


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """A write that the system refuses in the middle of a file leaves nothing behind."""
    script = (
        "import sys\n"
        "from bert_tokemb.storage.whole_file import WholeFile\n"
        "with WholeFile(sys.argv[1]) as file:\n"
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
