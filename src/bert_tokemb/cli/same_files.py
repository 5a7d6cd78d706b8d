"""Refuse runs whose input, output and report are not different files."""

from __future__ import annotations

import os
import stat
from itertools import combinations

from ..errors import OutputError, UsageError
from ..storage.target import OutputTarget

__all__ = ["refuse_same_files"]


def refuse_same_files(input_name: str, output_name: str, report_name: str | None) -> None:
    """Check that the input, the output and the report are different files.

    Raises:
        UsageError: if two of them are the same file.
    """
    files = [("INPUT", input_name, 0), ("--output", output_name, 1)]
    if report_name:
        files.append(("--report", report_name, 1))
    for (one, name, descriptor), (other, other_name, other_descriptor) in combinations(files, 2):
        identity = _identity_of(name, descriptor)
        if identity and identity == _identity_of(other_name, other_descriptor):
            raise UsageError(f"{one} and {other} are the same file, {name}: give two files")


def _identity_of(name: str, descriptor: int) -> object:
    """Return a value that identifies a file, whether or not it exists.

    None for a device or a pipe, which may be used twice, except that a result and a report cannot
    both go to standard output.

    Args:
        name: A path, or ``-``.
        descriptor: The descriptor that ``-`` stands for.
    """
    try:
        target = OutputTarget.resolve(name)
        used = descriptor if name == "-" else target.descriptor
        status = target.status if used is None else os.fstat(used)
    except (OSError, OutputError):  # opening it will fail, with a message of its own
        return None
    if status is None:
        return target.path
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return "standard output" if used == 1 else None
    return (status.st_dev, status.st_ino)
