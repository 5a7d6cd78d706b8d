"""Helpers of the benchmarks: texts, alternating measurements, a stopwatch, a stand-in server.

Importing this module makes ``tests/support`` importable. It imports no large package, because the
peak memory of a child process is at least that of the process that started it.
"""

from __future__ import annotations

import multiprocessing
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

__all__ = [
    "Stopwatch",
    "disk",
    "memory",
    "much_text",
    "report",
    "scratch",
    "seconds_of",
    "some_text",
    "stand_in",
    "take_turns",
]

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "tests"))

T = TypeVar("T")


def some_text(given: Path | None) -> list[str]:
    """Return the distinct lines of a text, by default of the EWT development set."""
    path = given or DATA / "ewt-dev.txt"
    if not path.is_file():
        sys.exit(f"{path} not found: pass a UTF-8 text file, one sentence per line")
    return _distinct_lines(path)


def much_text(given: Path | None) -> list[str]:
    """Return the distinct lines of a larger text, or generated lines if there is none."""
    path = given or DATA / "ewt-train.txt"
    if given is None and not path.is_file():
        print("note: no text found, using random words from LICENSE")
        return _generated_lines()
    if not path.is_file():
        sys.exit(f"{path} not found")
    return _distinct_lines(path)


def _distinct_lines(path: Path) -> list[str]:
    lines = path.read_text("utf-8").split("\n")
    return list(dict.fromkeys(line for line in lines if line.split()))


def _generated_lines() -> list[str]:
    """Return 12,000 distinct lines, of 17 words on average, like English web text."""
    draw = random.Random(0)  # noqa: S311 - not used for security
    words = (ROOT / "LICENSE").read_text("utf-8").split()
    drawn = (draw.choices(words, k=1 + int(draw.gammavariate(1.6, 10))) for _ in range(12_000))
    return list(dict.fromkeys(map(" ".join, drawn)))


def seconds_of(function: Callable[[], Any]) -> float:
    """Call a function and return the elapsed seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def take_turns(
    rounds: int,
    candidates: Mapping[str, Callable[[], Any]],
    measure: Callable[[Callable[[], Any]], float] = seconds_of,
) -> dict[str, float]:
    """Measure each candidate once per round (A B A B ...) and return the median seconds of each."""
    seconds = defaultdict(list)
    for _ in range(rounds):
        for name, candidate in candidates.items():
            seconds[name].append(measure(candidate))
    return {name: median(taken) for name, taken in seconds.items()}


def report(title: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Print a title and a table: names aligned to the left, figures to the right."""
    print(f"\n{title}")
    table = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *figures in table:
        cells = [figure.rjust(w) for figure, w in zip(figures, widths[1:], strict=True)]
        print("  " + "  ".join([name.ljust(widths[0]), *cells]).rstrip())


def memory() -> Path:
    """Return a directory in memory, or print a warning and return one on disk."""
    folder = Path("/dev/shm")  # noqa: S108 - only unique names are created in it
    if folder.is_dir():
        return folder
    print("warning: /dev/shm not found, so the figures include writing to the disk")
    return disk()


def disk() -> Path:
    """Return the system's directory for temporary files."""
    return Path(tempfile.gettempdir())


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Create a directory that is removed at the end of the block."""
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        yield Path(directory)


class Stopwatch:
    """Measures the time spent under each label; a nested label pauses the outer one.

    It measures one thread: ``wall`` minus ``cpu`` is the time in which the thread did not run,
    whether it waited for data or for a processor.
    """

    REST = "everything else"

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._labels = [self.REST]
        self._since = time.perf_counter(), time.thread_time()

    def wrap(self, function: Callable[..., T], label: str) -> Callable[..., T]:
        """Return the function, with its time counted under ``label``."""

        def timed(*args: Any, **kwargs: Any) -> T:
            self._push(label)
            try:
                return function(*args, **kwargs)
            finally:
                self._pop()

        return timed

    def iterate(self, items: Iterable[T], label: str) -> Iterator[T]:
        """Yield the items, with the time for producing them counted under ``label``."""
        advance = self.wrap(iter(items).__next__, label)
        while True:
            try:
                item = advance()
            except StopIteration:
                return
            yield item

    def stop(self) -> None:
        """Count the time since the last call under the current label."""
        now = time.perf_counter(), time.thread_time()
        self.wall[self._labels[-1]] += now[0] - self._since[0]
        self.cpu[self._labels[-1]] += now[1] - self._since[1]
        self._since = now

    def _push(self, label: str) -> None:
        self.stop()
        self._labels.append(label)

    def _pop(self) -> None:
        self.stop()
        self._labels.pop()


@contextmanager
def stand_in(width: int, max_pieces: int) -> Iterator[str]:
    """Run a stand-in server in a separate process and yield its ``HOST:PORT:PORT_OUT``.

    Args:
        width: The width of its vectors.
        max_pieces: The maximum number of pieces of a sentence, including special tokens.
    """
    context = multiprocessing.get_context("spawn")
    parent_end, child_end = context.Pipe()
    process = context.Process(target=_serve, args=(child_end, width, max_pieces))
    process.start()
    child_end.close()
    try:
        yield parent_end.recv()
    finally:
        parent_end.close()  # the process ends when the pipe is closed
        process.join()


def _serve(parent: Connection, width: int, max_pieces: int) -> None:
    import numpy as np

    from support.standin import StandIn

    # Each reply is a slice of these random numbers, so a request costs no computation.
    buffer = np.random.default_rng(0).random(1 << 26, np.float32)

    def vectors(sentences: list[list[str]], width: int) -> np.ndarray[Any, Any]:
        shape = (len(sentences), max(map(len, sentences)), width)
        return buffer[: shape[0] * shape[1] * shape[2]].reshape(shape)

    with StandIn(width=width, limit=max_pieces, vectors=vectors, pieces=_pieces_of) as server:
        parent.send(str(server.address))
        parent.poll(None)  # until the parent closes its end


def _pieces_of(text: str) -> list[str]:
    return [piece for word in text.split() for piece in _pieces_of_word(word)]


_cache: dict[str, list[str]] = {}


def _pieces_of_word(word: str) -> list[str]:
    """Split basic tokens every 8 characters, into about as many pieces as WordPiece does."""
    from bert_tokemb.tokenization.basic import basic_tokens

    if word not in _cache:
        _cache[word] = [
            "##" * bool(i) + token[i : i + 8]
            for token in basic_tokens(word, do_lower_case=True)
            for i in range(0, len(token), 8)
        ]
    return _cache[word]
