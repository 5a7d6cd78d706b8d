"""Merging pieces into words."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tokemb import load_strategy
from bert_tokemb.errors import StrategyError, UsageError
from bert_tokemb.strategies import AVG, PerWord, strategy_names

BY_HAND = {
    "avg": lambda pieces: pieces.mean(axis=0),
    "first": lambda pieces: pieces[0],
    "last": lambda pieces: pieces[-1],
    "max": lambda pieces: pieces.max(axis=0),
}

VECTORS = np.array([[9, 9], [1, 2], [3, 6], [8, 7], [5, 1], [2, 3], [2, 5], [9, 9]], np.float32)
STARTS = np.array([1, 3, 3, 4])
COUNTS = np.array([2, 1, 0, 3])
"""Words of 2, 1, 0 and 3 pieces, with rows before and after them that belong to no word."""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("avg", [[2, 4], [8, 7], [0, 0], [3, 3]]),
        ("first", [[1, 2], [8, 7], [0, 0], [5, 1]]),
        ("last", [[3, 6], [8, 7], [0, 0], [2, 5]]),
        ("max", [[3, 6], [8, 7], [0, 0], [5, 5]]),
    ],
)
def test_built_in_strategies_merge_pieces(name: str, expected: list[list[float]]) -> None:
    merged = load_strategy(name).merge(VECTORS, STARTS, COUNTS)
    np.testing.assert_array_equal(merged, np.array(expected, np.float32))
    assert merged.dtype == np.float32


@pytest.mark.parametrize("name", BY_HAND)
@given(counts=st.lists(st.integers(0, 6), max_size=12), seed=st.integers(0, 99))
def test_merging_a_batch_equals_merging_each_word(name: str, counts: list[int], seed: int) -> None:
    """The results are equal bit for bit in float32, and the batch is not changed."""
    sizes = np.array(counts, np.intp)
    starts = np.cumsum(sizes) - sizes
    vectors = np.random.default_rng(seed).normal(size=(sum(counts), 5)).astype(np.float32)
    vectors.setflags(write=False)
    merged = load_strategy(name).merge(vectors, starts, sizes)
    expected = PerWord(BY_HAND[name], name).merge(vectors, starts, sizes)
    np.testing.assert_array_equal(merged, expected)
    assert merged.flags.writeable
    assert merged.flags.c_contiguous
    assert not np.shares_memory(merged, vectors)


def test_float16_is_summed_in_float32() -> None:
    vectors = np.full((3000, 1), 40, np.float16)
    merged = AVG.merge(vectors, np.array([0]), np.array([3000]))
    assert merged.dtype == np.float16
    assert merged == 40


def test_built_in_strategies_are_entry_points() -> None:
    assert strategy_names() == ["avg", "first", "last", "max"]


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory, as a user writes one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"plugin_{tmp_path.name}"
    Path(f"{name}.py").write_text(
        "class Nested:\n"
        "    @staticmethod\n"
        "    def middle(pieces): return pieces[len(pieces) // 2]\n"
        "def spoil(pieces):\n"
        "    pieces[:] = 0\n"
        "    return pieces.sum(axis=0)\n"
        "def total(pieces): return pieces.astype('f8').sum(axis=0)\n"
        "def wrong(pieces): return pieces\n"
        "def words(pieces): return ['a', 'b']\n"
        "def ragged(pieces): return [[1], [2, 3]]\n"
        "def nothing(pieces): pass\n"
        "def large(pieces): return [-1e39, 0]\n"
        "def infinite(pieces): return [float('-inf'), float('nan')]\n"
        "number = 3\n"
    )
    Path(f"{name}_broken.py").write_text("import no_such_module_anywhere\n")
    return name


def test_plain_function_is_called_for_each_word(plugin: str) -> None:
    for attribute, expected in (
        ("total", [[4, 8], [8, 7], [0, 0], [9, 9]]),
        ("Nested.middle", [[3, 6], [8, 7], [0, 0], [2, 3]]),
    ):
        merged = load_strategy(f"{plugin}:{attribute}").merge(VECTORS, STARTS, COUNTS)
        np.testing.assert_array_equal(merged, expected)
        assert merged.dtype == np.float32


def test_function_may_write_to_its_argument(plugin: str) -> None:
    vectors = VECTORS.copy()
    load_strategy(f"{plugin}:spoil").merge(vectors, STARTS, COUNTS)
    np.testing.assert_array_equal(vectors, VECTORS)


@pytest.mark.parametrize("attribute", ["wrong", "words", "nothing", "ragged"])
def test_function_with_wrong_result_is_refused(plugin: str, attribute: str) -> None:
    with pytest.raises(StrategyError, match=f"{attribute} must return 2 numbers for a 2 x 2 array"):
        load_strategy(f"{plugin}:{attribute}").merge(VECTORS, STARTS, COUNTS)


def test_overflow_of_a_function_is_refused(plugin: str) -> None:
    """Infinity and NaN that a function itself returns are kept."""
    with pytest.raises(StrategyError, match="large returned a number too large for float32"):
        load_strategy(f"{plugin}:large").merge(VECTORS, STARTS, COUNTS)
    merged = load_strategy(f"{plugin}:infinite").merge(VECTORS, STARTS, COUNTS)
    np.testing.assert_array_equal(merged[0], [-np.inf, np.nan])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mean", "choose one of avg, first, last, max"),
        ("no_such_module:f", "no module no_such_module"),
        ("os.no_such_module:f", "no module os.no_such_module"),
        ("os:no_such_function", "os has no no_such_function"),
        ("..x:f", "write package.module:function"),
        (":f", "write package.module:function"),
        ("os:", "write package.module:function"),
    ],
)
def test_missing_strategy_is_reported(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_strategy(name)


def test_object_that_is_not_callable_is_refused(plugin: str) -> None:
    with pytest.raises(UsageError, match="must be a function, not int"):
        load_strategy(f"{plugin}:number")
    with pytest.raises(UsageError, match="must be a function, not a class"):
        load_strategy(f"{plugin}:Nested")


def test_broken_plugin_keeps_its_traceback(plugin: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        load_strategy(f"{plugin}_broken:f")


def test_installed_plugin_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "someone-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: someone\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(
        "[bert_tokemb.strategies]\nhypot = math:hypot\navg = math:fsum\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "hypot" in strategy_names()
    assert isinstance(load_strategy("hypot"), PerWord)
    with pytest.raises(UsageError, match="several installed packages provide a strategy avg"):
        load_strategy("avg")
