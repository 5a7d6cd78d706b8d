"""Whether a disk has room for a result."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ..errors import OutputError
from ..humanize import format_bytes
from ..storage.writer import telling

__all__ = ["check_room", "warn_of_room"]

_log = logging.getLogger(__name__)


def _room_for(name: str) -> int:
    """Return the bytes that may be written to a file of that name."""
    with telling(name):
        found = os.statvfs(Path(os.path.realpath(name)).parent)
    return found.f_bavail * found.f_frsize


def check_room(name: str, needed: int, advice: str) -> None:
    """See beforehand whether the disk can hold a result.

    Args:
        name: Of the result.
        needed: Bytes that are still to come, about.
        advice: What can be done to have fewer; perhaps nothing.

    Raises:
        OutputError: it cannot.
    """
    room = _room_for(name)
    if needed > room:
        raise OutputError(
            f"cannot write {name}: it may take {format_bytes(needed)}, and the disk has room for "
            f"{format_bytes(room)}; make room, {advice}or give --no-disk-check to try"
        )


def warn_of_room(name: str, words: int, written: int) -> bool:
    """Warn when less room is left than has been written; tell whether there was reason to.

    For texts of which nobody knows how much is still to come.
    """
    room = _room_for(name)
    if room >= written or not words:
        return False
    _log.warning(
        "the disk has room for %s, which is about %s more words",
        format_bytes(room),
        f"{room * words // max(1, written):,}",
    )
    return True
