"""The files of a run: none is used twice."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..errors import OutputError, UsageError
from ..storage.target import STDOUT, OutputTarget

__all__ = ["refuse_same_files"]


def refuse_same_files(input_name: str, output_name: str, report_name: str | None) -> None:
    """Check that the input, the output, the report and their hidden files are different files.

    Raises:
        UsageError: if two of them are the same file.
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
        raise UsageError(f"{one} and {other} are the same file, {name}: give two files")
    if set(identities) & set(others):
        raise UsageError(
            f"{one} {name} and {other} {other_name} conflict: an output has hidden files next to "
            "it, and one of them is the other file; give another name"
        )


def _identities(name: str, descriptor: int) -> list[object]:
    """Return values that identify a file and its hidden files, whether or not they exist.

    The file comes first. The list is empty for a device or a pipe: it has no hidden files, and may
    be written by several programs.

    Args:
        name: A path, or ``-``.
        descriptor: The descriptor that ``-`` stands for.
    """
    try:
        target = OutputTarget.resolve(name)
        if name == "-" or target.descriptor is not None:
            found = os.fstat(descriptor if name == "-" else target.descriptor or 0)
            return [(found.st_dev, found.st_ino)] if stat.S_ISREG(found.st_mode) else []
    except (OSError, OutputError):  # opening it will fail, with a message of its own
        return []
    if target.is_stream:
        return []
    return [_identity_of(path) for path in (target.path, target.workspace, target.previous)]


def _identity_of(path: Path) -> object:
    try:
        found = path.lstat()  # symbolic links are resolved before, and not followed in hidden names
    except OSError:
        return path
    return (found.st_dev, found.st_ino)
