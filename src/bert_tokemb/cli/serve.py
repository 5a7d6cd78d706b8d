"""The command ``bert-tokemb serve``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import click

from ..errors import UsageError
from ..extras import importing
from .console import PROGRAM, show
from .options import (
    Command,
    cased_option,
    device_option,
    given_names,
    hidden_layers,
    layers_option,
    max_seq_len_option,
    model_option,
    option,
    precision_option,
    set_names,
    threads_option,
    variable_of,
)
from .original_flags import POOLING_STRATEGIES, parse

__all__ = ["serve"]

# Our options that have no effect with -model_dir, and the flags that replace them.
_REPLACED = {
    "layers": "-pooling_layer",
    "max_seq_len": "-max_seq_len",
    "cased": "-cased_tokenization",
    "pooling_strategy": "-pooling_strategy",
    "port": "-port",
    "port_out": "-port_out",
}


class _Serve(Command):
    """Also accepts the flags of bert-serving-start, which click cannot parse."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if {"-h", "--help"} & set(args):
            args = ["--help"]
        elif not ctx.resilient_parsing and any(_is_original(arg) for arg in args):
            # Argparse takes -m for an ambiguous abbreviation of -model_dir.
            args = ["--model" if arg == "-m" else arg for arg in args]
            ctx.meta["original"], args = parse(args)
        return super().parse_args(ctx, args)


def _is_original(argument: str) -> bool:
    """Return whether an argument looks like a flag of the original: one dash and a word."""
    return len(argument) > 2 and argument[0] == "-" and argument[1].isalpha()


@click.command(
    cls=_Serve,
    short_help="Serve a model to clients of bert-as-service.",
    epilog="Instead of --model, all flags of bert-serving-start 1.10.0 (-model_dir and others) are "
    "accepted, with the same meaning and defaults.",
)
@model_option(show_default=False, help="A model in a directory or on the Hugging Face hub.")
@option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="IPv4 address on which to listen; * for all. The protocol has no authentication.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5555,
    show_default=True,
    metavar="N",
    help="Port for requests; 0 chooses a free one.",
)
@option(
    "--port-out",
    type=click.IntRange(0, 65535),
    default=5556,
    show_default=True,
    metavar="N",
    help="Port for replies; 0 chooses a free one.",
)
@option(
    "--pooling-strategy",
    type=click.Choice(POOLING_STRATEGIES),
    default="NONE",
    show_default=True,
    metavar="NAME",
    help="NONE returns the vectors of all pieces of a sentence. REDUCE_MEAN, REDUCE_MAX, "
    "REDUCE_MEAN_MAX, CLS_TOKEN (FIRST_TOKEN) and SEP_TOKEN (LAST_TOKEN) return one vector.",
)
@layers_option(
    callback=hidden_layers,
    metavar="N[,N...]",
    help="Hidden layers to concatenate, in this order; -1 is the last.",
)
@max_seq_len_option(
    type=click.IntRange(min=4),
    help="Length of all sentences, [CLS] and [SEP] included: longer ones are cut, shorter ones "
    "padded.",
    show_default="the longest of a request, up to what the model accepts",
)
@cased_option()
@device_option()
@precision_option()
@threads_option()
@option(
    "--ready-file",
    type=click.Path(),
    metavar="PATH",
    help="Write HOST:PORT:PORT_OUT to PATH when the server is ready; removed when it stops.",
)
@option("--allow-shutdown/--no-allow-shutdown", help="Let clients shut down the server.")
@option("--verbose/--no-verbose", help="Log every request.")
def serve(**options: Any) -> Callable[[], None]:
    """Serve a model to programs that use bert-serving-client, and to embed --server.

    \b
    Examples:
      bert-tokemb serve -m google-bert/bert-base-uncased
      bert-tokemb serve -m ./my-bert --max-seq-len 256 --port 0 --port-out 0
      bert-tokemb serve -model_dir ./uncased_L-12_H-768_A-12 -num_worker 4

    When it is ready, it prints `ready HOST:PORT:PORT_OUT`. The log on standard error consists of
    JSON objects, one a line. Ctrl-C and SIGTERM stop it after it has answered the requests that
    have arrived.
    """
    original: Mapping[str, Any] | None = click.get_current_context().meta.get("original")
    if original:
        _check(given_names(options), set_names(options), original)
    return partial(_serve, options, original or None)


def _serve(options: Mapping[str, Any], original: Mapping[str, Any] | None) -> None:
    if original and original.get("version"):
        show([f"{PROGRAM} {version(PROGRAM)}, as bert-serving-start 1.10.0"])
        return
    if original is None and options["model"] is None:
        raise UsageError("give --model, or -model_dir and other flags of bert-serving-start")
    with importing("bert-tokemb serve", "local"):
        from .launch import launch

    launch(options, original)


def _check(given: set[str], from_environment: set[str], original: Mapping[str, Any]) -> None:
    """Refuse a mixture of both ways to start a server.

    Raises:
        UsageError: if ``-model_dir`` is missing, or an option has no effect with it.
    """
    if "model" in given and "model_dir" in original:
        raise UsageError("--model and -model_dir exclude each other: give one of them")
    if "model_dir" not in original and not original.get("version"):
        raise UsageError(
            f"-{next(iter(original))} needs -model_dir: give it, or use --model and the options "
            f"in {PROGRAM} serve --help"
        )
    for name, flag in _REPLACED.items():
        if name in given or name in from_environment:
            option = f"--{name.replace('_', '-')}" if name in given else variable_of(name)
            raise UsageError(f"{option} cannot be given with -model_dir: give {flag}")
