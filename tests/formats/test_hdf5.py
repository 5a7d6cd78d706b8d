"""HDF5 as AllenNLP's ``elmo`` wrote it: read by h5py, and by those who read that."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from bert_tokemb.errors import InputError, OutputError
from bert_tokemb.formats import hdf5
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.hdf5 import Hdf5Output, Hdf5Reader, Hdf5Shape
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.types import EmbeddedSentence
from support.command import Command, load
from support.memory import run_and_measure
from support.standin import StandIn

TEXT = "Hello World !\n\nGr\u00fc\u00dfe aus \u6771\u4eac\nhank\nHello  World !\n"
ABOUT = {"strategy": "avg"}
LINES = [line.split() for line in TEXT.splitlines()]


def write(path: Path, dtype: str = "float32", shape: Hdf5Shape = "2d", lines: int = 5) -> None:
    """Write lines with, in each row, the numbers of line and word."""
    with Hdf5Output(str(path), shape) as output:
        output.begin(Content(2, np.dtype(dtype), ABOUT))
        for line, words in enumerate(LINES[:lines], 1):
            array = np.array([[line, j] for j in range(len(words))], dtype).reshape(-1, 2)
            output.write(EmbeddedSentence(line, words, array))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", ["2d", "3d"])
def test_h5py_reads_it(shape: Hdf5Shape, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    write(path, dtype, shape)
    with h5py.File(path) as file:
        assert set(file) == {"0", "1", "2", "3", "4", "sentence_to_index"}
        for i, words in enumerate(LINES):
            expected = np.array([[i + 1, j] for j in range(len(words))], dtype).reshape(-1, 2)
            found = file[str(i)][()]
            assert found.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(
                found, expected[np.newaxis] if shape == "3d" else expected
            )
            assert found.shape[-2:] == (len(words), 2)


def test_as_probing_tools_read_it(tmp_path: Path) -> None:
    """What they do: the sentence's text, through the index, to its array."""
    write(tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        index = file["sentence_to_index"]
        assert (index.shape, h5py.check_string_dtype(index.dtype).length) == ((1,), None)
        sentence_to_index = json.loads(file["sentence_to_index"][0])
        # Of the first and the last, which are equal but for a space, the first.
        assert sentence_to_index == {
            "Hello World !": "0",
            "": "1",
            "Gr\u00fc\u00dfe aus \u6771\u4eac": "2",
            "hank": "3",
        }
        assert file[sentence_to_index["hank"]][0, 0] == 4


def test_without_sentences(tmp_path: Path) -> None:
    write(tmp_path / "out.h5", lines=0)
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["sentence_to_index"]
        assert json.loads(file["sentence_to_index"][0]) == {}
    assert inspect(str(tmp_path / "out.h5")).sentences == 0


def test_the_same_text_gives_the_same_file(tmp_path: Path) -> None:
    write(tmp_path / "a")
    time.sleep(1.1)  # HDF5's clock has seconds
    write(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("blank_lines", ["keep", "skip"])
@pytest.mark.parametrize("name", ["out.h5", "out.hdf5", "out"])
def test_the_command(
    name: str, blank_lines: str, server: StandIn, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    common = ("embed", tmp_path / "text", "--server", server.address, "--blank-lines", blank_lines)
    form = ["--format", "h5"] if name == "out" else []
    done = run(*common, "-o", tmp_path / name, *form)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert run(*common, "-o", tmp_path / "pkl").returncode == 0
    keys = ["0", "1", "2", "3", "4"] if blank_lines == "keep" else ["0", "2", "3", "4"]
    with h5py.File(tmp_path / name) as file:
        assert set(file) == {*keys, "sentence_to_index"}
        assert ("" in json.loads(file["sentence_to_index"][0])) == (blank_lines == "keep")
        for key, array in zip(keys, load(tmp_path / "pkl"), strict=True):
            np.testing.assert_array_equal(file[key], array)
            assert file[key].shape == array.shape


def test_the_shape_is_chosen(server: StandIn, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    common = ("embed", tmp_path / "text", "--server", server.address)
    for options, env in ((["--hdf5-shape", "3d"], {}), ([], {"BERT_TOKEMB_HDF5_SHAPE": "3d"})):
        output = tmp_path / "out.h5"
        done = run(*common, "-o", output, "--dtype", "float16", *options, env=env)
        assert done.returncode == 0, done.stderr
        with h5py.File(output) as file:
            assert (file["0"].shape, file["1"].shape) == ((1, 3, 8), (1, 0, 8))
            assert file["0"].dtype == np.float16
        output.unlink()


@pytest.mark.parametrize("name", ["out.pkl", "out.parquet", "out.npyd", "-"])
def test_the_shape_belongs_to_it(name: str, server: StandIn, run: Command, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a\n")
    common = ("embed", "text", "-o", name, "--quiet", "--server", server.address)
    done = run(*common, "--hdf5-shape", "2d", cwd=tmp_path)
    assert done.returncode == 2
    assert "--hdf5-shape applies only to HDF5" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    # Of an environment nobody knows for which output it was set.
    env = {"BERT_TOKEMB_HDF5_SHAPE": "3d"}
    done = run(*common, env=env, cwd=tmp_path, text=None, encoding=None)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_index_that_hdf5_cannot_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hdf5, "_LARGEST_INDEX", 50)
    write(tmp_path / "short.h5", lines=2)
    with pytest.raises(OutputError, match="its sentence_to_index is longer than HDF5 allows"):
        write(tmp_path / "long.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["short.h5"]


@pytest.mark.parametrize("shape", ["2d", "3d"])
def test_a_look_at_it(shape: Hdf5Shape, tmp_path: Path, run: Command) -> None:
    write(tmp_path / "out.h5", shape=shape)
    seen = inspect(str(tmp_path / "out.h5"))
    assert (seen.sentences, seen.blank, seen.words) == (5, 1, 10)
    assert (seen.widths, seen.types, seen.least, seen.most) == ({2}, {"float32"}, 0, 5)
    assert seen.about == {"strategy": "avg"}
    # By what is in it, whatever its name.
    (tmp_path / "out.h5").rename(tmp_path / "out")
    done = run("info", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out: an HDF5 file, " in done.stdout
    assert re.search("\n  strategy +avg\n", done.stdout)


def test_sentences_are_looked_at_in_their_order(tmp_path: Path) -> None:
    """Names are sorted as numbers are: 10 comes after 9."""
    with Hdf5Output(str(tmp_path / "out.h5")) as output:
        output.begin(Content(1, np.dtype("float32")))
        for line in range(1, 13):
            output.write(EmbeddedSentence(line, ["a"], np.full((1, 1), line, np.float32)))
    with Hdf5Reader(str(tmp_path / "out.h5")) as reader:
        assert [array[0, 0] for array in reader] == list(range(1, 13))


def test_one_by_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "elmo.hdf5"
    with h5py.File(path, "w") as file:
        file["0"] = np.ones((2, 4), np.float32)
        file["sentence_to_index"] = [json.dumps({"a b": "0"})]
    seen = inspect(str(path))
    assert (seen.sentences, seen.words, seen.about) == (1, 2, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"0": np.ones((3, 2, 4), "f4")}, "holds no word vectors: its array 1 is of float32"),
        ({"0": np.ones((2, 4), "i4")}, "/0 is no dataset of floats"),
        ({"0": "text"}, "/0 is no dataset of floats"),
        ({"0/a": np.ones((2, 4), "f4")}, "/0 is no dataset of floats"),
        ({"vectors": np.ones((2, 4), "f4")}, "has no datasets named by numbers"),
        ({}, "has no datasets named by numbers"),
    ],
)
def test_other_hdf5_files(content: dict[str, object], message: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name, value in content.items():
            file[name] = value
    with pytest.raises(InputError, match=message):
        inspect(str(tmp_path / "other.h5"))


def test_what_it_tells_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    for told in ("[" * 60_000, "{"):
        write(path)
        with h5py.File(path, "r+") as file:
            file.attrs["bert_tokemb"] = np.bytes_(told.encode())
        with pytest.raises(InputError, match="is damaged, or no HDF5 file"):
            inspect(str(path))


def test_damaged_ones(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "out.h5"
    write(path)
    whole = path.read_bytes()
    for end in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="is damaged, or no HDF5 file"):
            inspect(str(path))
    for i in range(0, len(whole), 7):
        turned = bytearray(whole)
        turned[i] ^= 0x55
        path.write_bytes(turned)
        try:
            inspect(str(path))
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
    path.write_bytes(whole[:100])
    done = run("info", path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_memory_is_that_of_the_index(tmp_path: Path) -> None:
    """400 MB; HDF5 keeps 32 MiB of what tells where the datasets lie."""
    script = """
import sys
import numpy as np
from bert_tokemb.formats.hdf5 import Hdf5Output
from bert_tokemb.formats.base import Content
from bert_tokemb.types import EmbeddedSentence
array, words = np.ones((40, 256), np.float32), ["word"] * 40
with Hdf5Output(sys.argv[1]) as output:
    output.begin(Content(256, array.dtype))
    for line in range(int(sys.argv[2])):
        output.write(EmbeddedSentence(line + 1, words, array))
"""
    few, many = (
        run_and_measure(script, tmp_path / "out.h5", str(lines))[1] for lines in (100, 10_000)
    )
    assert (tmp_path / "out.h5").stat().st_size > 400e6
    assert many < few + (48 << 10), (few, many)
    print(f"{few / 1024:.0f} MiB for 100 sentences, {many / 1024:.0f} for 10,000")
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, reading = run_and_measure(script, tmp_path / "out.h5")
    assert int(words) == 400_000
    assert reading < few + (48 << 10), (few, reading)
