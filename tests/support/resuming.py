"""A run of ``embed`` that a test interrupts and starts again."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .command import invoke
from .forked import ForkedCommand

__all__ = ["PAUSE", "RESUMED", "RESUMING", "Run", "content", "wait_for"]

RESUMING = re.compile(r"bert-tokemb: resuming at sentence (\d+)\n")
RESUMED = re.compile(r"; ([\d,]+) sentences? resumed")

# Some lines a chunk, so that short texts have many chunks.
LOOK_AHEAD = "200000"

# Pauses after some words, until the process is ended.
PAUSE = """
import os, time
calls = 0
def avg(pieces):
    global calls
    calls += 1
    if calls == int(os.environ.get("PAUSE_AFTER", 0)):
        open("paused", "w").close()
        time.sleep(600)
    return pieces.mean(axis=0)
"""


class Run:
    """``embed`` with a text and an output of its own, in a directory of its own."""

    def __init__(self, directory: Path, lines: Sequence[str], *options: object) -> None:
        self.directory = directory
        self.text = directory / "text"
        self.lines = lines
        self.output = directory / "out.pkl"
        self.options = options
        (directory / "pause.py").write_text(PAUSE)
        self.write_text()

    def write_text(self) -> None:
        self.text.write_bytes("".join(f"{line}\n" for line in self.lines).encode())

    def arguments(self, *more: object) -> list[object]:
        fixed = ("--look-ahead", LOOK_AHEAD)
        return ["embed", self.text, "-o", self.output, *fixed, *self.options, *more]

    def __call__(self, *more: object, **settings: object) -> subprocess.CompletedProcess[str]:
        """Run it in this process."""
        return invoke(*map(str, self.arguments(*more)), cwd=self.directory, **settings)

    def start(self, *more: object, **settings: object) -> ForkedCommand:
        """Start it as a process."""
        return ForkedCommand(self.arguments(*more), self.directory, **settings)

    def start_and_pause(self, after: int, **settings: object) -> ForkedCommand:
        """Start it, and return when it has saved a state and paused after so many words.

        It merges words by a strategy of its own, with which it has to be resumed.
        """
        self.options += ("--strategy", "pause:avg")
        process = self.start(env={"PAUSE_AFTER": str(after)}, **settings)
        paused = self.directory / "paused"
        wait_for(lambda: (paused.exists() and self.saved > 0) or not process.is_running)
        paused.unlink()
        return process

    def break_off(self, line: int) -> str:
        """Run it with a text that cannot be read at some line; return what it printed.

        The text is whole again afterwards.
        """
        lines = [line.encode() for line in self.lines]
        lines[line - 1] = b"\xff"
        self.text.write_bytes(b"".join(line + b"\n" for line in lines))
        done = self()
        assert done.returncode == 1, done.stderr
        assert self.saved > 0
        self.write_text()
        return done.stderr

    @property
    def workspace(self) -> Path:
        return self.output.with_name(f".{self.output.name}.partial")

    @property
    def state(self) -> dict[str, bytes]:
        """What an interrupted run has left."""
        return content(self.workspace)

    @property
    def saved(self) -> int:
        """The number of sentences that can be resumed."""
        try:
            state = json.loads((self.workspace / "state.json").read_bytes())["state"]
        except FileNotFoundError:
            return 0
        return int(state["tally"]["sentences"])

    @property
    def hidden(self) -> set[str]:
        return {path.name for path in self.directory.iterdir() if path.name.startswith(".")}


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of the files in a directory."""
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something has happened, and fail if it does not."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)
