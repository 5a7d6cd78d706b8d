"""The command line: reads options, builds the parts, hands over, tells.

Nothing heavy is imported before a command runs. Errors become sentences and exit codes in
:func:`run`, and nowhere else.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from .errors import TokembError, UsageError
from .interruption import hold_signals, ignore_signals

if TYPE_CHECKING:
    from .encoders.address import Address

__all__ = ["cli", "run"]

PROGRAM = "bert-tokemb"
_SERVER = "HOST[:PORT[:PORT_OUT]]"
_MOST_THREADS = 1024
_LONGEST_TIMEOUT = 7 * 24 * 3600.0
_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE

# Options of one encoder only.
_FOR_SERVER = ("timeout", "retries")
_FOR_ENGINE = ("layers", "max_seq_len", "device", "precision", "threads", "cased")


def run() -> int:
    """Run the command, and return its exit code."""
    try:
        # What a command does is done out here, where click does not take an EOFError or a
        # broken pipe of somebody's strategy for its own.
        job = cli.main(prog_name=PROGRAM, standalone_mode=False)
        if callable(job):
            job()
    except TokembError as error:
        # One line, whatever names and foreign messages it quotes.
        tell(f"{PROGRAM}: error: {' '.join(str(error).splitlines())}")
        return error.exit_code
    except MemoryError:
        tell(f"{PROGRAM}: error: there is not enough memory")
        return TokembError.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


def tell(line: str) -> None:
    """Print a line on standard error, if there still is one."""
    if sys.stderr is not None:
        with suppress(OSError):
            click.echo(line, err=True)


def _option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option that can also be given by ``BERT_TOKEMB_<OPTION>``, in any command."""
    long = next(name for name in names if name.startswith("--"))
    variable = "BERT_TOKEMB_" + long[2:].partition("/")[0].upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, **settings)


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    if value is None:
        return None
    from .encoders.address import Address

    host, *ports = value.split(":")
    if not host or len(ports) > 2 or not all(_is_port(port) for port in ports):
        raise click.BadParameter(f"{value!r} is not {_SERVER}", ctx, param)
    return Address(host, *map(int, ports))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 16


def _layers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not N[,N...]", ctx, param) from None


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
    metavar=_SERVER,
    show_default="localhost, if anything listens there",
    help="Have a bert-serving-server compute. Ports left out are 5555 and 5556.",
)
@_option(
    "--model",
    metavar="DIR|HUB_ID",
    show_default="sentence-transformers/all-MiniLM-L6-v2, if no server listens",
    help="Have the embedded engine compute, with a BERT in a directory or on the Hugging Face hub.",
)
@_option(
    "--layers",
    callback=_layers,
    default="-2",
    show_default=True,
    metavar="N[,N...]",
    help="Engine: which hidden layers, side by side in this order; -1 is the last.",
)
@_option(
    "--max-seq-len",
    type=click.IntRange(min=3),
    metavar="N",
    help="Engine: the most word pieces of a sentence, [CLS] and [SEP] included.",
    show_default="as many as the model takes",
)
@_option(
    "--cased/--uncased",
    default=None,
    help="Engine: keep capitals and accents, or strip them.",
    show_default="as the model says",
)
@_option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Engine: where to compute. auto is a GPU if onnxruntime-gpu is installed.",
)
@_option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Engine: int8 is quicker on a CPU, and less exact; fp16 the same on a GPU.",
)
@_option(
    "--threads",
    type=click.IntRange(min=1, max=_MOST_THREADS),
    metavar="N",
    help="Engine: how many threads compute.",
    show_default="one for each available CPU",
)
@_option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=_LONGEST_TIMEOUT),
    callback=_seconds,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Server: how long one request may take before it is sent again.",
)
@_option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Server: how many times it is sent again.",
)
@_option(
    "--blank-lines",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="keep: a blank line gives a 0 x c array; skip: it gives none.",
)
@_option(
    "--strict/--no-strict",
    help="Refuse unknown words and words without pieces, instead of counting them.",
)
@_option("--quiet/--no-quiet", help="Tell nothing but errors.")
@_option("--default-server", callback=_address, default="localhost", hidden=True)
def embed(**options: Any) -> Callable[[], None]:
    """Embed the words of INPUT, a UTF-8 text with one sentence a line, or - for stdin.

    The output is a pickled list of float arrays, one for each line: one row for each
    white-space separated word, as wide as the model.
    """
    source_of = click.get_current_context().get_parameter_source
    given = {name for name in options if source_of(name) is _COMMAND_LINE}
    # The command line wins over a variable that it excludes.
    if "model" in given and "server" not in given:
        options["server"] = None
    if "server" in given and "model" not in given:
        options["model"] = None
    for_server = {name: options.pop(name) for name in _FOR_SERVER}
    for_engine = {name: options.pop(name) for name in _FOR_ENGINE}
    return partial(_embed, **options, for_server=for_server, for_engine=for_engine, given=given)


def _embed(
    *,
    input_name: str,
    output_name: str,
    strategy: str,
    server: Address | None,
    model: str | None,
    default_server: Address,
    blank_lines: Literal["keep", "skip"],
    strict: bool,
    quiet: bool,
    for_server: Mapping[str, Any],
    for_engine: Mapping[str, Any],
    given: Collection[str],
) -> None:
    with hold_signals():
        from .encoders.choice import choose_encoder
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
    if output_name in ("", "-"):
        raise UsageError(f"--output must be the path of a file, and is {output_name!r}")
    _refuse_same_file(input_name, output_name)
    merging = load_strategy(strategy)
    counts = Counts()
    begin = time.monotonic()
    with TextInput(input_name) as text:
        with (
            WholeFile(output_name) as file,
            choose_encoder(
                server,
                model,
                default_server=default_server,
                for_server=for_server,
                for_engine=for_engine,
                given=given,
            ) as encoder,
            Progress(text, quiet=quiet) as progress,
        ):
            output = PickleOutput(file)
            arrays = embed_sentences(
                text,
                progress.watch(encoder),
                merging,
                blank_lines=blank_lines,
                strict=strict,
                counts=counts,
            )
            for array in arrays:
                output.write(array)
            output.end()
        ignore_signals()
        if not quiet:
            tell(summary(text, counts, output_name, file.size, time.monotonic() - begin))


def _refuse_same_file(input_name: str, output_name: str) -> None:
    source = Path(input_name)
    try:
        same = input_name != "-" and source.is_file() and source.samefile(output_name)
    except OSError:  # one of them is not there, or what is wrong will be told when it is opened
        return
    if same:
        raise UsageError(f"INPUT and --output are the same file, {output_name}")
