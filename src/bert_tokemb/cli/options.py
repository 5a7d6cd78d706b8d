"""What the commands have in common: options by the environment, the engine's, telling."""

from __future__ import annotations

import io
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import OutputError
from ..humanize import printable

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = [
    "ENGINE_OPTIONS",
    "PROGRAM",
    "SERVER",
    "address",
    "engine_options",
    "given_names",
    "log_to_stderr",
    "option",
    "seconds",
    "set_names",
    "show",
    "tell",
    "telling_of_output",
    "variable_of",
]

PROGRAM = "bert-tokemb"
SERVER = "HOST[:PORT[:PORT_OUT]]"
_MOST_THREADS = 1024
_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE

F = TypeVar("F", bound=Callable[..., Any])


def tell(line: str) -> None:
    """Print a line on standard error, if there still is one, whatever names it quotes."""
    with suppress(OSError, AttributeError):
        click.echo(printable(line), err=True)


def log_to_stderr(level: int = logging.WARNING) -> None:
    """Have what is logged told on standard error, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine(f"{PROGRAM}: %(message)s"))
    logging.basicConfig(handlers=[handler], level=level, force=True)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def show(lines: Iterable[str]) -> None:
    """Print lines on standard output, for as long as somebody reads them.

    Raises:
        OutputError: they cannot be written.
    """
    # Whoever reads the first lines alone, as head does, ends us as any other program.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:
        raise OutputError("cannot write standard output: it is closed")
    with telling_of_output():
        _show_all_text()
    # https://no-color.org; by itself click drops colours where there is no terminal.
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    color = False if is_plain else None
    for line in lines:
        with telling_of_output():
            click.echo(line, color=color)
    with telling_of_output():
        sys.stdout.flush()


def _show_all_text() -> None:
    """Have standard output show escapes for what its encoding has not, and never fail of it."""
    # Not what a program that calls us has put there.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def telling_of_output() -> Iterator[None]:
    """Make an :class:`OutputError` of what the system says of standard output."""
    try:
        yield
    except OSError as error:
        # What is left in the buffer would be tried once more, and told once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"cannot write standard output: {error.strerror or error}") from error


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that can also be given by ``BERT_TOKEMB_<OPTION>``, in any command."""
    long = next(name for name in names if name.startswith("--"))
    variable = variable_of(long[2:].partition("/")[0].replace("-", "_"))
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


def given_names(options: Collection[str]) -> set[str]:
    """Return which of the running command's options the command line gives."""
    return _given(options, _COMMAND_LINE)


def set_names(options: Collection[str]) -> set[str]:
    """Return which of the running command's options are set by an environment variable."""
    return _given(options, click.core.ParameterSource.ENVIRONMENT)


def _given(options: Collection[str], where: click.core.ParameterSource) -> set[str]:
    source_of = click.get_current_context().get_parameter_source
    return {name for name in options if source_of(name) is where}


def variable_of(name: str) -> str:
    """Return the environment variable of an option, by its name in the command."""
    return f"BERT_TOKEMB_{name.upper()}"


def address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    """Read where a server listens."""
    if value is None:
        return None
    from ..encoders.server.address import Address

    host, *ports = value.split(":")
    if not host or len(ports) > 2 or not all(_is_port(port) for port in ports):
        raise click.BadParameter(f"{value!r} is not {SERVER}", ctx, param)
    return Address(host, *map(int, ports))


def seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Refuse what passes every range."""
    if math.isnan(value):
        raise click.BadParameter("nan is no number of seconds", ctx, param)
    return value


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 16


def _layers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not N[,N...]", ctx, param) from None


_ENGINE: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (
        ("--layers",),
        {
            "callback": _layers,
            "default": "-2",
            "show_default": True,
            "metavar": "N[,N...]",
            "help": "which hidden layers, side by side in this order; -1 is the last.",
        },
    ),
    (
        ("--max-seq-len",),
        {
            "type": click.IntRange(min=3),
            "metavar": "N",
            "help": "the most word pieces of a sentence, [CLS] and [SEP] included.",
            "show_default": "as many as the model takes",
        },
    ),
    (
        ("--cased/--uncased",),
        {
            "default": None,
            "help": "keep capitals and accents, or strip them.",
            "show_default": "as the model says",
        },
    ),
    (
        ("--device",),
        {
            "type": click.Choice(["auto", "cpu", "cuda"]),
            "default": "auto",
            "show_default": True,
            "help": "where to compute. auto is a GPU if onnxruntime-gpu is installed.",
        },
    ),
    (
        ("--precision",),
        {
            "type": click.Choice(["fp32", "fp16", "int8"]),
            "default": "fp32",
            "show_default": True,
            "help": "how exactly to compute. int8 is quicker on a CPU, and less exact; fp16 the "
            "same on a GPU.",
        },
    ),
    (
        ("--threads",),
        {
            "type": click.IntRange(min=1, max=_MOST_THREADS),
            "metavar": "N",
            "help": "how many threads compute.",
            "show_default": "one for each available CPU",
        },
    ),
)

ENGINE_OPTIONS = ("layers", "max_seq_len", "cased", "device", "precision", "threads")
"""Their names in a command."""


def engine_options(
    before: str = "", only: Collection[str] = ENGINE_OPTIONS, **instead: Mapping[str, Any]
) -> Callable[[F], F]:
    """Add the engine's options to a command.

    Args:
        before: What the help of each begins with.
        only: Which of them.
        instead: Other settings for some of them.
    """

    def decorate(command: F) -> F:
        # The last one that is added is the first one told.
        for names, settings in reversed(_ENGINE):
            name = names[0].partition("/")[0][2:].replace("-", "_")
            if name not in only:
                continue
            changed = {**settings, **instead.get(name, {})}
            text = before + changed["help"]
            changed["help"] = text[0].upper() + text[1:]
            command = option(*names, **changed)(command)
        return command

    return decorate
