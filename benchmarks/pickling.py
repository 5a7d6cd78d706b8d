"""Speed of writing a pickle, compared with ``pickle.dump``, on tmpfs.

python benchmarks/pickling.py [TEXT] [--megabytes N] [--rounds N]

The sentences are as long as those of TEXT; the vectors are float32, of width 768. A plain
write of the same number of bytes shows the speed of the file system.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from common import memory, much_text, report, scratch, seconds_of, take_turns

from support.results import sentences_of, write_result

TARGET = 2.0
WIDTH = 768
CHUNK = 1 << 20


def sentences(lengths: Sequence[int], size: int) -> list[np.ndarray]:
    """Return arrays of at least ``size`` bytes in total, slices of batches as in the pipeline."""
    random = np.random.default_rng(0)
    batch, start, arrays, used = np.empty((0, WIDTH), np.float32), 0, [], 0
    for length in cycle(lengths):
        if used >= size:
            return arrays
        if start + length > len(batch):
            batch, start = random.random((max(length, 2048), WIDTH), np.float32), 0
        arrays.append(batch[start : start + length])
        start, used = start + length, used + arrays[-1].nbytes
    return arrays


def stream(arrays: Sequence[np.ndarray], path: Path) -> None:
    """Write a list like the command."""
    write_result(path, sentences_of(arrays), "pkl")


def dump(protocol: int) -> Callable[[Sequence[np.ndarray], Path], None]:
    """Return a function that writes a list with ``pickle.dump``."""

    def write(arrays: Sequence[np.ndarray], path: Path) -> None:
        with path.open("wb") as file:
            pickle.dump(arrays, file, protocol)

    return write


def raw(size: int) -> Callable[[Sequence[np.ndarray], Path], None]:
    """Return a function that ignores the arrays and writes ``size`` bytes."""
    block = memoryview(np.random.default_rng(0).bytes(CHUNK))

    def write(arrays: Sequence[np.ndarray], path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(size // CHUNK):
                file.write(block)

    return write


def in_child_process(function: Callable[[], None]) -> float:
    """Return the seconds that a function takes in a child process.

    ``pickle.dump`` keeps a copy of every array until it returns. How long that takes depends on
    what the process allocated before, and a program usually dumps its list once.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(seconds_of(function)))
    child.start()
    seconds = receiver.recv()
    child.join()
    return seconds


def contains(path: Path, arrays: Sequence[np.ndarray]) -> bool:
    """Return whether a file contains these arrays."""
    with path.open("rb") as file:
        loaded = pickle.load(file)
    return len(loaded) == len(arrays) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(arrays, loaded, strict=True)
    )


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    lengths = [len(line.split()) for line in much_text(options.text)]
    arrays = sentences(lengths, options.megabytes * 10**6)
    size = sum(array.nbytes for array in arrays)
    candidates = {
        "ours": stream,
        "protocol 4": dump(4),
        "protocol 5": dump(5),
        "plain write": raw(size),
    }
    with scratch(memory()) as folder:
        path = folder / "list.pkl"

        def into_new_file(function: Callable[[], None]) -> float:
            path.unlink(missing_ok=True)
            return in_child_process(function)

        seconds = take_turns(
            options.rounds,
            {name: partial(write, arrays, path) for name, write in candidates.items()},
            into_new_file,
        )
        for name in ("ours", "protocol 4"):
            candidates[name](arrays, path)
            assert contains(path, arrays), name
    ratio = seconds["protocol 4"] / seconds["ours"]
    report(
        f"{ratio:.2f} x pickle.dump with protocol 4 (target: {TARGET:g}); {len(arrays):,} arrays, "
        f"{size / 1e6:,.0f} MB, median of {options.rounds}",
        [
            (name, f"{seconds['protocol 4'] / taken:.2f} x", f"{size / taken / 1e9:.2f} GB/s")
            for name, taken in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
