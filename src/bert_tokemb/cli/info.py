"""``bert-tokemb info``: the contents of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import click

from ..humanize import format_bytes, printable
from ..signals import hold_signals
from .console import show
from .options import PATH, Command

if TYPE_CHECKING:
    from ..formats.inspection import Inspection

__all__ = ["info"]


@click.command(cls=Command, short_help="Summarize a result.")
@click.argument("path", metavar="FILE", type=PATH)
def info(path: str) -> Callable[[], None]:
    """Summarize FILE, a result of embed: its size, its vectors, and how it was made.

    FILE is a pickle (.pkl, or - for standard input), a .npyd directory, a .h5 or a .parquet file.
    Pickles from untrusted sources are safe to inspect: only NumPy arrays are loaded from them.
    """
    return partial(_info, path)


def _info(path: str) -> None:
    with hold_signals():
        from ..formats.inspection import inspect

    show(_lines(inspect("/dev/stdin" if path == "-" else path)))


def _lines(found: Inspection) -> Iterator[str]:
    size = "" if found.size is None else f", {format_bytes(found.size)}"
    yield f"{printable(found.name)}: {found.kind}{size}"
    blank = f", {found.blank:,} of them without words" if found.blank else ""
    yield f"  sentences  {found.sentences:,}{blank}"
    yield f"  words      {found.words:,}"
    if found.sentences:
        widths = " and ".join(map(str, sorted(found.widths)))
        yield f"  vectors    {widths} wide, {' and '.join(sorted(found.types))}"
    if found.least <= found.most:
        yield f"  numbers    {found.least:.4g} to {found.most:.4g}"
    yield f"  odd rows   {found.zero:,} of zeros, {found.not_finite:,} with NaN or infinity"
    for name, value in found.about.items():
        yield f"  {name:<14}  {value}"
    for sentence, row in found.first:
        yield f"  sentence {sentence}: {' '.join(f'{number:8.4f}' for number in row)} ..."
