"""Parquet, read by pyarrow, pandas, polars and our reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.parquet import ParquetReader, ParquetWriter
from support.memory import run_and_measure
from support.results import numbered, write_result

LINES = ["Hello World !", "", "Gr\u00fc\u00dfe aus \u6771\u4eac", "hank"]
WORDS = [line.split() for line in LINES]
ABOUT = {"strategy": "avg"}
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16"])


def write(path: Path, dtype: str = "float32") -> None:
    write_result(path, numbered(LINES, dtype), "parquet", about=ABOUT)


@DTYPES
def test_pyarrow_reads_the_columns(dtype: str, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", dtype)
    table = pq.read_table(tmp_path / "out.parquet")
    number = pa.float32() if dtype == "float32" else pa.float16()
    assert table.schema.types == [
        pa.int64(),
        pa.list_(pa.string()),
        pa.large_list(pa.list_(number, 2)),
    ]
    rows = table.to_pydict()
    assert rows["line"] == [1, 2, 3, 4]
    assert rows["words"] == WORDS
    assert rows["vectors"] == [sentence.array.tolist() for sentence in numbered(LINES)]


@DTYPES
def test_pandas_reads_the_columns(dtype: str, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", dtype)
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    assert list(frame.columns) == ["line", "words", "vectors"]
    assert frame["line"].tolist() == [1, 2, 3, 4]
    for i, words in enumerate(WORDS):
        assert frame["words"][i].tolist() == words
        for j, vector in enumerate(frame["vectors"][i]):
            assert vector.dtype == np.dtype(dtype)
            assert vector.tolist() == [i + 1, j]


@DTYPES
def test_polars_reads_the_columns(dtype: str, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", dtype)
    frame = polars.read_parquet(tmp_path / "out.parquet")
    number = polars.Float32 if dtype == "float32" else polars.Float16
    assert frame.schema == {
        "line": polars.Int64,
        "words": polars.List(polars.String),
        "vectors": polars.List(polars.Array(number, 2)),
    }
    assert frame["words"].to_list() == WORDS
    for array, sentence in zip(frame["vectors"], numbered(LINES, dtype), strict=True):
        np.testing.assert_array_equal(array.to_numpy(), sentence.array)


def test_schema_contains_the_metadata(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", "float16")
    assert json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"bert_tokemb"]) == {
        "format": "bert-tokemb parquet 1",
        "width": 2,
        "dtype": "float16",
        "about": ABOUT,
    }


@pytest.mark.parametrize(
    ("lines", "groups"),
    [
        ([], []),
        (["a"], [1]),
        (["a a a a"] * 50, [8] * 6 + [2]),  # by words
        (["a", "a " * 200, "a " * 200, "a"], [1, 1, 1, 1]),  # each larger than a row group
        (["a" * 900] * 3, [1, 1, 1]),  # by characters
        ([""] * 200, [62, 62, 62, 14]),  # by sentences
    ],
)
def test_row_groups_are_bounded(lines: list[str], groups: list[int], tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"

    class SmallGroups(ParquetWriter):
        row_group = 1000

    write_result(path, numbered(lines), "parquet", writer=SmallGroups)
    assert pq.read_table(path)["words"].to_pylist() == [line.split() for line in lines]
    metadata = pq.ParquetFile(path).metadata
    found = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert found == groups


@DTYPES
def test_reader_reads_the_arrays(dtype: str, tmp_path: Path) -> None:
    """The file has more rows than the reader takes at a time."""
    sentences = numbered(LINES * 50, dtype)
    write_result(tmp_path / "out.parquet", sentences, "parquet", about=ABOUT)
    with ParquetReader(str(tmp_path / "out.parquet")) as reader:
        assert reader.about == ABOUT
        for array, sentence in zip(reader, sentences, strict=True):
            np.testing.assert_array_equal(array, sentence.array, strict=True)


def vectors_of(kind: pa.DataType) -> pa.Table:
    return pa.table({"vectors": pa.array([[]], pa.list_(kind))})


def test_reader_reads_lists_of_vectors_of_other_programs(tmp_path: Path) -> None:
    pq.write_table(vectors_of(pa.list_(pa.float32(), 3)), tmp_path / "other.parquet")
    found = inspect(str(tmp_path / "other.parquet"))
    assert (found.sentences, found.blank, found.widths, found.about) == (1, 1, {3}, {})


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": [1]}),
        pa.table({"vectors": [1]}),
        vectors_of(pa.float32()),
        vectors_of(pa.list_(pa.float32())),
        vectors_of(pa.list_(pa.int64(), 3)),
    ],
)
def test_reader_refuses_other_columns(table: pa.Table, tmp_path: Path) -> None:
    pq.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="has no column `vectors` of lists of vectors"):
        inspect(str(tmp_path / "other.parquet"))


@pytest.mark.parametrize("row", [None, [None], [[1, None]]])
def test_reader_refuses_missing_vectors(row: list[object] | None, tmp_path: Path) -> None:
    rows = pa.array([row], pa.list_(pa.list_(pa.float32(), 2)))
    pq.write_table(pa.table({"vectors": rows}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="is damaged, or not a Parquet file"):
        inspect(str(tmp_path / "other.parquet"))


@pytest.mark.parametrize("metadata", [b"[" * 100_000, b"{", b"\xff"])
def test_reader_reports_damaged_metadata(metadata: bytes, tmp_path: Path) -> None:
    table = vectors_of(pa.list_(pa.float32(), 3)).replace_schema_metadata({"bert_tokemb": metadata})
    pq.write_table(table, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="is damaged, or not a Parquet file"):
        inspect(str(tmp_path / "other.parquet"))


@pytest.mark.parametrize("metadata", [{"format": "other", "about": ABOUT}, [], 7])
def test_reader_ignores_metadata_of_other_programs(metadata: object, tmp_path: Path) -> None:
    table = vectors_of(pa.list_(pa.float32(), 3))
    table = table.replace_schema_metadata({"bert_tokemb": json.dumps(metadata)})
    pq.write_table(table, tmp_path / "other.parquet")
    with ParquetReader(str(tmp_path / "other.parquet")) as reader:
        assert reader.about == {}


@pytest.mark.slow
def test_memory_is_bounded_by_a_row_group(tmp_path: Path) -> None:
    """Results of 40 MB and of 200 MB take about the same memory."""
    script = """
import sys
import numpy as np
from bert_tokemb.formats.parquet import ParquetWriter
from bert_tokemb.formats.base import Content
from bert_tokemb.types import EmbeddedSentence
words = ["word"] * 40
with open(sys.argv[1], "w+b") as file:
    content = Content(256, np.dtype(np.float32))
    writer = ParquetWriter("out", lambda **_: file.fileno(), content)
    for line in range(int(sys.argv[2])):
        writer.write(EmbeddedSentence(line + 1, words, np.full((40, 256), line, np.float32)))
    writer.finish()
"""
    few, many = (
        run_and_measure(script, tmp_path / "out.parquet", str(lines))[1] for lines in (1000, 5_000)
    )
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 5
    assert many < few * 1.15, (few, many)
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, reading = run_and_measure(script, tmp_path / "out.parquet")
    assert int(words) == 200_000
    assert reading < few * 1.15, (few, reading)
