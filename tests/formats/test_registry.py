"""Which format an output has, and which reader a file needs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError, OutputNameError
from bert_tokemb.formats.registry import FORMATS, format_of, open_reader
from support.results import sentences_of, write_result

ARRAYS = [np.array([[1, 2], [3, 4]], np.float32), np.empty((0, 2), np.float32)]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("a.H5", "h5"), ("a.Hdf5", "h5"), ("a.NPYD", "npyd"), ("A.PARQUET", "parquet")),
        *(("a.pkl", "pkl"), ("a.PICKLE", "pkl"), ("a", "pkl"), ("a.h5/b", "pkl"), ("-", "pkl")),
    ],
)
def test_suffix_determines_the_format(name: str, kind: str) -> None:
    assert format_of(name).name == kind


@pytest.mark.parametrize("kind", FORMATS)
def test_chosen_format_wins_over_the_suffix(kind: str) -> None:
    assert format_of("a.npyd", kind).name == kind


@pytest.mark.parametrize("ending", ["gz", "BZ2", "xz", "zst"])
def test_compressed_outputs_are_refused(ending: str) -> None:
    """Texts may be compressed, results are not: the name would be misleading."""
    with pytest.raises(OutputNameError, match=r"out.pkl.*: results are not compressed") as caught:
        format_of(f"out.pkl.{ending}")
    assert caught.value.problem == "compressed"
    assert format_of(f"out.pkl.{ending}", "pkl").name == "pkl"


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "b/a.json", "a.npz"])
def test_names_of_other_formats_are_refused(name: str) -> None:
    with pytest.raises(OutputNameError, match="no format has names that end like this"):
        format_of(name)
    assert format_of(name, "pkl").name == "pkl"


@pytest.mark.parametrize(("name", "chosen"), [("a/", None), ("a.h5/", None), ("a.npyd/", "pkl")])
def test_names_of_directories_are_refused_for_files(name: str, chosen: str | None) -> None:
    with pytest.raises(OutputNameError, match="is a file, not a directory"):
        format_of(name, chosen)
    assert format_of("a.npyd/").name == "npyd"


def test_empty_names_are_refused() -> None:
    with pytest.raises(OutputNameError, match="the name of the output is empty") as caught:
        format_of("")
    assert caught.value.problem == "empty"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a.pkl", "a.h5", "a.parquet", "a.npyd", "a"])
def test_content_determines_the_reader(kind: str, name: str, tmp_path: Path) -> None:
    write_result(tmp_path / name, sentences_of(ARRAYS), kind, about={"strategy": "avg"})
    with open_reader(str(tmp_path / name)) as reader:
        assert isinstance(reader, FORMATS[kind].reader)
        assert dict(reader.about) == ({} if kind == "pkl" else {"strategy": "avg"})
        assert list(reader.map(len)) == [2, 0]
        if kind != "pkl":
            for array, other in zip(reader, ARRAYS, strict=True):
                np.testing.assert_array_equal(array, other, strict=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.h5", "damaged, or not an HDF5 file"),
        ("a.HDF5", "damaged, or not an HDF5 file"),
        ("a.parquet", "damaged, or not a Parquet file"),
        ("a.npyd", "cannot read .*a.npyd: Not a directory"),
        ("a.pkl", "damaged, or not a pickled list of arrays"),
        ("a.txt", "damaged, or not a pickled list of arrays"),
    ],
)
def test_suffix_determines_the_reader_of_unknown_content(
    name: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("text\n")
    with (
        pytest.raises(InputError, match=message),
        open_reader(str(tmp_path / name)) as reader,
    ):
        list(reader)


def test_missing_files_are_reported(tmp_path: Path) -> None:
    for name in ("a.pkl", "a.h5", "a.parquet", "a.npyd", "no/such/folder"):
        with pytest.raises(InputError, match=r"cannot read .*: No such file or directory"):
            open_reader(str(tmp_path / name))


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"npyd"}))
def test_only_pickles_are_read_from_a_pipe(kind: str, tmp_path: Path) -> None:
    write_result(tmp_path / "a", sentences_of(ARRAYS), kind)
    os.mkfifo(pipe := tmp_path / "pipe")
    with subprocess.Popen(["cp", tmp_path / "a", pipe], stderr=subprocess.DEVNULL):
        if kind == "pkl":
            with open_reader(str(pipe)) as reader:
                assert list(reader.map(len)) == [2, 0]
            return
        with pytest.raises(InputError, match="file cannot be read from a pipe, only a pickle can"):
            open_reader(str(pipe))
