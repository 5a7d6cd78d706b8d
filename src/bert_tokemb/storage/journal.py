"""What is known of a run whose result is not complete yet.

A file beside the result, ``.NAME.journal``. It is locked while a run writes the result, and tells,
a line of JSON each with a digest before it, what the run was asked and then how far it came. A
run that ends well, or that came nowhere, leaves none. A line that is cut short, as by ``kill -9``,
or that is another's, counts for nothing, and so do those behind it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..signals import Interrupted
from .beside import beside, descriptor_of, is_at, open_locked, status, sync_directory
from .writer import telling

__all__ = ["Journal", "open_journal"]

Entry = Mapping[str, Any]


def open_journal(name: str) -> Journal | None:
    """Open the journal of a result; None where there can be none.

    Raises:
        OutputError: another run writes the same result, or the journal cannot be written.
    """
    if name == "-" or descriptor_of(name) is not None:
        return None
    with telling(name):
        target = Path(os.path.realpath(name))
        there = status(name)
        if there and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
            return None  # a pipe, a device
        if not target.name:
            return None  # the root: that it cannot be written is told when it is opened
        return Journal(name, beside(target, "journal"), beside(target, "partial"))


class Journal:
    """Of one result; a context manager.

    Args:
        name: Of the result.
        path: Where it is.
        partial: Where that is of which it tells. When it is not there, the result was renamed,
            or somebody has removed it: then it tells nothing.

    Attributes:
        asked: What the run before was asked; None where there was none.
        reached: How far that run came; None where it came nowhere.
    """

    def __init__(self, name: str, path: Path, partial: Path) -> None:
        self.name = name
        self._path, self._partial = path, partial
        self._size = 0  # of whole lines; what is behind them is written over
        with telling(name):
            self._descriptor = open_locked(path, name, os.O_APPEND)
            self.asked, self.reached = self._read() if partial.exists() else (None, None)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._under_way: Future[None] | None = None
        # At most one; taken and put by two threads.
        self._last = deque[tuple[Entry, Callable[[], None]]](maxlen=1)
        self._is_done = False

    @property
    def is_of_use(self) -> bool:
        """Whether a later run can go on: not if somebody has removed it, or what it tells of."""
        is_there = is_at(self._descriptor, self._path) and self._partial.exists()
        return is_there and self.reached is not None

    def begin(self, asked: Entry) -> None:
        """Forget the run before, and note what this one is asked."""
        self.reached = None
        with telling(self.name):
            self._size = 0
            self._append(asked)
            # Before anything is written: or, should the machine fail, what is left of this run
            # might be taken for that of the run before.
            os.fsync(self._descriptor)
            sync_directory(self._path.parent)

    def note(self, reached: Entry, sync: Callable[[], None]) -> None:
        """Note how far the run came.

        That is put on disk first, by ``sync``, in another thread. While an earlier note is
        being made, a later one waits for the end, or the next one takes its place.
        """
        self._last.append((reached, sync))
        if self._under_way is None or self._under_way.done():
            try:
                self._under_way = self._writing.submit(self._write)
            except RuntimeError:  # the system does not allow another thread
                self._write()

    def settle(self) -> None:
        """Make the last note; what it puts on disk is about to be closed."""
        if self._under_way:
            self._under_way.result()
        self._write()

    def done(self) -> None:
        """The result is there: no journal is needed any more."""
        self._is_done = True

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._writing.shutdown()
        if self._is_done or not self.is_of_use:
            with suppress(OSError):
                if is_at(self._descriptor, self._path):  # not another run's
                    self._path.unlink()
        os.close(self._descriptor)

    def _read(self) -> tuple[Entry | None, Entry | None]:
        """Return the first entry, and the last of those behind it."""
        first = last = None
        with self._path.open("rb") as lines:
            for line in lines:
                digest, _, entry = line.partition(b" ")
                if digest != _digest(entry[:-1]):
                    break
                first, last = first or entry, entry if first else None
                self._size += len(line)
        return (
            json.loads(first) if first else None,
            json.loads(last) if last else None,
        )

    def _write(self) -> None:
        # What cannot be noted, on a full disk say, was not reached.
        with suppress(OSError, OutputError, IndexError):
            reached, sync = self._last.pop()
            try:
                sync()
            except Interrupted:  # by a signal, which comes once: there is still time for it
                self._last.append((reached, sync))
                raise
            self._append(reached)
            self.reached = reached

    def _append(self, entry: Entry) -> None:
        told = json.dumps(entry).encode()
        line = b"%s %s\n" % (_digest(told), told)
        os.ftruncate(self._descriptor, self._size)
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(line)


def _digest(entry: bytes) -> bytes:
    return hashlib.blake2b(entry, digest_size=8).hexdigest().encode()
