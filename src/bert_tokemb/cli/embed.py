"""``bert-tokemb embed``: a text in, one array of word vectors per line out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..errors import UsageError
from ..signals import hold_signals
from .console import log_to_stderr, print_message
from .options import (
    PATH,
    Command,
    cased_option,
    default_server_option,
    device_option,
    given_names,
    layers_option,
    max_seq_len_option,
    model_option,
    option,
    precision_option,
    retries_option,
    server_option,
    threads_option,
    timeout_option,
)
from .same_files import refuse_same_files

__all__ = ["embed"]


def _complete_strategy(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    names = ("avg", "first", "last", "max")
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(cls=Command, short_help="Write one vector for each word of a text file.")
@click.argument("input_name", metavar="INPUT", type=PATH)
@option(
    "-o",
    "--output",
    "output_name",
    type=PATH,
    required=True,
    help="Write the result to PATH; - is standard output.",
    group="Output",
)
@option(
    "--format",
    "output_format",
    type=click.Choice(["pkl", "npyd", "h5", "parquet"]),
    show_default="by the extension of the output; pkl if it has none",
    help="Format of the result: a pickled list (pkl), a directory of .npy files (npyd), HDF5 with "
    "the layout of AllenNLP's elmo command (h5), or Parquet.",
)
@option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    show_default="the type that the encoder computes",
    help="Data type of the vectors.",
)
@option(
    "--report",
    "report_name",
    type=PATH,
    help="Write a JSON report (counts, affected lines, options) to PATH.",
)
@option(
    "-s",
    "--strategy",
    default="avg",
    metavar="NAME",
    shell_complete=_complete_strategy,
    help="How to merge the vectors of the pieces of a word: avg, first, last, max, an installed "
    "plug-in, or package.module:function.",
    group="Words and sentences",
)
@option(
    "--long-sentences",
    type=click.Choice(["window", "error"]),
    default="window",
    help="What to do with a sentence that is too long for the model: embed it in overlapping "
    "windows, or stop with an error.",
)
@option(
    "--blank-lines",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    help="What to do with a blank line: write an empty array (0 x c), or nothing.",
)
@option(
    "--strict/--no-strict",
    help="Stop with an error at a word that is unknown to the model or has no pieces. Without it, "
    "these words are counted.",
)
@option(
    "--allow-nonfinite/--no-allow-nonfinite",
    help="Write vectors that contain NaN or infinity, and count them. Without it, they are an "
    "error.",
)
@model_option(group="Local encoder")
@layers_option()
@option(
    "--layer-pooling",
    type=click.Choice(["concat", "mean", "sum", "stack"]),
    default="concat",
    help="What to do with several layers: put their vectors side by side, combine them, or write "
    "them separately (stack): in HDF5 as layers x n x c, in Parquet as a column per layer.",
)
@max_seq_len_option()
@cased_option()
@device_option()
@precision_option()
@threads_option()
@server_option(group="Server")
@timeout_option()
@retries_option()
@default_server_option()
@option(
    "--restart/--no-restart",
    help="Start over instead of resuming an interrupted run.",
    group="Run",
)
@option(
    "--disk-check/--no-disk-check",
    default=True,
    help="Stop early if the result will not fit on the disk.",
)
# Hidden: tests use a small look-ahead in place of large texts.
@option("--look-ahead", type=click.IntRange(min=1), default=32 << 20, hidden=True)
@option("-q", "--quiet/--no-quiet", help="Suppress all output except errors.")
def embed(**options: Any) -> Callable[[], None]:
    """Write one vector for each word of INPUT, a UTF-8 text with one sentence per line.

    \b
    Examples:
      bert-tokemb embed text.txt -o vectors.pkl
      bert-tokemb embed text.txt -o vectors.npyd -m google-bert/bert-base-cased -s first
      zcat text.gz | bert-tokemb embed - -o vectors.parquet --server gpu.example.org

    The result is a list of float arrays, one per line of INPUT. Each has one row per word, where
    words are separated by white space. An interrupted run is resumed by the same command.

    INPUT is a path, or - for standard input. A file whose name ends in .gz, .bz2, .xz or .zst is
    decompressed. Without --model and --server, a server on this machine is used if there is one,
    else the default model.
    """
    return partial(_embed, options, given_names(options))


def _embed(options: Mapping[str, Any], given: Collection[str]) -> None:
    with hold_signals():
        from ..formats.registry import format_of
        from ..jobs.job import run_job
        from ..jobs.options import EmbedOptions
        from .encoder_choice import ENCODER_OPTIONS, choose_encoder

    format = format_of(options["output_name"], options["output_format"])
    is_stacked = options["layer_pooling"] == "stack"
    job = EmbedOptions(
        **{name: options[name] for name in options if name not in ENCODER_OPTIONS},
        separate_layers=is_stacked and format.writer.has_layers,
    )
    log_to_stderr(logging.ERROR if job.quiet else logging.WARNING)
    # The environment may be set for other runs.
    if is_stacked and "layer_pooling" in given and not format.writer.has_layers:
        raise UsageError(
            "--layer-pooling stack needs an --output that ends in .h5 or .parquet, or --format h5 "
            f"or parquet: the arrays of {format.name} are n x c"
        )
    if job.report_name == "":
        raise UsageError("the name of the report is empty: give a path as --report")
    if job.report_name == "-":
        raise UsageError("--report cannot be standard output: give the path of a file")
    refuse_same_files(job.input_name, job.output_name, job.report_name)
    run_job(
        job,
        open_encoder=partial(choose_encoder, options, given),
        say=(lambda line: None) if job.quiet else print_message,
    )
