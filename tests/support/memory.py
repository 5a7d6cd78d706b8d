"""Measures the peak memory of a program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

__all__ = ["MAIN", "run_and_measure"]

MAIN = "from bert_tokemb.__main__ import main; main()"
"""Runs ``bert-tokemb`` with the arguments of the program."""

_MEASURE = """
import sys
try:
    exec(sys.argv.pop(1))
finally:
    # The peak of getrusage is at least that of the parent process, so it cannot be used.
    with open("/proc/self/status") as status:
        peak = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    print(peak, file=sys.stderr)
"""


def run_and_measure(
    script: str,
    *arguments: str | Path,
    stdin: IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[bytes, int]:
    """Run a Python program; return its standard output and its peak resident memory in KiB."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, script, *arguments],
        stdin=stdin,
        env=env,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout, int(done.stderr.split()[-1])
