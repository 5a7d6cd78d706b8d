"""HDF5 as AllenNLP's ``elmo`` writes it: read by h5py, by probing tools, and by our reader."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from bert_tokemb.errors import InputError, OutputError
from bert_tokemb.formats.hdf5 import Hdf5Reader, Hdf5Writer
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.types import Layer
from support.memory import run_and_measure
from support.results import numbered, sentences_of, write_result

LINES = ["Hello World !", "", "Gr\u00fc\u00dfe aus \u6771\u4eac", "hank", "Hello  World !"]
ABOUT = {"strategy": "avg"}


def write(path: Path, dtype: str = "float32", layers: Sequence[Layer] = (), lines: int = 5) -> None:
    sentences = numbered(LINES[:lines], dtype)
    write_result(path, sentences, "h5", about=ABOUT, layers=layers)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layers", [(), (-1,), ("embeddings", -1)])
def test_h5py_reads_a_dataset_for_each_line(
    layers: Sequence[Layer], dtype: str, tmp_path: Path
) -> None:
    write(tmp_path / "out.h5", dtype, layers)
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"0", "1", "2", "3", "4", "sentence_to_index"}
        for i, sentence in enumerate(numbered(LINES, dtype)):
            found = file[str(i)][()]
            assert found.dtype == np.dtype(dtype)
            split = np.split(sentence.array, len(layers) or 1, axis=1)
            expected = np.stack(split) if layers else sentence.array
            np.testing.assert_array_equal(found, expected, strict=True)


def test_index_maps_text_to_the_first_equal_sentence(tmp_path: Path) -> None:
    """Probing tools find the array of a sentence by its text."""
    write(tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        index = file["sentence_to_index"]
        assert (index.shape, h5py.check_string_dtype(index.dtype).length) == ((1,), None)
        sentence_to_index = json.loads(index[0])
        assert sentence_to_index == {
            "Hello World !": "0",
            "": "1",
            "Gr\u00fc\u00dfe aus \u6771\u4eac": "2",
            "hank": "3",
        }
        assert file[sentence_to_index["hank"]][0, 0] == 4


def test_result_without_sentences_has_an_empty_index(tmp_path: Path) -> None:
    write(tmp_path / "out.h5", lines=0)
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["sentence_to_index"]
        assert json.loads(file["sentence_to_index"][0]) == {}
    assert inspect(str(tmp_path / "out.h5")).sentences == 0


def test_file_contains_no_times(tmp_path: Path) -> None:
    """Without times, the same text always results in the same file."""
    write(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        for dataset in file.values():
            assert h5py.h5g.get_objinfo(dataset.id).mtime == 0
    write(tmp_path / "again.h5")
    assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_writer_refuses_an_index_that_hdf5_cannot_store(tmp_path: Path) -> None:
    class ShortIndex(Hdf5Writer):
        max_index = 50

    write_result(tmp_path / "short.h5", numbered(LINES[:2]), "h5", writer=ShortIndex)
    with pytest.raises(OutputError, match=r"sentence_to_index is longer than HDF5 allows \(50 B\)"):
        write_result(tmp_path / "long.h5", numbered(LINES), "h5", writer=ShortIndex)
    assert [path.name for path in tmp_path.iterdir()] == ["short.h5"]


@pytest.mark.parametrize("layers", [(), (-1,), ("embeddings", -1)])
def test_reader_puts_layers_side_by_side(layers: Sequence[Layer], tmp_path: Path) -> None:
    write(tmp_path / "out.h5", layers=layers)
    with Hdf5Reader(str(tmp_path / "out.h5")) as reader:
        assert reader.about == ABOUT
        for array, sentence in zip(reader, numbered(LINES), strict=True):
            np.testing.assert_array_equal(array, sentence.array, strict=True)


def test_reader_sorts_names_as_numbers(tmp_path: Path) -> None:
    arrays = [np.full((1, 1), line, np.float32) for line in range(12)]
    write_result(tmp_path / "out.h5", sentences_of(arrays), "h5")
    with Hdf5Reader(str(tmp_path / "out.h5")) as reader:
        assert [array[0, 0] for array in reader] == list(range(12))


def test_reader_reads_files_of_allennlp(tmp_path: Path) -> None:
    path = tmp_path / "elmo.hdf5"
    with h5py.File(path, "w") as file:
        file["0"] = np.ones((2, 4), np.float32)
        file["sentence_to_index"] = [json.dumps({"a b": "0"})]
    found = inspect(str(path))
    assert (found.sentences, found.words, found.about) == (1, 2, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"0": np.ones((3, 2, 4, 1), "f4")},
            "contain word vectors: its array 1 is float32 of shape",
        ),
        ({"0": np.ones((2, 4), "i4")}, "/0 is not a dataset of floats"),
        ({"0": "text"}, "/0 is not a dataset of floats"),
        ({"0/a": np.ones((2, 4), "f4")}, "/0 is not a dataset of floats"),
        ({"vectors": np.ones((2, 4), "f4")}, "has no datasets named by numbers"),
        ({}, "has no datasets named by numbers"),
    ],
)
def test_reader_refuses_other_files(
    content: dict[str, object], message: str, tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        for name, value in content.items():
            file[name] = value
    with pytest.raises(InputError, match=message):
        inspect(str(tmp_path / "other.h5"))


@pytest.mark.parametrize("metadata", ["[" * 60_000, "{"])
def test_reader_reports_damaged_metadata(metadata: str, tmp_path: Path) -> None:
    write(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file.attrs["bert_tokemb"] = np.bytes_(metadata.encode())
    with pytest.raises(InputError, match="is damaged, or not an HDF5 file"):
        inspect(str(tmp_path / "out.h5"))


@pytest.mark.parametrize(
    "metadata",
    [
        np.bytes_(json.dumps({"format": "other", "about": ABOUT}).encode()),
        json.dumps({"format": "bert-tokemb hdf5 1", "about": ABOUT}),  # of variable length
        7,
    ],
)
def test_reader_ignores_metadata_of_other_programs(metadata: object, tmp_path: Path) -> None:
    write(tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5", "r+") as file:
        file.attrs["bert_tokemb"] = metadata
    with Hdf5Reader(str(tmp_path / "out.h5")) as reader:
        assert reader.about == {}


@pytest.mark.slow
def test_memory_grows_with_the_index_only(tmp_path: Path) -> None:
    """For a file of 200 MB, HDF5 keeps 32 MiB of the addresses of datasets."""
    script = """
import sys
import numpy as np
from bert_tokemb.formats.hdf5 import Hdf5Writer
from bert_tokemb.formats.base import Content
from bert_tokemb.types import EmbeddedSentence
array, words = np.ones((40, 256), np.float32), ["word"] * 40
with open(sys.argv[1], "w+b") as file:
    writer = Hdf5Writer("out", lambda **_: file.fileno(), Content(256, array.dtype))
    for line in range(int(sys.argv[2])):
        writer.write(EmbeddedSentence(line + 1, words, array))
    writer.finish()
"""
    few, many = (
        run_and_measure(script, tmp_path / "out.h5", str(lines))[1] for lines in (100, 5_000)
    )
    assert (tmp_path / "out.h5").stat().st_size > 200e6
    assert many < few + (48 << 10), (few, many)
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, reading = run_and_measure(script, tmp_path / "out.h5")
    assert int(words) == 200_000
    assert reading < few + (48 << 10), (few, reading)
