"""A run of the command that a test interrupts and starts again."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CONTINUING", "PROGRAM", "SLOWLY", "TAKEN_OVER", "Run", "content"]

# As the command, with a look-ahead of some lines: it stops at borders of stretches alone.
PROGRAM = """
import sys, bert_tokemb.pipeline
bert_tokemb.pipeline.LOOK_AHEAD = 200_000
{before}
from bert_tokemb.__main__ import main
main()
"""

# With time to be looked at while it runs, whatever else the machine does.
SLOWLY = """
import time
from bert_tokemb.jobs.resume import Continuation
def note(*arguments, note=Continuation.note):
    note(*arguments)
    time.sleep(0.02)
Continuation.note = note
"""

CONTINUING = re.compile(r"bert-tokemb: continuing at sentence (\d+)\n")
TAKEN_OVER = re.compile(r"; ([\d,]+) sentences? taken over")


class Run:
    """The command, with a text and an output of its own."""

    def __init__(self, directory: Path, lines: Sequence[str], *options: object) -> None:
        self.directory = directory
        self.text = directory / "text"
        self.text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.output = directory / "out.pkl"
        self.options = options

    def start(self, *more: object, before: str = "", **settings: object) -> subprocess.Popen[str]:
        arguments = ["embed", self.text, "-o", self.output, *self.options, *more]
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(before=before), *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            **settings,  # type: ignore[call-overload]
        )

    def __call__(self, *more: object, **settings: object) -> tuple[int, str]:
        """Run it to its end; return its exit code and what it told."""
        process = self.start(*more, **settings)
        _, told = process.communicate(timeout=120)
        return process.returncode, told

    @property
    def journal(self) -> Path:
        return self.output.with_name(f".{self.output.name}.journal")

    @property
    def reached(self) -> int:
        """The sentences that the journal says are written."""
        try:
            *_, last = self.journal.read_bytes().splitlines(keepends=True)
            entry = json.loads(last.partition(b" ")[2])
            return entry["tally"]["counts"]["sentences"] if last.endswith(b"\n") else 0
        except (FileNotFoundError, KeyError, ValueError):
            return 0

    def interrupt(self, signum: int = signal.SIGKILL, *, beyond: int) -> str:
        """Run it until it has written more than so many sentences; return what it told."""
        process = self.start(before=SLOWLY)
        while self.reached <= beyond and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signum)
        _, told = process.communicate(timeout=60)
        assert process.returncode != 0, told
        return told

    @property
    def leftovers(self) -> set[str]:
        return {path.name for path in self.directory.iterdir() if path.name.startswith(".")}


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of the files of a directory."""
    files = path.iterdir() if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}
