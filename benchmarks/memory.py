"""Peak memory of the command as a function of the length of the text.

python benchmarks/memory.py [--width N] [--copies N N] [--words N ...] [--formats NAME ...]

The command runs against a stand-in server, over few and over many copies of a text whose vectors
are larger than the look-ahead, with short and with long lines. The operating system reports the
peak memory when the process ends.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
from collections import defaultdict
from itertools import product
from pathlib import Path
from statistics import median

from common import disk, report, scratch, stand_in

from bert_tokemb.pipeline import LOOK_AHEAD

MAX_PIECES = 2048  # more than a line of 400 words has
VOCABULARY = 20_000
TARGET = 0.10


def write_copies(path: Path, copies: int, words: int, width: int) -> int:
    """Write copies of a text with ``words`` words per line; return the bytes of its vectors."""
    generator = random.Random(0)  # noqa: S311 - not used for security
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(generator.choices(letters, k=2 + i % 9)) for i in range(VOCABULARY)]
    lines = LOOK_AHEAD // (words * width * 4) + 1
    text = "".join(" ".join(generator.choices(vocabulary, k=words)) + "\n" for _ in range(lines))
    with path.open("w", encoding="utf-8") as file:
        for _ in range(copies):
            file.write(text)
    return copies * lines * words * width * 4


def peak_of_command(text: Path, output: Path, server: str) -> int:
    """Run the command and return its peak memory in KiB."""
    program = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", output, "--quiet"]
    child = subprocess.Popen([*program, "--server", server])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, child.returncode
    # The peak of a child is at least that of its parent.
    assert usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--copies", type=int, nargs=2, default=[10, 100], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, nargs="+", default=[12, 400], help="words per line")
    parser.add_argument("--formats", nargs="+", default=["pkl"], metavar="NAME")
    options = parser.parse_args()
    for words, kind in product(options.words, options.formats):
        peaks, sizes = defaultdict(list), {}
        for _ in range(options.rounds):
            for copies in options.copies:
                with scratch(disk()) as folder, stand_in(options.width, MAX_PIECES) as server:
                    text, output = folder / "text", folder / f"output.{kind}"
                    sizes[copies] = write_copies(text, copies, words, options.width)
                    peaks[copies].append(peak_of_command(text, output, server))
        few, many = (median(peaks[copies]) for copies in options.copies)
        report(
            f"{many / few - 1:+.1%} of peak memory (target: within {TARGET:.0%}) from "
            f"{options.copies[0]} to {options.copies[1]} copies; .{kind}, {words} words per line, "
            f"width {options.width}, median of {options.rounds}",
            [("", "peak", "least", "most", "vectors written")]
            + [
                (
                    f"{copies} copies",
                    *(f"{f(peaks[copies]) / 1024:.1f} MiB" for f in (median, min, max)),
                    f"{sizes[copies] / 1e9:.2f} GB",
                )
                for copies in options.copies
            ],
        )


if __name__ == "__main__":
    main()
