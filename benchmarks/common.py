"""What the benchmarks share: texts, taking turns, a stopwatch, a stand-in server, printing.

Importing it makes ``tests/support`` importable. It imports nothing heavy itself: the peak memory
of a child process is at least that of the process that started it.
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
    "print_table",
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
    """Return the distinct lines of a text, by default of some real English."""
    path = given or DATA / "ewt-dev.txt"
    if not path.is_file():
        sys.exit(f"there is no {path}: give a UTF-8 text, one sentence a line, as the argument")
    return _distinct_lines(path)


def much_text(given: Path | None) -> list[str]:
    """Return the distinct lines of a larger text, or lines made up where there is none."""
    path = given or DATA / "ewt-train.txt"
    if given is None and not path.is_file():
        print("note: no text was given, so these lines are words drawn from LICENSE")
        return _made_up_lines()
    if not path.is_file():
        sys.exit(f"there is no {path}")
    return _distinct_lines(path)


def _distinct_lines(path: Path) -> list[str]:
    lines = path.read_text("utf-8").split("\n")
    return list(dict.fromkeys(line for line in lines if line.split()))


def _made_up_lines() -> list[str]:
    """Return 12,000 distinct lines, 17 words long in the mean as those of English web text."""
    draw = random.Random(0)  # noqa: S311 - no secret
    words = (ROOT / "LICENSE").read_text("utf-8").split()
    drawn = (draw.choices(words, k=1 + int(draw.gammavariate(1.6, 10))) for _ in range(12_000))
    return list(dict.fromkeys(map(" ".join, drawn)))


def seconds_of(way: Callable[[], Any]) -> float:
    """Run it, and return how long it took."""
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


def take_turns(
    rounds: int,
    ways: Mapping[str, Callable[[], Any]],
    measure: Callable[[Callable[[], Any]], float] = seconds_of,
) -> dict[str, float]:
    """Measure each way once a round, A B A B ..., and return each one's median seconds."""
    seconds = defaultdict(list)
    for _ in range(rounds):
        for name, way in ways.items():
            seconds[name].append(measure(way))
    return {name: median(taken) for name, taken in seconds.items()}


def print_table(title: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Print a table: a title, then names to the left and figures to the right."""
    print(f"\n{title}")
    table = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *figures in table:
        cells = [figure.rjust(w) for figure, w in zip(figures, widths[1:], strict=True)]
        print("  " + "  ".join([name.ljust(widths[0]), *cells]).rstrip())


def memory() -> Path:
    """Return the folder of a file system in memory, or with a warning one on disk."""
    folder = Path("/dev/shm")  # noqa: S108 - what is made in it has a name of its own
    if folder.is_dir():
        return folder
    print("warning: there is no /dev/shm, so the disk takes part in these figures")
    return disk()


def disk() -> Path:
    """Return the folder that this system has for temporary files."""
    return Path(tempfile.gettempdir())


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """Make a folder that is removed at the end."""
    with tempfile.TemporaryDirectory(dir=parent) as made:
        yield Path(made)


class Stopwatch:
    """Tells the time spent under each label; an inner label stops the outer one's time.

    In one thread: time off the processor, waiting for it too, is ``wall`` less ``cpu``.
    """

    REST = "everything else"

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self._labels = [self.REST]
        self._since = time.perf_counter(), time.thread_time()

    def wrap(self, function: Callable[..., T], label: str) -> Callable[..., T]:
        """Return the function with its time put under ``label``."""

        def timed(*args: Any, **kwargs: Any) -> T:
            self._begin(label)
            try:
                return function(*args, **kwargs)
            finally:
                self._end()

        return timed

    def iterate(self, items: Iterable[T], label: str) -> Iterator[T]:
        """Yield the items, with the time that drawing them takes put under ``label``."""
        draw = self.wrap(iter(items).__next__, label)
        while True:
            try:
                item = draw()
            except StopIteration:
                return
            yield item

    def stop(self) -> None:
        """Put what has passed under the label that is open."""
        now = time.perf_counter(), time.thread_time()
        self.wall[self._labels[-1]] += now[0] - self._since[0]
        self.cpu[self._labels[-1]] += now[1] - self._since[1]
        self._since = now

    def _begin(self, label: str) -> None:
        self.stop()
        self._labels.append(label)

    def _end(self) -> None:
        self.stop()
        self._labels.pop()


@contextmanager
def stand_in(width: int, longest: int) -> Iterator[str]:
    """Run a server that answers at once, in a process of its own; yield ``HOST:PORT:PORT_OUT``.

    Args:
        width: Of its vectors.
        longest: The most pieces that it takes, special ones included.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, width, longest))
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()  # the process ends when the pipe closes
        process.join()


def _serve(caller: Connection, width: int, longest: int) -> None:
    import numpy as np

    from support.standin import StandIn

    # Random numbers, a slice of which answers every request: nothing is computed for it.
    buffer = np.random.default_rng(0).random(1 << 26, np.float32)

    def vectors(sentences: list[list[str]], width: int) -> np.ndarray[Any, Any]:
        shape = (len(sentences), max(map(len, sentences)), width)
        return buffer[: shape[0] * shape[1] * shape[2]].reshape(shape)

    with StandIn(width=width, limit=longest, vectors=vectors, pieces=_pieces_of) as server:
        caller.send(str(server.address))
        caller.poll(None)  # until the caller closes its end


def _pieces_of(text: str) -> list[str]:
    return [piece for word in text.split() for piece in _pieces_of_word(word)]


_remembered: dict[str, list[str]] = {}


def _pieces_of_word(word: str) -> list[str]:
    """Cut basic tokens into pieces of 8 characters: on English as many as BERT's vocabulary."""
    from bert_tokemb.tokenization.basic import basic_tokens

    if word not in _remembered:
        _remembered[word] = [
            "##" * bool(i) + token[i : i + 8]
            for token in basic_tokens(word, do_lower_case=True)
            for i in range(0, len(token), 8)
        ]
    return _remembered[word]
