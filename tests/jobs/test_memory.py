"""Memory is flat: it depends on the look-ahead, not on the length of the text."""

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


def no_matter_which(sentences: Sequence[Sequence[str]], width: int) -> np.ndarray:
    """Return vectors at no cost: there are many, and nobody looks at them."""
    return np.zeros((len(sentences), max(map(len, sentences)), width), np.float32)


def peak(text: Path, copies: int, server: StandIn) -> int:
    """Return the peak of resident memory, in KiB, for so many copies of a text."""
    # A pipe, so that no copies lie about: nobody counts what is in a stream beforehand.
    script = "import sys\nfor _ in range(int(sys.argv[2])): print(open(sys.argv[1]).read(), end='')"
    with subprocess.Popen(
        [sys.executable, "-c", script, text, str(copies)], stdout=subprocess.PIPE
    ) as source:
        options = ["embed", "-", "-o", os.devnull, "--quiet", "--server", str(server.address)]
        return run_and_measure(MAIN, *options, stdin=source.stdout)[1]


@pytest.mark.parametrize(("words", "lines"), [(12, 850), (400, 26)])
def test_more_text_takes_no_more_memory(words: int, lines: int, tmp_path: Path) -> None:
    """10,200 words of 4 KiB a copy: more than the look-ahead of 32 MiB holds."""
    text = tmp_path / "text"
    with text.open("w") as file:
        for n in range(lines):
            file.write(" ".join(f"w{n % 97}{j % 9}" for j in range(words)) + "\n")
    with StandIn(width=WIDTH, limit=2048, vectors=no_matter_which) as server:
        # The least of two: how many replies happen to wait in ZeroMQ differs from run to run.
        few, many = (min(peak(text, copies, server) for _ in range(2)) for copies in (10, 100))
    assert many < few * 1.1, (few, many)
    print(f"{words} words a line: {few / 1024:.0f} MiB for 10 copies, {many / 1024:.0f} for 100")
