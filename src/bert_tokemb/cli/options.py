"""Options that several commands share, and help that groups options."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = [
    "PATH",
    "Command",
    "cased_option",
    "default_server_option",
    "device_option",
    "given_names",
    "layers_option",
    "max_seq_len_option",
    "model_option",
    "option",
    "precision_option",
    "retries_option",
    "server_option",
    "set_names",
    "threads_option",
    "timeout_option",
    "variable_of",
]

_MAX_THREADS = 1024
_MAX_TIMEOUT = 7 * 24 * 3600.0
_COMMAND_LINE = click.core.ParameterSource.COMMANDLINE

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(readable=False, allow_dash=True)
"""Completed by the shell, but not checked: the code that opens the file reports errors."""


class Command(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each group in a section."""
        groups: dict[str, list[tuple[str, str]]] = {}
        group = "Options"
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue
            group = getattr(parameter, "group", "") or group
            if record := parameter.get_help_record(ctx):
                groups.setdefault(group, []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


class _Option(click.Option):
    def __init__(self, *args: Any, group: str = "", **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option that can also be given by the variable ``BERT_TOKEMB_<LONG_NAME>``.

    Args:
        names: Short and long names, as for :func:`click.option`.
        settings: As for :func:`click.option`. In addition, ``group`` is the title of the group to
            which this option and the following ones belong in the help of a :class:`Command`.
    """
    long = next(name for name in names if name.startswith("--"))
    variable = variable_of(long[2:].partition("/")[0].replace("-", "_"))
    settings = {"show_default": True, "show_envvar": True, **settings}
    return click.option(*names, cls=_Option, envvar=variable, **settings)


def variable_of(name: str) -> str:
    """Return the environment variable of an option, by its name in the command."""
    return f"BERT_TOKEMB_{name.upper()}"


def given_names(options: Collection[str]) -> set[str]:
    """Return the options of the running command that are given on the command line."""
    return _names_from(_COMMAND_LINE, options)


def set_names(options: Collection[str]) -> set[str]:
    """Return the options of the running command that are set by an environment variable."""
    return _names_from(click.core.ParameterSource.ENVIRONMENT, options)


def _names_from(source: click.core.ParameterSource, options: Collection[str]) -> set[str]:
    source_of = click.get_current_context().get_parameter_source
    return {name for name in options if source_of(name) is source}


# --- Callbacks --------------------------------------------------------------------------------


def _address(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
    if value is None:
        return None
    from ..encoders.server.address import Address

    host, *ports = value.split(":")
    if not host or len(ports) > 2 or not all(map(_is_port, ports)):
        raise click.BadParameter(f"{value!r} is not {param.metavar}", ctx, param)
    return Address(host, *map(int, ports))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 16


def _layers(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    try:
        return [int(number) for number in value.split(",")]
    except ValueError:
        raise click.BadParameter(f"{value!r} is not {param.metavar}", ctx, param) from None


def _model(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("give a directory or a hub ID, not an empty name", ctx, param)
    return value


def _seconds(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # within any range, for click
        raise click.BadParameter("nan is not a number of seconds", ctx, param)
    return value


def _complete_directory(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


# --- The encoder ------------------------------------------------------------------------------
# Each call makes one option; a command can replace any of the settings.

server_option = partial(
    option,
    "--server",
    callback=_address,
    metavar="HOST[:PORT[:PORT_OUT]]",
    show_default="localhost, if a server listens there",
    help="Use a running bert-serving-server. The default ports are 5555 and 5556.",
)

default_server_option = partial(
    option,
    "--default-server",
    callback=_address,
    default="localhost",
    metavar="HOST[:PORT[:PORT_OUT]]",
    hidden=True,
)

timeout_option = partial(
    option,
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=_MAX_TIMEOUT),
    callback=_seconds,
    default=60.0,
    metavar="SECONDS",
    help="Time to wait for a reply before the request is sent again.",
)

retries_option = partial(
    option,
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    metavar="N",
    help="Number of times that a request is sent again.",
)

model_option = partial(
    option,
    "-m",
    "--model",
    callback=_model,
    metavar="DIR|HUB_ID",
    shell_complete=_complete_directory,
    show_default="sentence-transformers/all-MiniLM-L6-v2, if no server listens",
    help="Compute in this process, with a model in a directory or on the Hugging Face hub.",
)

layers_option = partial(
    option,
    "--layers",
    callback=_layers,
    default="-2",
    metavar="N[,N...]",
    help="Hidden layers to concatenate, in this order; -1 is the last.",
)

max_seq_len_option = partial(
    option,
    "--max-seq-len",
    type=click.IntRange(min=3),
    metavar="N",
    show_default="the maximum of the model",
    help="Maximum number of pieces of a sentence, special tokens included.",
)

cased_option = partial(
    option,
    "--cased/--uncased",
    default=None,
    show_default="as the model says",
    help="Keep capitals and accents, or remove them. For BERT's own tokenizer only.",
)

device_option = partial(
    option,
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    help="Where to compute. auto uses a GPU if onnxruntime-gpu is installed.",
)

precision_option = partial(
    option,
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    help="Numerical precision. Faster but less exact: int8 on a CPU, fp16 on a GPU.",
)

threads_option = partial(
    option,
    "--threads",
    type=click.IntRange(min=1, max=_MAX_THREADS),
    metavar="N",
    show_default="one per available CPU",
    help="Number of threads that compute.",
)
