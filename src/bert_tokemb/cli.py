"""The command line: reads options, builds the parts, hands over, tells.

Nothing heavy is imported before a command runs. Errors become sentences and exit codes in
:func:`main`, and nowhere else.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .errors import TokembError, UsageError

if TYPE_CHECKING:
    from .encoders.client import Address

__all__ = ["cli", "main"]

PROGRAM = "bert-tokemb"
_SERVER = "HOST[:PORT[:PORT_OUT]]"
_LONGEST_TIMEOUT = 7 * 24 * 3600.0


class _Interrupted(BaseException):
    """Ctrl-C or a termination signal; no Exception, so that nobody takes it for an error."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


def main() -> NoReturn:
    """Run the command, and leave with its exit code."""
    try:
        _raise_on_signals()
        cli.main(prog_name=PROGRAM, standalone_mode=False)
    except TokembError as error:
        _leave(error.exit_code, f"error: {error}")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except _Interrupted as interrupted:
        name = signal.Signals(interrupted.signum).name
        _leave(128 + interrupted.signum, f"stopped by {name}, nothing was written")
    sys.exit(0)


def _leave(exit_code: int, message: str) -> NoReturn:
    # One line, whatever names and foreign messages it quotes.
    click.echo(f"{PROGRAM}: {' '.join(message.splitlines())}", err=True)
    sys.exit(exit_code)


def _raise_on_signals() -> None:
    def stop(signum: int, frame: FrameType | None) -> None:
        # Asked a second time while the first is being obeyed: no more tidying up.
        signal.signal(signum, lambda signum, frame: os._exit(128 + signum))
        raise _Interrupted(signum)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        # Who started us with a signal ignored, as nohup and `&` do, wants it ignored.
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, stop)


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option that can also be given by ``BERT_TOKEMB_<OPTION>``, in any command."""
    long = next(name for name in names if name.startswith("--"))
    variable = "BERT_TOKEMB_" + long[2:].upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


def _address(ctx: click.Context, param: click.Parameter, value: str) -> Address:
    from .encoders.client import Address

    host, *ports = value.split(":")
    if not host or len(ports) > 2 or not all(_is_port(port) for port in ports):
        raise click.BadParameter(f"{value!r} is not {_SERVER}", ctx, param)
    return Address(host, *map(int, ports))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 16


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which passes every range
        raise click.BadParameter("nan is no number of seconds", ctx, param)
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM)
def cli() -> None:
    """Word-level BERT embeddings from a text file."""


@cli.command()
@click.argument("input_name", metavar="INPUT")
@_option(
    "-o",
    "--output",
    "output_name",
    metavar="PATH",
    required=True,
    help="Where the pickled list of arrays goes.",
)
@_option(
    "--strategy",
    default="avg",
    show_default=True,
    metavar="NAME",
    help="How the pieces of a word become one vector: avg, first, last, max, an installed "
    "plug-in, or package.module:function.",
)
@_option(
    "--server",
    callback=_address,
    default="localhost",
    show_default=True,
    metavar=_SERVER,
    help="The bert-serving-server. Ports left out are 5555 and 5556.",
)
@_option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=_LONGEST_TIMEOUT),
    callback=_seconds,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long one request may take before it is sent again.",
)
@_option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="How many times it is sent again.",
)
@_option(
    "--blank-lines",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="keep: a blank line gives a 0 x c array; skip: it gives none.",
)
@_option(
    "--strict",
    is_flag=True,
    help="Refuse unknown words and words without pieces, instead of counting them.",
)
@_option("--quiet", is_flag=True, help="Tell nothing but errors.")
def embed(
    input_name: str,
    output_name: str,
    strategy: str,
    server: Address,
    timeout: float,
    retries: int,
    blank_lines: Any,
    strict: bool,
    quiet: bool,
) -> None:
    """Embed the words of INPUT, a UTF-8 text with one sentence a line, or - for stdin.

    The output is a pickled list of float arrays, one for each line: one row for each
    white-space separated word, as wide as the model.
    """
    from .encoders.serving import ServingEncoder
    from .outputs.pickle import PickleOutput
    from .outputs.whole_file import WholeFile
    from .pipeline import embed as embed_sentences
    from .progress import Progress, summary
    from .reading import TextInput
    from .strategies import load_strategy
    from .types import Counts

    logging.basicConfig(
        format=f"{PROGRAM}: %(message)s", level=logging.ERROR if quiet else logging.WARNING
    )
    _refuse_same_file(input_name, output_name)
    merging = load_strategy(strategy)
    counts = Counts()
    begin = time.monotonic()
    with TextInput(input_name) as text:
        with (
            WholeFile(output_name) as file,
            ServingEncoder(server, timeout=timeout, retries=retries) as encoder,
            Progress(text, counts, quiet=quiet) as lines,
        ):
            output = PickleOutput(file)
            for array in embed_sentences(
                lines, encoder, merging, blank_lines=blank_lines, strict=strict, counts=counts
            ):
                output.write(array)
                lines.update()
            output.end()
        if not quiet:
            seconds = time.monotonic() - begin
            click.echo(summary(text, counts, output_name, file.size, seconds), err=True)


def _refuse_same_file(input_name: str, output_name: str) -> None:
    try:
        same = input_name != "-" and Path(input_name).samefile(output_name)
    except OSError:  # one of them is not there, or what is wrong will be told when it is opened
        return
    if same:
        raise UsageError(f"INPUT and --output are the same file, {output_name}")
