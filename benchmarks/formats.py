"""Speed of writing each format, compared with a plain write of the same bytes.

python benchmarks/formats.py [TEXT] [--megabytes N] [--rounds N]

The sentences are as long as those of TEXT; the vectors are float32, of width 768. Files are on
tmpfs, and each measurement runs in a new process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common import memory, much_text, report, scratch, take_turns
from pickling import in_child_process, raw, sentences

from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.types import EmbeddedSentence
from support.results import write_result


def size_of(path: Path) -> int:
    """Return the size of a file, or of the files in a directory, in bytes."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    lines = [line.split() for line in much_text(options.text)]
    arrays = sentences([len(words) for words in lines], options.megabytes * 10**6)
    text = [EmbeddedSentence(i + 1, lines[i % len(lines)], array) for i, array in enumerate(arrays)]
    size = sum(array.nbytes for array in arrays)
    with scratch(memory()) as folder:
        paths = {kind: folder / f"result.{kind}" for kind in FORMATS}
        candidates: dict[str, Callable[[], None]] = {
            kind: partial(write_result, path, text, kind) for kind, path in paths.items()
        }
        candidates["plain write"] = partial(raw(size), arrays, folder / "plain")
        seconds = take_turns(options.rounds, candidates, in_child_process)
        sizes = {kind: size_of(path) for kind, path in paths.items()} | {"plain write": size}
    report(
        f"{len(arrays):,} arrays, {size / 1e6:,.0f} MB of numbers, median of {options.rounds}",
        [("", "of a plain write", "numbers", "file")]
        + [
            (
                name,
                f"{seconds['plain write'] / taken:.2f} x",
                f"{size / taken / 1e9:.2f} GB/s",
                f"{sizes[name] / 1e6:,.0f} MB",
            )
            for name, taken in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
