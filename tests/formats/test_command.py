"""``bert-tokemb embed`` in each format."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import polars
import pyarrow.parquet as pq
import pytest

import bert_tokemb
from bert_tokemb.formats.registry import open_reader
from support.command import Command, load
from support.standin import StandIn

TEXT = "Hello World !\n\nGr\u00fc\u00dfe aus \u6771\u4eac \u200b\nhank\nHello  World !\n"
WORDS = [line.split() for line in TEXT.splitlines()]
BLANK_LINES = pytest.mark.parametrize("blank_lines", ["keep", "skip"])
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float16"])


class Embed:
    """Embeds a text in two formats."""

    def __init__(self, invoke: Command, server: StandIn, directory: Path) -> None:
        self._invoke, self._server, self.directory = invoke, server, directory
        (directory / "text").write_text(TEXT, encoding="utf-8")

    def __call__(self, name: str, *options: str) -> list[np.ndarray]:
        """Write a result, and return the arrays of the same result as a pickle."""
        common = ("embed", "text", "--server", self._server.address)
        done = self._invoke(*common, "-o", name, *options, cwd=self.directory)
        assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
        as_pickle = ("--format", "pkl", "-o", "pickle.npyd", "--quiet")
        done = self._invoke(*common, *options, *as_pickle, cwd=self.directory)
        assert (done.returncode, done.stderr) == (0, "")
        return load(self.directory / "pickle.npyd")


@pytest.fixture
def embed(invoke: Command, server: StandIn, tmp_path: Path) -> Embed:
    return Embed(invoke, server, tmp_path)


def kept_lines(blank_lines: str) -> list[int]:
    return [n for n, words in enumerate(WORDS, 1) if words or blank_lines == "keep"]


@DTYPES
@BLANK_LINES
def test_pickle_has_a_row_for_each_word(blank_lines: str, dtype: str, embed: Embed) -> None:
    arrays = embed("out", "--blank-lines", blank_lines, "--dtype", dtype)
    assert [len(array) for array in arrays] == [
        len(WORDS[line - 1]) for line in kept_lines(blank_lines)
    ]
    assert {array.dtype.name for array in arrays} == {dtype}
    assert arrays[0][0, 3] == (ord("l") + ord("o")) / 2


@DTYPES
@BLANK_LINES
def test_npyd_equals_the_pickle(blank_lines: str, dtype: str, embed: Embed) -> None:
    arrays = embed("out.npyd", "--blank-lines", blank_lines, "--dtype", dtype)
    for array, other in zip(bert_tokemb.open(embed.directory / "out.npyd"), arrays, strict=True):
        np.testing.assert_array_equal(array, other, strict=True)


@pytest.mark.parametrize("name", ["out.h5", "out.hdf5"])
@BLANK_LINES
def test_hdf5_equals_the_pickle(blank_lines: str, name: str, embed: Embed) -> None:
    arrays = embed(name, "--blank-lines", blank_lines)
    with h5py.File(embed.directory / name) as file:
        keys = [str(line - 1) for line in kept_lines(blank_lines)]
        assert set(file) == {*keys, "sentence_to_index"}
        for key, array in zip(keys, arrays, strict=True):
            np.testing.assert_array_equal(file[key][()], array, strict=True)


@DTYPES
@BLANK_LINES
def test_parquet_equals_the_pickle(blank_lines: str, dtype: str, embed: Embed) -> None:
    arrays = embed("out.parquet", "--blank-lines", blank_lines, "--dtype", dtype)
    frame = polars.read_parquet(embed.directory / "out.parquet")
    assert frame["line"].to_list() == kept_lines(blank_lines)
    assert frame["words"].to_list() == [WORDS[line - 1] for line in kept_lines(blank_lines)]
    for array, other in zip(frame["vectors"], arrays, strict=True):
        np.testing.assert_array_equal(array.to_numpy(), other)


def test_chosen_format_wins_over_the_name(embed: Embed) -> None:
    embed("out.pkl", "--format", "npyd")
    assert len(bert_tokemb.open(embed.directory / "out.pkl")) == len(WORDS)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_layer_of_a_server_is_written_separately(
    way: str, server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    options = ["--layer-pooling", "stack"] if way == "option" else []
    env = {} if way == "option" else {"BERT_TOKEMB_LAYER_POOLING": "stack"}
    command = ("embed", "text", "--server", server.address, "-o", "out.h5", "--dtype", "float16")
    done = invoke(*command, *options, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file["0"].shape, file["1"].shape) == ((1, 3, 8), (1, 0, 8))
        assert file["0"].dtype == np.float16


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd", "-"])
def test_layers_are_not_separate_in_other_formats(
    name: str, server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a\n")
    command = ("embed", "text", "-o", name, "--quiet", "--server", server.address)
    done = invoke(*command, "--layer-pooling", "stack", cwd=tmp_path)
    assert done.returncode == 2
    assert "--layer-pooling stack needs an --output that ends in .h5 or .parquet" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    # The environment may be set for other runs.
    done = invoke(*command, env={"BERT_TOKEMB_LAYER_POOLING": "stack"}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_layers_of_a_model_are_pooled(shared_tiny: Path, invoke: Command, tmp_path: Path) -> None:
    """`all` is what transformers calls hidden_states."""
    (tmp_path / "text").write_text("hello world\n\na b\n")

    def embed(name: str, *options: str) -> None:
        command = ("embed", "text", "-o", name, "--model", shared_tiny, "--layers", "all")
        done = invoke(*command, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr

    embed("concat.pkl")
    concat = load(tmp_path / "concat.pkl")
    layers = [np.split(array, 4, axis=1) for array in concat]
    for pooling, function in (("mean", np.mean), ("sum", np.sum)):
        embed(f"{pooling}.pkl", "--layer-pooling", pooling)
        for array, own in zip(load(tmp_path / f"{pooling}.pkl"), layers, strict=True):
            np.testing.assert_allclose(array, function(own, axis=0), atol=1e-5)
    embed("stack.h5", "--layer-pooling", "stack")
    with h5py.File(tmp_path / "stack.h5") as file:
        for i, own in enumerate(layers):
            np.testing.assert_array_equal(file[str(i)][()], np.stack(own), strict=True)
    embed("stack.parquet", "--layer-pooling", "stack")
    table = pq.read_table(tmp_path / "stack.parquet")
    columns = ["layer_embeddings", "layer_-3", "layer_-2", "layer_-1"]
    assert table.column_names == ["line", "words", *columns]
    assert table["layer_-1"][2].as_py() == layers[2][3].tolist()
    for name in ("stack.h5", "stack.parquet"):
        with open_reader(str(tmp_path / name)) as reader:
            for array, expected in zip(reader, concat, strict=True):
                np.testing.assert_array_equal(array, expected, strict=True)


def test_layers_of_a_server_cannot_be_combined(
    server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("a\n")
    command = ("embed", "text", "-o", "out.pkl", "--server", server.address)
    done = invoke(*command, "--layer-pooling", "mean", cwd=tmp_path)
    assert done.returncode == 2
    assert "--layer-pooling mean cannot be used with a server" in done.stderr


@pytest.mark.parametrize("kind", ["npyd", "h5", "parquet"])
def test_standard_output_takes_only_pickles(
    kind: str, server: StandIn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").touch()
    done = invoke(
        "embed", tmp_path / "text", "-o", "-", "--format", kind, "--server", server.address
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot write {kind} to standard output: only pkl can be written" in done.stderr


SCALED = """
import numpy as np
def scaled(pieces): return np.full_like(pieces[0], {factor})
"""


@pytest.mark.parametrize("name", ["out.pkl", "out.npyd"])
def test_float16_refuses_values_that_are_too_large(
    name: str, server: StandIn, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("\nhello\n")
    (tmp_path / "scaled.py").write_text(SCALED.format(factor="-1e6"))
    options = ("--server", server.address, "--strategy", "scaled:scaled", "--dtype", "float16")
    done = run("embed", "text", "-o", name, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: line 2: a value is too large for float16, whose maximum is 65,504; "
        "give --dtype float32 and --restart\n"
    )
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("factor", ["np.nan", "-np.inf"])
def test_nonfinite_values_are_refused_or_counted(
    factor: str, server: StandIn, run: Command, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("\nhello\n")
    (tmp_path / "scaled.py").write_text(SCALED.format(factor=factor))
    options = ("--server", server.address, "--strategy", "scaled:scaled", "--dtype", "float16")
    done = run("embed", "text", "-o", "out.pkl", *options, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: line 2: the vector of the word 'hello' contains NaN or inf" in done.stderr
    assert not (tmp_path / "out.pkl").exists()
    done = run("embed", "text", "-o", "out.pkl", *options, "--allow-nonfinite", cwd=tmp_path)
    assert done.returncode == 0
    assert "1 word with NaN or infinity" in done.stderr
    assert "Warning" not in done.stderr
