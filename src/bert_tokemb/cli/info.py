"""``bert-tokemb info``: what a result holds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from ..signals import hold_signals
from .options import show

__all__ = ["info"]


@click.command()
@click.argument("path", metavar="FILE")
def info(path: str) -> Callable[[], None]:
    """Tell what FILE holds: a pickle (or - for stdin), a .npyd directory, a .h5 or a .parquet.

    A pickle of unknown origin is safe to look at: NumPy arrays are admitted, and nothing else.
    """
    return partial(_info, path)


def _info(path: str) -> None:
    with hold_signals():
        from ..formats.inspection import inspect

    show(inspect("/dev/stdin" if path == "-" else path).lines())
