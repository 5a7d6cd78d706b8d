"""The command ``bert-tokemb``, and ``python -m bert_tokemb``."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import NoReturn

from .interruption import Interrupted, raise_on_signals

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command, and leave with its exit code."""
    try:
        raise_on_signals()
        from .cli import run  # slow enough to be interrupted

        sys.exit(run())
    except Interrupted as interrupted:
        with suppress(OSError, AttributeError):  # where there is no standard error any more
            name = interrupted.signal.name
            sys.stderr.write(f"bert-tokemb: stopped by {name}, no file was written\n")
        sys.exit(interrupted.exit_code)


if __name__ == "__main__":
    main()
