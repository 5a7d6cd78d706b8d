"""A run of ``embed`` that a test can interrupt and resume."""

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

# A few lines per chunk, so that even short texts have many chunks.
LOOK_AHEAD = "200000"

# A strategy that pauses after PAUSE_AFTER words, until the process is killed.
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
    """A run of ``embed``, with its text and its output in a directory."""

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
        """Run the command in this process."""
        return invoke(*map(str, self.arguments(*more)), cwd=self.directory, **settings)

    def start(self, *more: object, **settings: object) -> ForkedCommand:
        """Start the command as a process."""
        return ForkedCommand(self.arguments(*more), self.directory, **settings)

    def start_and_pause(self, after: int, **settings: object) -> ForkedCommand:
        """Start the command, and return when it has saved a state and paused after ``after`` words.

        Words are merged by the strategy that pauses, which is also used to resume.
        """
        self.options += ("--strategy", "pause:avg")
        process = self.start(env={"PAUSE_AFTER": str(after)}, **settings)
        paused = self.directory / "paused"
        wait_for(lambda: (paused.exists() and self.saved > 0) or not process.is_running)
        paused.unlink()
        return process

    def break_off(self, line: int) -> str:
        """Run with invalid UTF-8 in one line, repair the text, and return the standard error."""
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
        """The files of an interrupted run."""
        return content(self.workspace)

    @property
    def saved(self) -> int:
        """The number of saved sentences."""
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
    """Wait until a condition holds, and fail after a time-out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(0.002)
