"""Which files a run may touch: none of them twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import OutputError, UsageError
from ..storage.target import STDOUT, OutputTarget

__all__ = ["refuse_same_files"]


def refuse_same_files(input_name: str, output_name: str, report_name: str | None) -> None:
    """See that nothing that is read is written, and nothing is written twice.

    Raises:
        UsageError: it would be.
    """
    source, output = _identities(input_name, 0), _identities(output_name, 1)
    _refuse("INPUT", input_name, source[:1], "--output", output_name, output)
    if report_name:
        if output_name == "-" and OutputTarget.resolve(report_name).descriptor == STDOUT:
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
    """Identify a file, and then the hidden files next to it, whether they exist or not.

    Args:
        name: A path, or ``-``.
        descriptor: What ``-`` stands for.
    """
    try:
        target = OutputTarget.resolve(name)
        if name == "-" or target.descriptor is not None:
            found = os.fstat(descriptor if name == "-" else target.descriptor or 0)
            is_file = stat.S_ISREG(found.st_mode)
            return [(found.st_dev, found.st_ino)] if is_file else []
    except (OSError, OutputError):  # closed, or reported when it is opened
        return []
    if target.is_stream:
        return []  # a device or a pipe may be written twice
    hidden = (target.workspace, target.previous)
    return [_identity_of(target.path), *map(_identity_of, hidden)]


def _identity_of(path: Path) -> object:
    try:
        found = path.lstat()
    except OSError:
        return path
    return (found.st_dev, found.st_ino)
