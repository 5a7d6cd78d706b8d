"""``bert-tokemb serve``: a bert-serving-server for today."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import click

from ..errors import UsageError
from ..extras import importing
from ..signals import hold_signals
from .console import PROGRAM, show
from .options import (
    cased_option,
    device_option,
    given_names,
    layers_option,
    max_seq_len_option,
    model_option,
    option,
    precision_option,
    set_names,
    threads_option,
    variable_of,
)

__all__ = ["serve"]

# What `-model_dir` has flags of its own for.
_INSTEAD = {
    "layers": "-pooling_layer",
    "max_seq_len": "-max_seq_len",
    "cased": "-cased_tokenization",
    "pooling_strategy": "-pooling_strategy",
    "port": "-port",
    "port_out": "-port_out",
}


class _Serve(click.Command):
    """Takes the flags of bert-serving-start too, which click cannot parse."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if {"-h", "--help"} & set(args):
            args = ["--help"]
        elif not ctx.resilient_parsing and any(_is_original(arg) for arg in args):
            with hold_signals():
                from ..serve.flags import parse

            flags, args = parse(args)
            ctx.meta["original"] = flags or None
        return super().parse_args(ctx, args)


def _is_original(argument: str) -> bool:
    """Tell whether an argument looks like one of the original's flags: a word, one dash."""
    return len(argument) > 2 and argument[0] == "-" and argument[1].isalpha()


@click.command(
    cls=_Serve,
    short_help="Serve a model to clients of bert-as-service.",
    epilog="Instead of --model, all flags of bert-serving-start 1.10.0 are taken, -model_dir "
    "before all: with their meaning, and their defaults.",
)
@model_option(show_default=False, help="A BERT in a directory, or on the Hugging Face hub.")
@option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. The protocol knows no authentication.",
)
@option(
    "--port",
    type=click.IntRange(0, 65535),
    default=5555,
    show_default=True,
    metavar="N",
    help="For requests; 0 takes one that is free.",
)
@option(
    "--port-out",
    type=click.IntRange(0, 65535),
    default=5556,
    show_default=True,
    metavar="N",
    help="For replies, the same.",
)
@option(
    "--pooling-strategy",
    type=click.Choice(
        [
            "NONE",
            "REDUCE_MEAN",
            "REDUCE_MAX",
            "REDUCE_MEAN_MAX",
            "CLS_TOKEN",
            "FIRST_TOKEN",
            "SEP_TOKEN",
            "LAST_TOKEN",
        ]
    ),
    default="NONE",
    show_default=True,
    metavar="NAME",
    help="NONE: a sentence gives the vectors of its pieces. REDUCE_MEAN, REDUCE_MAX, "
    "REDUCE_MEAN_MAX, CLS_TOKEN or FIRST_TOKEN, SEP_TOKEN or LAST_TOKEN: one vector.",
)
@layers_option()
@max_seq_len_option(
    type=click.IntRange(min=4),
    help="The length of all sentences, [CLS] and [SEP] included: longer ones are cut, shorter ones "
    "padded.",
    show_default="as long as the longest, up to what the model takes",
)
@cased_option()
@device_option()
@precision_option()
@threads_option()
@option(
    "--ready-file",
    metavar="PATH",
    help="Is written when the server serves, and holds HOST:PORT:PORT_OUT; removed at the end.",
)
@option("--allow-shutdown/--no-allow-shutdown", help="Let any client end the server.")
@option("--verbose/--no-verbose", help="Log every request.")
def serve(**options: Any) -> Callable[[], None]:
    """Serve a BERT to programs that use bert-serving-client, and to embed --server.

    A line on standard output, `ready HOST:PORT:PORT_OUT`, tells when it serves. Logs are JSON,
    on standard error. Ctrl-C and SIGTERM end it when it has answered what has come.
    """
    original: Mapping[str, Any] | None = click.get_current_context().meta.get("original")
    if original is not None:
        _check(given_names(options), set_names(options), original)
    return partial(_serve, options, original)


def _serve(options: Mapping[str, Any], original: Mapping[str, Any] | None) -> None:
    if original and original.get("version"):
        show([f"{PROGRAM} {version(PROGRAM)}, as bert-serving-start 1.10.0"])
        return
    if original is None and options["model"] is None:
        raise UsageError("give --model, or -model_dir and other flags of bert-serving-start")
    with importing("bert-tokemb serve", "local"):
        from .launch import launch

    launch(options, original)


def _check(given: set[str], by_environment: set[str], original: Mapping[str, Any]) -> None:
    """Refuse what belongs to the other way of starting a server."""
    if "model" in given and "model_dir" in original:
        raise UsageError("--model and -model_dir exclude each other: give one of them")
    if "model_dir" not in original and not original.get("version"):
        raise UsageError(
            f"-{next(iter(original))} belongs to -model_dir: give that, or with --model the "
            f"options that {PROGRAM} serve --help tells"
        )
    for name, instead in _INSTEAD.items():
        if name in given or name in by_environment:
            what = f"--{name.replace('_', '-')}" if name in given else variable_of(name)
            raise UsageError(f"{what} cannot be given with -model_dir: give {instead}")
