"""What the campaigns expect from every command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from support.command import load

__all__ = ["CASE", "assert_one_sentence", "assert_vectors", "case"]

CASE = "case"
"""The file that describes the current case; it also explains a crash or a time-out."""

_MESSAGE = re.compile(r"bert-tokemb: (?!error: ).*")


@contextmanager
def case(directory: Path, description: str) -> Iterator[None]:
    """Describe the case that is checked within the block."""
    path = directory / CASE
    path.write_text(description, "utf-8", "backslashreplace")
    yield
    path.unlink()


def assert_one_sentence(done: subprocess.CompletedProcess[str]) -> None:
    """Check that a command failed with one sentence; warnings may precede it."""
    assert done.returncode in (1, 2, 3, 4), (done.returncode, done.stderr)
    *warnings, error = done.stderr.splitlines()
    assert error.startswith("bert-tokemb: error: "), done.stderr
    assert len(error) < 1000, done.stderr
    assert all(map(_MESSAGE.fullmatch, warnings)), done.stderr


def assert_vectors(output: Path, lines: list[str]) -> list[np.ndarray]:
    """Check that a pickled result has a finite vector for each word, and return it."""
    arrays = load(output)
    assert [len(array) for array in arrays] == [len(line.split()) for line in lines]
    assert all(np.isfinite(array).all() for array in arrays)
    return arrays
