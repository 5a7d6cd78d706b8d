"""Damaged results in all formats: reading them succeeds, or raises ``InputError``."""

from __future__ import annotations

import pickle
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats.inspection import inspect
from bert_tokemb.formats.registry import FORMATS
from support.results import sentences_of, write_result

ARRAYS = [
    np.array([[1, -2, 3], [0, 0, 0]], np.float32),
    np.zeros((0, 3), np.float32),
    np.full((30, 3), 7, np.float32),  # more data than a pickle can share
]
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def damaged(whole: bytes, draw: random.Random, count: int) -> Iterator[bytes]:
    """Yield truncated files, and files in which some bytes were changed, moved or removed."""
    size = len(whole)
    for _ in range(count):
        yield whole[: draw.randrange(size)]
        for changes in (1, 1, 1, 2, 8):
            changed = bytearray(whole)
            for _ in range(changes):
                changed[draw.randrange(size)] ^= draw.randrange(1, 256)
            yield bytes(changed)
        start, end = sorted(draw.choices(range(size + 1), k=2))
        place = draw.randrange(size)
        yield whole[:start] + whole[end:]
        yield whole[:place] + whole[start:end] + whole[place:]


def inspect_damaged(result: Path, path: Path, count: int) -> int:
    """Inspect a result after damaging one of its files, and return how often it was refused.

    The damaged files have other names: the libraries would map a file that is written over.
    """
    whole, refused = path.read_bytes(), 0
    for content in damaged(whole, random.Random(path.name), count):
        path.unlink()
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of NumPy, about headers
                inspect(str(result))
        except InputError as error:
            refused += 1
            assert str(result) in str(error)  # noqa: PT017
            assert "cannot read" not in str(error)  # noqa: PT017 - it can, but it is damaged
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 1000  # noqa: PT017
    path.unlink()
    path.write_bytes(whole)
    assert inspect(str(result)).words == 32
    return refused


def check(kind: str, tmp_path: Path, count: int) -> None:
    write_result(tmp_path / "a", sentences_of(ARRAYS), kind, about={"strategy": "avg"})
    files = list((tmp_path / "a").iterdir()) if kind == "npyd" else [tmp_path / "a"]
    assert sum(inspect_damaged(tmp_path / "a", path, count) for path in files) > count


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_results_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, 10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_damaged_pickles_are_refused_or_read(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(ARRAYS, protocol))
    inspect_damaged(tmp_path / "a", tmp_path / "a", 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_many_damaged_results_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    check(kind, tmp_path, 300)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_damaged_pickles_are_refused_or_read(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(pickle.dumps(ARRAYS, protocol))
    inspect_damaged(tmp_path / "a", tmp_path / "a", 300)


@pytest.mark.parametrize("kind", ["pkl", "h5", "parquet"])
def test_truncated_files_are_refused(kind: str, tmp_path: Path) -> None:
    write_result(tmp_path / "whole", sentences_of(ARRAYS), kind)
    whole = (tmp_path / "whole").read_bytes()
    for end in (0, 1, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"{end}.{kind}"
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=f"{end}.{kind} is damaged, or not a"):
            inspect(str(path))
