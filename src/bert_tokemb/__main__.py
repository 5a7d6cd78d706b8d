"""The command ``bert-tokemb``, and ``python -m bert_tokemb``."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn

from .signals import Interrupted, raise_on_signals

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit."""
    try:
        raise_on_signals()
        from .cli.main import run  # takes long enough to be interrupted

        _exit(run())
    except Interrupted as interrupted:
        with suppress(OSError, AttributeError):  # standard error may be closed
            name = interrupted.signal.name
            sys.stderr.write(f"bert-tokemb: stopped by {name}\n")
        _exit(interrupted.exit_code)


def _exit(code: int) -> NoReturn:
    """Exit with this code, even if standard error cannot be written."""
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            # Otherwise Python would flush the buffer again and exit with code 120.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
