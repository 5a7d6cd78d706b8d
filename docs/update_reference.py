"""Write the output of ``--help`` into ``docs/command-line.md``.

uv run --group dev python docs/update_reference.py

Each command has a place of its own between ``<!-- help: COMMAND -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("command-line.md")
PLACE = re.compile(r"(<!-- help: bert-tokemb(?: (\w+))? -->\n).*?(<!-- end -->)", re.DOTALL)
COLUMNS = "100"


def help_of(command: str) -> str:
    """Return the output of ``bert-tokemb COMMAND --help``."""
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "bert_tokemb", *command.split(), "--help"],
        env={**os.environ, "COLUMNS": COLUMNS},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def updated(page: str) -> str:
    """Return the page with the current output of ``--help`` in each place."""
    return PLACE.sub(
        lambda place: f"{place[1]}```text\n{help_of(place[2] or '')}```\n{place[3]}", page
    )


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
