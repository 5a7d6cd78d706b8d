"""``bert-tokemb embed``: a text in, an array for each of its lines out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..signals import hold_signals
from .names import refuse_same_files
from .options import (
    ENGINE_OPTIONS,
    SERVER,
    address,
    engine_options,
    given_names,
    log_to_stderr,
    option,
    seconds,
    tell,
)

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = ["embed"]

_LONGEST_TIMEOUT = 7 * 24 * 3600.0

# Options of one encoder only; the engine's are the other's.
_FOR_SERVER = ("timeout", "retries")


@click.command()
@click.argument("input_name", metavar="INPUT")
@option(
    "-o",
    "--output",
    "output_name",
    metavar="PATH",
    required=True,
    help="Where the result goes; - for stdout.",
)
@option(
    "--format",
    "output_format",
    type=click.Choice(["pkl", "npyd", "h5", "parquet"]),
    help="How it is written: a pickled list, a directory of .npy files, HDF5 as AllenNLP's elmo "
    "writes it, or Parquet.",
    show_default="as its name ends, or else pkl",
)
@option(
    "--hdf5-shape",
    type=click.Choice(["2d", "3d"]),
    default="2d",
    show_default=True,
    help="HDF5: the shape of a sentence. 2d: n x c; 3d: 1 x n x c.",
)
@option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    help="The type of its numbers.",
    show_default="as they are computed",
)
@option(
    "--strategy",
    default="avg",
    show_default=True,
    metavar="NAME",
    help="How the pieces of a word become one vector: avg, first, last, max, an installed "
    "plug-in, or package.module:function.",
)
@option(
    "--server",
    callback=address,
    metavar=SERVER,
    show_default="localhost, if anything listens there",
    help="Have a bert-serving-server compute. Ports left out are 5555 and 5556.",
)
@option(
    "--model",
    metavar="DIR|HUB_ID",
    show_default="sentence-transformers/all-MiniLM-L6-v2, if no server listens",
    help="Have the embedded engine compute, with a BERT in a directory or on the Hugging Face hub.",
)
@engine_options("Engine: ")
@option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=_LONGEST_TIMEOUT),
    callback=seconds,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Server: how long one request may take before it is sent again.",
)
@option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Server: how many times it is sent again.",
)
@option(
    "--long-sentences",
    type=click.Choice(["window", "error"]),
    default="window",
    show_default=True,
    help="What becomes of a sentence that is too long for the model. window: it is embedded in "
    "overlapping windows; error: it ends the run.",
)
@option(
    "--blank-lines",
    type=click.Choice(["keep", "skip"]),
    default="keep",
    show_default=True,
    help="keep: a blank line gives a 0 x c array; skip: it gives none.",
)
@option(
    "--strict/--no-strict",
    help="Refuse unknown words and words without pieces, instead of counting them.",
)
@option(
    "--restart/--no-restart",
    help="Begin anew where an interrupted run would be continued.",
)
@option(
    "--disk-check/--no-disk-check",
    default=True,
    help="Refuse what the disk has no room for, as soon as that is known.",
)
@option(
    "--report",
    "report_name",
    metavar="PATH",
    help="Where a report goes, in JSON: what was met, on which lines, with which options.",
)
@option("--quiet/--no-quiet", help="Tell nothing but errors.")
@option("--look-ahead", type=int, default=32 << 20, hidden=True)
@option("--default-server", callback=address, default="localhost", hidden=True)
def embed(**options: Any) -> Callable[[], None]:
    """Embed the words of INPUT, a UTF-8 text with one sentence a line, or - for stdin.

    A text whose name ends in .gz, .bz2, .xz or .zst is decompressed.

    The output is a list of float arrays, one for each line: one row for each white-space
    separated word, as wide as the model. It is pickled, unless --format or its name says otherwise.
    """
    given = given_names(options)
    for_server = {name: options.pop(name) for name in _FOR_SERVER}
    for_engine = {name: options.pop(name) for name in ENGINE_OPTIONS}
    for_server["long_sentences"] = for_engine["long_sentences"] = options["long_sentences"]
    return partial(
        _embed,
        **options,
        for_server=for_server,
        for_engine=for_engine,
        given=given - {"long_sentences"},
    )


def _embed(
    *,
    server: Address | None,
    model: str | None,
    default_server: Address,
    for_server: Mapping[str, Any],
    for_engine: Mapping[str, Any],
    given: Collection[str],
    **options: Any,
) -> None:
    with hold_signals():
        from ..formats.registry import format_of
        from ..jobs.job import run_job
        from ..jobs.options import EmbedOptions
        from .encoder_choice import choose_encoder

    asked = EmbedOptions(**options)
    log_to_stderr(logging.ERROR if asked.quiet else logging.WARNING)
    if not asked.output_name:
        raise UsageError("--output is empty: give the path of a file, or - for stdout")
    if "hdf5_shape" in given and format_of(asked.output_name, asked.output_format).name != "h5":
        raise UsageError("--hdf5-shape cannot be given here: it belongs to .h5 files")
    if asked.report_name == "":
        raise UsageError("--report is empty: give the path of a file")
    if asked.report_name == "-":
        raise UsageError("--report cannot be standard output: give the path of a file")
    refuse_same_files(asked.input_name, asked.output_name, asked.report_name)
    choose = partial(
        choose_encoder,
        server,
        model,
        default_server=default_server,
        for_server=for_server,
        for_engine=for_engine,
        given=given,
    )
    run_job(asked, choose, (lambda line: None) if asked.quiet else tell)
