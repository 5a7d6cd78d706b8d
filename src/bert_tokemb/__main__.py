"""The command ``bert-tokemb``, and ``python -m bert_tokemb``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from .signals import Interrupted, raise_on_signals

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command, and leave with its exit code."""
    try:
        raise_on_signals()
        from .cli.main import run  # slow enough to be interrupted

        _leave(run())
    except Interrupted as interrupted:
        with suppress(OSError, AttributeError):  # where there is no standard error any more
            name = interrupted.signal.name
            sys.stderr.write(f"bert-tokemb: stopped by {name}, no file was written\n")
        _leave(interrupted.exit_code)


def _leave(exit_code: int) -> NoReturn:
    """Leave; where standard error could not be written, with that exit code all the same."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            # Python would try once more what is left in the buffer, and leave with 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
