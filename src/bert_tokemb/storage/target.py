"""Where an output goes: its path, resolved once, and the names next to it."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import OutputError, translate

__all__ = ["STDOUT", "OutputTarget"]

STDOUT = 1
"""The descriptor of standard output."""

_MAX_NAME = 255  # bytes, in most file systems
_MAX_LINKS = 64  # more than the system follows


@dataclass(frozen=True)
class OutputTarget:
    """A regular file or directory, which may not exist yet, or a stream.

    A *stream* is standard output, a pipe, a device, or a file that this process has open already
    (``/dev/stdout``, ``/dev/fd/3``). It is written directly: it cannot be replaced, and the
    program that opened it may write to it as well.
    """

    name: str
    """As the user wrote it; for messages."""
    path: Path
    """The real path: symbolic links are followed."""
    descriptor: int | None = None
    """The descriptor of this process that it refers to."""
    status: os.stat_result | None = None
    """``os.stat`` of the existing file or directory, or None."""

    @classmethod
    def resolve(cls, name: str) -> OutputTarget:
        """Resolve a path, or ``-`` for standard output.

        Raises:
            OutputError: if the path cannot be examined.
        """
        if name == "-":
            return cls("standard output", Path("/dev/stdout"), STDOUT)
        with translate(OutputError, f"write {name}"):
            path = Path(os.path.realpath(name))
            if (descriptor := _descriptor_of(Path(name))) is not None:
                return cls(name, path, descriptor)
            return cls(name, path, status=_status_of(path))

    @property
    def is_stream(self) -> bool:
        """Whether it is written directly."""
        if self.descriptor is not None:
            return True
        return self.status is not None and not _is_replaceable(self.status.st_mode)

    @property
    def is_directory(self) -> bool:
        """Whether it is an existing directory."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    @property
    def permissions(self) -> int | None:
        """The permission bits of what exists under this name."""
        return None if self.status is None else stat.S_IMODE(self.status.st_mode)

    @cached_property
    def workspace(self) -> Path:
        """Where a run keeps its partial output."""
        return self._sibling("partial")

    @cached_property
    def previous(self) -> Path:
        """Where an existing directory is moved while the new one takes its name."""
        return self._sibling("previous")

    @cached_property
    def old_journal(self) -> Path:
        """A file that versions before 0.2 kept next to a partial output."""
        return self._sibling("journal")

    def _sibling(self, kind: str) -> Path:
        """Return ``.NAME.kind``; a long name is shortened, with a digest.

        >>> OutputTarget("", Path("/a/output.pkl")).workspace
        PosixPath('/a/.output.pkl.partial')
        """
        name, room = os.fsencode(self.path.name), _MAX_NAME - len(f"..{kind}")
        if len(name) > room:
            digest = hashlib.blake2b(name, digest_size=8).hexdigest().encode()
            name = name[: room - len(digest)] + digest
        return self.path.parent / f".{os.fsdecode(name)}.{kind}"


def _is_replaceable(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _status_of(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _descriptor_of(path: Path) -> int | None:
    """Return the descriptor of this process that a path such as ``/dev/stdout`` refers to."""
    tables = {os.path.realpath(table) for table in ("/dev/fd", "/proc/self/fd")}
    for _ in range(_MAX_LINKS):
        directory = os.path.realpath(path.parent)
        if directory in tables and path.name.isdecimal() and os.path.lexists(path):
            return int(path.name)
        try:
            path = Path(directory) / path.readlink()
        except OSError:  # it is not a symbolic link
            return None
    return None
