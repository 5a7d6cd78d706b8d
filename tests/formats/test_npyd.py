"""The ``.npyd`` directory: read by NumPy and by ``bert_tokemb.open``."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import bert_tokemb
from bert_tokemb.errors import InputError, OutputError
from bert_tokemb.formats.inspection import inspect
from support.memory import run_and_measure
from support.results import sentences_of, write_result
from support.tiny import rewrite

Arrays = list[np.ndarray]


def random_arrays(dtype: str = "float32", n: int = 20) -> Arrays:
    draw = np.random.default_rng(1)
    return [draw.normal(size=(i % 4, 3)).astype(dtype) for i in range(1, n + 1)]


def write(path: Path, arrays: Arrays) -> None:
    write_result(path, sentences_of(arrays), "npyd")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("n", [1, 20])
def test_numpy_reads_the_files(n: int, dtype: str, tmp_path: Path) -> None:
    path, arrays = tmp_path / "out.npyd", random_arrays(dtype, n)
    write(path, arrays)
    vectors, offsets = np.load(path / "vectors.npy"), np.load(path / "offsets.npy")
    assert (vectors.dtype, offsets.dtype) == (np.dtype(dtype), np.dtype(np.int64))
    assert offsets.tolist() == np.cumsum([0, *map(len, arrays)]).tolist()
    np.testing.assert_array_equal(vectors, np.concatenate(arrays))
    meta = json.loads((path / "meta.json").read_text())
    assert (meta["sentences"], meta["words"]) == (n, offsets[-1])
    assert (meta["width"], meta["dtype"]) == (3, dtype)


@pytest.mark.parametrize("blank_lines", [0, 3])
def test_result_without_words_has_an_empty_matrix(blank_lines: int, tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    write(path, [np.empty((0, 2), np.float32)] * blank_lines)
    assert np.load(path / "vectors.npy").shape == (0, 2)
    assert [array.shape for array in bert_tokemb.open(path)] == [(0, 2)] * blank_lines


def test_writer_accepts_other_memory_layouts(tmp_path: Path) -> None:
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    arrays = [wide[:, ::2], np.asfortranarray(wide[:, :3]), wide[:, 3:].astype(">f8")]
    write(tmp_path / "out.npyd", arrays)
    text = bert_tokemb.open(tmp_path / "out.npyd")
    np.testing.assert_array_equal(text.vectors, np.concatenate(arrays))


def test_open_returns_a_sequence_of_arrays(tmp_path: Path) -> None:
    arrays = random_arrays(n=20)
    write(tmp_path / "out.npyd", arrays)
    text = bert_tokemb.open(tmp_path / "out.npyd")
    assert len(text) == 20
    for i in range(-20, 20):
        np.testing.assert_array_equal(text[i], arrays[i])
    for array, other in zip(text, arrays, strict=True):
        np.testing.assert_array_equal(array, other)
    assert [len(array) for array in text[3:9:2]] == [len(array) for array in arrays[3:9:2]]
    for i in (20, -21):
        with pytest.raises(IndexError):
            text[i]


def test_open_is_a_context_manager(tmp_path: Path) -> None:
    write(tmp_path / "out.npyd", random_arrays())
    with bert_tokemb.open(str(tmp_path / "out.npyd")) as text:
        assert len(text) == 20


def test_arrays_are_writable_copies(tmp_path: Path) -> None:
    """Arrays stay valid when the files are removed."""
    path, arrays = tmp_path / "out.npyd", random_arrays()
    write(path, arrays)
    text = bert_tokemb.open(path)
    array = text[3]
    assert not np.shares_memory(array, text.vectors)
    del text
    shutil.rmtree(path)
    array += 1
    np.testing.assert_array_equal(array, arrays[3] + 1)


def test_access_does_not_read_the_whole_file(tmp_path: Path) -> None:
    """The file has a gigabyte and a half, most of it a hole, and half a gigabyte is allowed."""
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
    rewrite(path / "meta.json", words=words, sentences=2)
    script = "import bert_tokemb; print(bert_tokemb.open(sys.argv[1])[1].tolist())"
    row, peak = run_and_measure(script, path)
    assert row == b"[[2.0, 2.0, 2.0]]\n"
    assert peak * 1024 < 500e6


def test_open_reports_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*out.npyd: No such file"):
        bert_tokemb.open(tmp_path / "out.npyd")


@pytest.mark.parametrize("name", ["meta.json", "offsets.npy", "vectors.npy"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_open_refuses_pipes_and_devices(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    write(path, random_arrays())
    (path / name).unlink()
    if kind == "pipe":
        os.mkfifo(path / name)
    else:
        (path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=f"{name} is not a regular file"):
        bert_tokemb.open(path)


def test_open_refuses_other_directories(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a directory without meta.json is not a .npyd"):
        bert_tokemb.open(tmp_path)


ARCHIVE = io.BytesIO()
np.savez(ARCHIVE, np.arange(21))


@pytest.mark.parametrize(
    "changes",
    [
        {"words": 7},
        {"words": "20"},
        {"sentences": "20"},
        {"sentences": None},
        {"format": ...},
        {"words": ...},
        {"sentences": ...},
        {"width": ...},
        {"format": "other"},
    ],
    ids=str,
)
def test_open_refuses_wrong_metadata(changes: dict[str, object], tmp_path: Path) -> None:
    write(tmp_path / "out.npyd", random_arrays())
    rewrite(tmp_path / "out.npyd" / "meta.json", **changes)
    with pytest.raises(InputError, match="is damaged, or not a directory of arrays"):
        bert_tokemb.open(tmp_path / "out.npyd")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("meta.json", b"[]"),
        ("meta.json", b"{"),
        ("meta.json", b"[" * 200_000),
        ("meta.json", b"\xff"),
        ("offsets.npy", b""),
        ("offsets.npy", ARCHIVE.getvalue()),
        ("offsets.npy", b"PK\3\4, as an archive starts"),
        ("offsets.npy", b"\x93NUMPY\1\0\7\0{1L:'''"),
        ("offsets.npy", b"\x93NUMPY\1\0\7\0  a\n b"),
        ("offsets.npy", np.arange(21.0) * 1.5),
        ("offsets.npy", np.arange(21).astype("U2")),
        ("offsets.npy", np.zeros(21, "i8,i8")),
        ("offsets.npy", np.zeros((21, 1), int)),
        ("offsets.npy", np.array([0] * 20 + [30], np.int32)),
        ("offsets.npy", np.array([1] * 20 + [30])),
        ("offsets.npy", np.array([0] * 20 + [29])),
        ("vectors.npy", np.zeros((30, 3), int)),
    ],
)
def test_open_refuses_wrong_files(name: str, content: bytes | np.ndarray, tmp_path: Path) -> None:
    write(tmp_path / "out.npyd", random_arrays())
    assert len(bert_tokemb.open(tmp_path / "out.npyd").vectors) == 30
    path = tmp_path / "out.npyd" / name
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(InputError, match="is damaged, or not a directory of arrays"):
        bert_tokemb.open(tmp_path / "out.npyd")


def test_open_refuses_a_truncated_file(tmp_path: Path) -> None:
    write(tmp_path / "out.npyd", random_arrays())
    os.truncate(tmp_path / "out.npyd" / "vectors.npy", 100)
    with pytest.raises(InputError, match="is damaged, or not a directory of arrays"):
        bert_tokemb.open(tmp_path / "out.npyd")


def test_open_does_not_read_a_large_file_that_should_be_empty(tmp_path: Path) -> None:
    """A file without rows cannot be mapped, so it is read."""
    path = tmp_path / "out.npyd"
    write(path, random_arrays())
    np.save(path / "offsets.npy", np.zeros(21, int))
    rewrite(path / "meta.json", words=0)
    os.truncate(path / "vectors.npy", 1 << 33)
    with pytest.raises(InputError, match=r"vectors.npy is not empty"):
        bert_tokemb.open(path)


@pytest.mark.parametrize("middle", [(-1, 2), (2, 1), (1, 31), (1 << 62, 3), (-1 << 63, 3)])
def test_access_refuses_impossible_offsets(middle: tuple[int, int], tmp_path: Path) -> None:
    """Accessing an array checks its own offsets; ``inspect`` checks all."""
    path = tmp_path / "out.npyd"
    write(path, random_arrays())
    offsets = np.load(path / "offsets.npy")
    offsets[3:5] = middle
    np.save(path / "offsets.npy", offsets)
    text = bert_tokemb.open(path)
    assert [len(text[0]), len(text[1])] == [1, 2]
    for i in (3, -17):
        with pytest.raises(InputError, match=r"is damaged: array 3 has the impossible rows"):
            text[i]
    with pytest.raises(InputError, match=r"is damaged: array [234] has the impossible rows"):
        inspect(str(path))


@pytest.mark.parametrize(
    "metadata", ["{}", "[]", "no JSON", '{"format": "another"}', "[" * 100_000, None]
)
def test_directory_of_another_program_is_not_replaced(metadata: str | None, tmp_path: Path) -> None:
    path = tmp_path / "out.npyd"
    path.mkdir()
    if metadata:
        (path / "meta.json").write_text(metadata)
    with pytest.raises(OutputError, match="is not a result of this format, or contains other"):
        write_result(path, sentences_of([np.ones((1, 2), np.float32)]), "npyd")
    assert [entry.name for entry in path.iterdir()] == (["meta.json"] if metadata else [])
