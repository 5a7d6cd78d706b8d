"""The command line as a whole: it runs a command and reports errors.

Nothing heavy is imported before a command runs. :func:`run` is the only place where errors become
messages and exit codes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from ..errors import TokembError
from .advice import exit_code, with_advice
from .console import PROGRAM, print_message, translate_output_errors
from .embed import embed
from .info import info
from .pieces import pieces
from .serve import serve

__all__ = ["cli", "run"]


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(None, "-V", "--version", package_name=PROGRAM, prog_name=PROGRAM)
@click.pass_context
def cli(context: click.Context) -> None:
    """Word-level contextual embeddings from a text file: one vector per word."""
    if context.invoked_subcommand is None:
        for line in context.get_help().splitlines():
            print_message(line)
        context.exit(2)


for command in (embed, info, pieces, serve):
    cli.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The arguments of the program, by default those of the process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        # Called here, because click handles an EOFError or a broken pipe within a command, such as
        # one that a user's strategy raises, as its own.
        command = _parse(arguments)
        if not callable(command):
            return command
        command()
    except TokembError as error:
        _print_error(with_advice(error))
        return exit_code(error)
    except MemoryError as error:
        _print_error("there is not enough memory")
        return exit_code(error)
    except click.UsageError as error:
        _print_error(_usage_message(error, arguments))
        return error.exit_code
    return 0


def _parse(arguments: Sequence[str]) -> Callable[[], None] | int:
    """Parse the command line and return the command to run, or an exit code after --help.

    Raises:
        click.UsageError: if the command line is invalid.
        OutputError: if the help or the version cannot be printed.
    """
    with translate_output_errors():  # nothing else here uses files
        command: Callable[[], None] | int = cli.main(
            arguments, prog_name=PROGRAM, standalone_mode=False
        )
    return command


def _print_error(message: str) -> None:
    # Names of files and messages of libraries may contain newlines.
    print_message(f"{PROGRAM}: error: {' '.join(message.splitlines())}")


def _usage_message(error: click.UsageError, arguments: Sequence[str]) -> str:
    """Return a message of click in the form of all others: what is wrong, and what to do."""
    similar = getattr(error, "possibilities", None)
    wrong = error.message if similar else error.format_message()
    wrong = wrong[:1].lower() + wrong[1:].removesuffix(".")
    if similar:
        return f"{wrong}; did you mean {' or '.join(similar)}?"
    command = [name for name in arguments[:1] if name in cli.commands]
    return f"{wrong}; see {' '.join([PROGRAM, *command])} --help"
