"""Parquet, read by pyarrow, pandas and polars."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats import parquet
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.parquet import ParquetOutput
from bert_tokemb.types import EmbeddedSentence
from support.command import Command, load
from support.memory import run_and_measure
from support.standin import StandIn

TEXT = "Hello World !\n\nGr\u00fc\u00dfe aus \u6771\u4eac\nhank\n"
ABOUT = {"strategy": "avg"}
LINES = [line.split() for line in TEXT.splitlines()]


def array_of(line: int, words: int, dtype: str) -> np.ndarray:
    """Return rows with the numbers of line and word."""
    return np.array([[line, j] for j in range(words)], dtype).reshape(-1, 2)


def write(path: Path, dtype: str = "float32", lines: list[list[str]] = LINES) -> None:
    with ParquetOutput(str(path)) as output:
        output.begin(Content(2, np.dtype(dtype), ABOUT))
        for line, words in enumerate(lines, 1):
            output.write(EmbeddedSentence(line, words, array_of(line, len(words), dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pyarrow_reads_it(dtype: str, tmp_path: Path) -> None:
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
    assert rows["words"] == LINES
    for i, words in enumerate(LINES):
        assert rows["vectors"][i] == array_of(i + 1, len(words), dtype).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pandas_reads_it(dtype: str, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", dtype)
    frame = pandas.read_parquet(tmp_path / "out.parquet")
    assert list(frame.columns) == ["line", "words", "vectors"]
    assert frame["line"].tolist() == [1, 2, 3, 4]
    for i, words in enumerate(LINES):
        assert frame["words"][i].tolist() == words
        for j, vector in enumerate(frame["vectors"][i]):
            assert vector.dtype == np.dtype(dtype)
            assert vector.tolist() == [i + 1, j]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_polars_reads_it(dtype: str, tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", dtype)
    frame = polars.read_parquet(tmp_path / "out.parquet")
    number = polars.Float32 if dtype == "float32" else polars.Float16
    assert frame.schema == {
        "line": polars.Int64,
        "words": polars.List(polars.String),
        "vectors": polars.List(polars.Array(number, 2)),
    }
    assert frame["words"].to_list() == LINES
    for i, words in enumerate(LINES):
        expected = array_of(i + 1, len(words), dtype)
        np.testing.assert_array_equal(frame["vectors"][i].to_numpy(), expected)


def test_what_it_tells_of_itself(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", "float16")
    told = json.loads(pq.read_schema(tmp_path / "out.parquet").metadata[b"bert_tokemb"])
    assert told == {
        "format": "bert-tokemb parquet 1",
        "width": 2,
        "dtype": "float16",
        "about": ABOUT,
    }


def test_row_groups_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By numbers, by words, by sentences; what is larger alone is alone."""
    monkeypatch.setattr(parquet, "_ROW_GROUP", 1000)
    path = tmp_path / "out.parquet"

    def rows_of_groups(lines: list[list[str]]) -> list[int]:
        write(path, lines=lines)
        assert pq.read_table(path)["words"].to_pylist() == lines
        metadata = pq.ParquetFile(path).metadata
        return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]

    assert rows_of_groups([]) == []
    assert rows_of_groups([["a"]]) == [1]
    groups = rows_of_groups([["a"] * 4] * 50)
    assert 5 < groups[0] < 12
    assert sum(groups) == 50
    assert rows_of_groups([["a"], ["a"] * 200, ["a"] * 200, ["a"]]) == [1, 1, 1, 1]
    assert rows_of_groups([["a" * 900]] * 3) == [1, 1, 1]
    assert max(rows_of_groups([[]] * 200)) < 100


@pytest.mark.parametrize("blank_lines", ["keep", "skip"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_command(
    dtype: str, blank_lines: str, server: StandIn, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    common = ("embed", tmp_path / "text", "--server", server.address, "--blank-lines", blank_lines)
    common = (*common, "--dtype", dtype)
    done = run(*common, "-o", tmp_path / "out.parquet")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    assert run(*common, "-o", tmp_path / "pkl").returncode == 0
    frame = polars.read_parquet(tmp_path / "out.parquet")
    kept = [n for n, words in enumerate(LINES, 1) if words or blank_lines == "keep"]
    assert frame["line"].to_list() == kept
    assert frame["words"].to_list() == [LINES[n - 1] for n in kept]
    for array, other in zip(frame["vectors"], load(tmp_path / "pkl"), strict=True):
        np.testing.assert_array_equal(array.to_numpy(), other)


def test_a_look_at_it(run: Command, tmp_path: Path) -> None:
    # More than are read at a time.
    write(tmp_path / "out.parquet", lines=LINES * 50)
    seen = inspect(str(tmp_path / "out.parquet"))
    assert (seen.sentences, seen.blank, seen.words) == (200, 50, 350)
    assert (seen.widths, seen.types, seen.least, seen.most) == ({2}, {"float32"}, 0, 200)
    assert seen.about == {"strategy": "avg"}
    # By what is in it, whatever its name.
    (tmp_path / "out.parquet").rename(tmp_path / "out")
    done = run("info", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "out: a Parquet file, " in done.stdout
    assert re.search("\n  strategy +avg\n", done.stdout)


def vectors_of(kind: pa.DataType) -> pa.Table:
    return pa.table({"vectors": pa.array([[]], pa.list_(kind))})


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        (pa.table({"a": [1]}), False),
        (pa.table({"vectors": [1]}), False),
        (vectors_of(pa.float32()), False),
        (vectors_of(pa.list_(pa.float32())), False),
        (vectors_of(pa.list_(pa.int64(), 3)), False),
        (vectors_of(pa.list_(pa.float32(), 3)), True),
    ],
)
def test_those_of_somebody_else(table: pa.Table, wanted: bool, tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(table, path)
    if wanted:
        seen = inspect(str(path))
        assert (seen.sentences, seen.blank, seen.widths, seen.about) == (1, 1, {3}, {})
        return
    with pytest.raises(InputError, match="has no column `vectors` of lists of vectors"):
        inspect(str(path))


def test_vectors_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    vector = pa.list_(pa.float32(), 2)
    for rows in ([None], [[None]], [[[1, None]]]):
        pq.write_table(pa.table({"vectors": pa.array(rows, pa.list_(vector))}), path)
        with pytest.raises(InputError, match="is damaged, or no Parquet file"):
            inspect(str(path))


def test_what_it_tells_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    for told in ("[" * 100_000, "{", "\xff"):
        table = vectors_of(pa.list_(pa.float32(), 3))
        pq.write_table(table.replace_schema_metadata({"bert_tokemb": told.encode("latin1")}), path)
        with pytest.raises(InputError, match="is damaged, or no Parquet file"):
            inspect(str(path))


def test_damaged_ones(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "out.parquet"
    write(path)
    whole = path.read_bytes()
    for end in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match="is damaged, or no Parquet file"):
            inspect(str(path))
    for i in range(len(whole)):
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


def test_memory_is_that_of_a_row_group(tmp_path: Path) -> None:
    """40 MB and 400 MB."""
    script = """
import sys
import numpy as np
from bert_tokemb.formats.parquet import ParquetOutput
from bert_tokemb.formats.base import Content
from bert_tokemb.types import EmbeddedSentence
words = ["word"] * 40
with ParquetOutput(sys.argv[1]) as output:
    output.begin(Content(256, np.dtype(np.float32)))
    for line in range(int(sys.argv[2])):
        output.write(EmbeddedSentence(line + 1, words, np.full((40, 256), line, np.float32)))
"""
    few, many = (
        run_and_measure(script, tmp_path / "out.parquet", str(lines))[1] for lines in (1000, 10_000)
    )
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups > 10
    assert many < few * 1.15, (few, many)
    print(f"{few / 1024:.0f} MiB for 40 MB, {many / 1024:.0f} for 400 MB")
    script = "from bert_tokemb.formats.inspection import inspect; print(inspect(sys.argv[1]).words)"
    words, reading = run_and_measure(script, tmp_path / "out.parquet")
    assert int(words) == 400_000
    assert reading < few * 1.15, (few, reading)
