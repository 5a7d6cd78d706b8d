"""Memory is flat: it depends on the look-ahead, not on the length of the text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.standin import StandIn

MEASURE = """
import resource, sys
from bert_tokemb.cli import main
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

WIDTH = 256


def peak(text: Path, copies: int, server: StandIn, output: Path) -> int:
    """Return the peak of resident memory, in KiB, for so many copies of a text."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            MEASURE,
            "embed",
            "-",
            "-o",
            output,
            "--server",
            str(server.address),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    content = text.read_bytes()
    for _ in range(copies):
        process.stdin.write(content)
    told, error = process.communicate()
    assert process.returncode == 0, error
    return int(told)


@pytest.mark.parametrize(("words", "lines"), [(12, 3400), (400, 102)])
def test_more_text_takes_no_more_memory(words: int, lines: int, tmp_path: Path) -> None:
    """40,800 words of 1 KiB a copy: more than the look-ahead of 32 MiB holds."""
    text = tmp_path / "text"
    with text.open("w") as file:
        for n in range(lines):
            file.write(" ".join(f"w{n % 97}{j % 9}" for j in range(words)) + "\n")
    with StandIn(width=WIDTH, limit=2048) as server:
        few, many = (peak(text, copies, server, tmp_path / "out") for copies in (2, 8))
    assert many < few * 1.1, (few, many)
