"""Which files a run may touch: none of them twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import UsageError
from ..storage.beside import descriptor_of, names_of, status
from ..storage.standard_output import STDOUT

__all__ = ["refuse_same_files"]


def refuse_same_files(input_name: str, output_name: str, report_name: str | None) -> None:
    """See that nothing that is read is written, and nothing is written twice.

    Raises:
        UsageError: it would be.
    """
    source, output = _identities(input_name, 0), _identities(output_name, 1)
    _refuse("INPUT", input_name, source[:1], "--output", output_name, output)
    if report_name:
        if output_name == "-" and descriptor_of(report_name) == STDOUT:  # be it a pipe, too
            raise UsageError("--output and --report are both standard output: give two files")
        report = _identities(report_name, 1)
        _refuse("INPUT", input_name, source[:1], "--report", report_name, report)
        _refuse("--output", output_name, output, "--report", report_name, report)


def _refuse(
    one: str,
    name: str,
    identities: list[object],
    other: str,
    other_name: str,
    others: list[object],
) -> None:
    if identities[:1] == others[:1] != []:
        raise UsageError(f"{one} and {other} are the same file, {name}: give two")
    if set(identities) & set(others):
        raise UsageError(
            f"{one} {name} and {other} {other_name} exclude each other: a run uses hidden files "
            "beside what it writes, and one would be the other's; give another name"
        )


def _identities(name: str, descriptor: int) -> list[object]:
    """Tell a file and what is beside it apart from others, be they there already or not.

    Args:
        name: A path, or ``-``.
        descriptor: What is meant by the latter.
    """
    try:
        there = os.fstat(descriptor) if name == "-" else status(name)
    except OSError:  # closed, or what is wrong will be told when it is opened
        return []
    if there and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
        return []  # a device, or a pipe: it may be written twice, and has nothing beside it
    if name == "-" or descriptor_of(name) is not None:
        return [_identity_of(there)]
    return [_identity_of(there) or names_of(name)[0], *map(_identity_at, names_of(name)[1:])]


def _identity_of(there: os.stat_result | None) -> object:
    return there and (there.st_dev, there.st_ino)


def _identity_at(path: Path) -> object:
    try:
        return _identity_of(path.lstat())  # a link there is no file of ours, and is never followed
    except OSError:
        return path
