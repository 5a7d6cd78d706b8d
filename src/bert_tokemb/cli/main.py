"""The command line: hands over to a command, tells errors in a sentence.

Nothing heavy is imported before a command runs. Errors become sentences and exit codes in
:func:`run`, and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import click

from ..errors import TokembError
from .advice import exit_code, with_advice
from .embed import embed
from .info import info
from .options import PROGRAM, tell, telling_of_output
from .pieces import pieces
from .serve import serve

__all__ = ["cli", "run"]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: The command line without the program's name; by default that of the process.
    """
    try:
        # What a command does is done out here, where click does not take an EOFError or a
        # broken pipe of somebody's strategy for its own.
        job = _parsed(arguments)
        if callable(job):
            job()
    except TokembError as error:
        # One line, whatever names and foreign messages it quotes.
        tell(f"{PROGRAM}: error: {' '.join(with_advice(error).splitlines())}")
        return exit_code(error)
    except MemoryError as error:
        tell(f"{PROGRAM}: error: there is not enough memory")
        return exit_code(error)
    except click.ClickException as error:
        # Where there is no standard error, click would take standard output, which is for data.
        if sys.stderr is not None:
            with suppress(OSError):
                error.show()
        return error.exit_code
    return 0


def _parsed(arguments: Sequence[str] | None) -> Any:
    """Return what is to be called, if anything is: help and the version are shown already.

    Raises:
        OutputError: they cannot be.
    """
    with telling_of_output():  # of nothing else: parsing opens no file
        return cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def cli() -> None:
    """Word-level BERT embeddings from a text file."""


cli.add_command(embed)
cli.add_command(info)
cli.add_command(pieces)
cli.add_command(serve)
