"""Standard output, standard error and the log."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import click

from ..errors import OutputError, translate
from ..humanize import printable
from .advice import add_advice

__all__ = ["PROGRAM", "log_to_stderr", "print_message", "show", "translate_output_errors"]

PROGRAM = "bert-tokemb"


def print_message(line: str) -> None:
    """Print a line on standard error, unless that is closed or cannot be written.

    Control characters are escaped: the line may quote names of files.
    """
    with suppress(OSError, AttributeError):
        click.echo(printable(line), err=True)


def show(lines: Iterable[str]) -> None:
    """Print lines on standard output.

    Raises:
        OutputError: if they cannot be written.
    """
    # A reader that stops early, such as head, ends this program as it ends others.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:
        raise OutputError("cannot write standard output: it is closed")
    color = False if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else None
    with translate_output_errors():
        if isinstance(sys.stdout, io.TextIOWrapper):  # a calling program may have replaced it
            sys.stdout.reconfigure(errors="backslashreplace")
    for line in lines:
        with translate_output_errors():
            click.echo(line, color=color)
    with translate_output_errors():
        sys.stdout.flush()


@contextmanager
def translate_output_errors() -> Iterator[None]:
    """Raise an OSError of standard output as an :class:`OutputError`."""
    try:
        with translate(OutputError, "write standard output"):
            yield
    except OutputError:
        # Otherwise Python would try to write the rest of the buffer at exit, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Print log messages on standard error, one line each."""
    handler = logging.StreamHandler()
    handler.addFilter(add_advice)
    handler.setFormatter(_PrintableFormatter(f"{PROGRAM}: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level, force=True)


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
