"""Memory depends on the look-ahead, not on the length of the text."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from support.memory import MAIN, run_and_measure
from support.standin import StandIn

WIDTH = 1024


def zeros(sentences: Sequence[Sequence[str]], width: int) -> np.ndarray:
    """Return vectors at no cost."""
    return np.zeros((len(sentences), max(map(len, sentences)), width), np.float32)


def peak(text: Path, copies: int, server: StandIn, more: Sequence[str]) -> int:
    """Return the peak of resident memory, in KiB, for so many copies of a text."""
    # A pipe, so that the copies take no space.
    script = "import sys\nfor _ in range(int(sys.argv[2])): print(open(sys.argv[1]).read(), end='')"
    with subprocess.Popen(
        [sys.executable, "-c", script, text, str(copies)], stdout=subprocess.PIPE
    ) as source:
        options = [
            "embed",
            "-",
            "-o",
            os.devnull,
            "--quiet",
            "--server",
            str(server.address),
            *more,
        ]
        return run_and_measure(MAIN, *options, stdin=source.stdout)[1]


@pytest.mark.parametrize(
    ("words", "lines", "copies", "options"),
    [
        (12, 170, (10, 60), ("--look-ahead", str(6 << 20))),
        pytest.param(12, 850, (10, 100), (), marks=pytest.mark.slow),
        pytest.param(400, 26, (10, 100), (), marks=pytest.mark.slow),
    ],
)
def test_memory_does_not_grow_with_the_text(
    words: int, lines: int, copies: tuple[int, int], options: tuple[str, ...], tmp_path: Path
) -> None:
    """One copy of the text results in more vectors, of 4 KiB, than the look-ahead contains."""
    text = tmp_path / "text"
    with text.open("w") as file:
        for n in range(lines):
            file.write(" ".join(f"w{n % 97}{j % 9}" for j in range(words)) + "\n")
    with StandIn(width=WIDTH, limit=2048, vectors=zeros) as server:
        # The number of replies that wait in ZeroMQ varies, and with it the peak by some MiB.
        few, many = ([peak(text, n, server, options) for _ in range(2)] for n in copies)
    assert min(many) < max(few) * 1.1, (few, many)
