"""The pickle: written as a stream, loaded by old and new Pythons, read by our reader."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import subprocess
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bert_tokemb.errors import InputError
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.pickle import PickleReader, PickleWriter
from support.interpreters import environment
from support.results import sentences_of

Arrays = list[np.ndarray]

PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
OTHER_LAYOUTS = [np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.ones((2, 4), ">f4")[:, ::-2]]
ARRAYS = [
    np.array([[1, -2, 3], [0, 0, 0]], np.float32),
    np.zeros((0, 3), np.float32),
    np.array([[0, 0.5, -1]], np.float16),
    np.full((20, 30), 7, np.float64),
]


def pickled(arrays: Arrays) -> bytes:
    content = Content(1, arrays[0].dtype if arrays else np.dtype(np.float32))
    with tempfile.TemporaryFile() as file:
        writer = PickleWriter("file", lambda **_: file.fileno(), content)
        for sentence in sentences_of(arrays):
            writer.write(sentence)
        writer.finish()
        file.seek(0)
        return file.read()


def read(content: bytes) -> Arrays:
    return list(PickleReader("it", io.BytesIO(content)))


# --- Writing ----------------------------------------------------------------------------------


SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 9))


@given(
    arrays=st.sampled_from([np.float32, np.float16]).flatmap(
        lambda dtype: st.lists(hnp.arrays(dtype, SHAPES), max_size=5)
    )
)
def test_stream_loads_as_the_list_of_arrays(arrays: Arrays) -> None:
    loaded = pickle.loads(pickled(arrays))
    assert type(loaded) is list
    for array, other in zip(loaded, arrays, strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == other.dtype
        assert array.tobytes() == other.tobytes()
        assert array.shape == other.shape
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_stream_refers_only_to_names_of_every_numpy() -> None:
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
    pickletools.dis(data, out=io.StringIO())  # raises if the stack or the memo are misused


def test_stream_accepts_other_memory_layouts() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    (loaded,) = pickle.loads(pickled([wide[:, ::2]]))
    np.testing.assert_array_equal(loaded, wide[:, ::2])
    (loaded,) = pickle.loads(pickled([wide.astype(">f4")]))
    np.testing.assert_array_equal(loaded, wide)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_stream_continues_after_any_array(before: int) -> None:
    arrays = [np.full((2, 3), n, np.float32) for n in range(3)]
    content = Content(3, np.dtype(np.float32))
    with tempfile.TemporaryFile() as file:
        writer = PickleWriter("file", lambda **_: file.fileno(), content)
        for sentence in sentences_of(arrays[:before]):
            writer.write(sentence)
        position = writer.position()
        assert position["bytes"] == file.seek(0, os.SEEK_END) == writer.size
        writer = PickleWriter("file", lambda **_: file.fileno(), content, position)
        for sentence in sentences_of(arrays[before:]):
            writer.write(sentence)
        writer.finish()
        file.seek(0)
        assert file.read() == pickled(arrays)


LOAD = """
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
DUMP = """
import pickle, sys
import numpy
arrays = [numpy.arange(n * 40, dtype="f4").reshape(n, 40) / 8 for n in (2, 0, 17, 1)]
arrays += [numpy.asfortranarray(arrays[2]), arrays[0].astype(">f4"), arrays[0]]
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    with open("%s.%d" % (sys.argv[1], protocol), "wb") as file:
        pickle.dump(arrays, file, protocol)
"""
OLD_AND_NEW = pytest.mark.parametrize(
    ("python", "numpy"),
    [("3.6", "numpy==1.13.3"), ("3.7", "numpy==1.18.5"), ("3.13", "numpy>=2.1,<3")],
)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@OLD_AND_NEW
def test_stream_loads_in_old_and_new_pythons(
    python: str, numpy: str, dtype: type, tmp_path: Path
) -> None:
    arrays = [np.arange(n * 40, dtype=dtype).reshape(n, 40) / 8 for n in (2, 0, 17, 1)]
    path = tmp_path / "output.pkl"
    path.write_bytes(pickled(arrays))
    done = subprocess.run(
        [environment(python, [numpy]), "-c", LOAD, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    version, dtypes, values = json.loads(done.stdout)
    assert version.startswith("2." if python == "3.13" else "1.")
    assert dtypes == [np.dtype(dtype).name] * 4
    assert values == [array.tolist() for array in arrays]


# --- Reading ----------------------------------------------------------------------------------


def test_reader_reads_the_stream() -> None:
    arrays = [array.astype(np.float32) for array in ARRAYS]
    for array, other in zip(read(pickled(arrays)), arrays, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


def test_reader_opens_a_path(tmp_path: Path) -> None:
    (tmp_path / "out.pkl").write_bytes(pickled(ARRAYS[:2]))
    with PickleReader(str(tmp_path / "out.pkl")) as reader:
        assert list(reader.map(len)) == [2, 0]
    with pytest.raises(InputError, match=r"cannot read .*missing: No such file or directory"):
        PickleReader(str(tmp_path / "missing"))


@PROTOCOLS
def test_reader_reads_every_protocol(protocol: int) -> None:
    arrays = [*ARRAYS, *OTHER_LAYOUTS]
    for array, other in zip(read(pickle.dumps(arrays, protocol)), arrays, strict=True):
        np.testing.assert_array_equal(array, other)
        assert array.dtype == other.dtype


@pytest.mark.slow
@OLD_AND_NEW
def test_reader_reads_pickles_of_old_and_new_pythons(
    python: str, numpy: str, tmp_path: Path
) -> None:
    subprocess.run([environment(python, [numpy]), "-c", DUMP, tmp_path / "pickle"], check=True)
    arrays = [np.arange(n * 40, dtype="f4").reshape(n, 40) / 8 for n in (2, 0, 17, 1)]
    paths = list(tmp_path.iterdir())
    assert len(paths) == (6 if python == "3.13" else 5)
    for path in paths:
        found = read(path.read_bytes())
        for array, other in zip(found, [*arrays, arrays[2], arrays[0], arrays[0]], strict=True):
            np.testing.assert_array_equal(array, other)


@PROTOCOLS
def test_reader_repeats_arrays_that_are_listed_several_times(protocol: int) -> None:
    one, other, blank = np.ones((2, 300)), np.zeros((1, 300)), np.empty((0, 300))
    content = pickle.dumps([one, one, other, blank, other, blank, one], protocol)
    calls = []
    lengths = PickleReader("it", io.BytesIO(content)).map(lambda a: calls.append(a) or len(a))
    assert list(lengths) == [2, 2, 1, 0, 1, 0, 2]
    assert len(calls) == 3


@PROTOCOLS
def test_reader_accepts_arrays_that_share_small_data(protocol: int) -> None:
    """NumPy returns the same object as the data of all empty arrays, and of equal single bytes."""
    arrays = [np.zeros((0, 3), "f2")] * 2 + [np.zeros((n, 3), "f4") for n in [0] * 500]
    arrays += [np.ones((1, 1), bool) for _ in range(3)]
    assert len(read(pickle.dumps(arrays, protocol))) == 505


@PROTOCOLS
def test_reader_frees_data_although_pickle_dump_memoizes_it(protocol: int) -> None:
    arrays = [np.frombuffer(b"abcd" * (1 << 18), np.float32).reshape(-1, 256) for _ in range(10)]
    file = io.BytesIO(pickle.dumps(arrays, protocol))
    tracemalloc.start()
    try:
        assert list(PickleReader("it", file).map(len)) == [1024] * 10
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Protocols 0 to 2 need the line, the text and the bytes of one array of 1 MiB.
    assert peak < 4 << 20


def test_reader_reports_files_that_cannot_be_read() -> None:
    with (
        Path("/proc/self/mem").open("rb") as file,
        pytest.raises(InputError, match="cannot read it: "),
    ):
        list(PickleReader("it", file))


def test_errors_of_the_caller_are_not_taken_for_damage() -> None:
    with pytest.raises(ValueError, match="the caller's"):
        list(PickleReader("it", io.BytesIO(pickled(ARRAYS[:1]))).map(fail))


def fail(array: np.ndarray) -> None:
    raise ValueError("the caller's")
