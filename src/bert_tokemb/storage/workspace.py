"""A locked directory next to an output, in which the output is written until it is complete.

``.NAME.partial/`` holds

* ``lock``, which is locked as long as a run uses the workspace;
* ``data``, the partial output: a file or a directory;
* ``state.json``, how far the data are known to be good, with a checksum. It is replaced atomically,
  and only after the data that it refers to are on disk.

A process that is killed leaves the workspace. The next run of the same command resumes from
``state.json``; any other run is refused or starts over. Only ``data`` is ever renamed to the
output, so the output is complete or absent.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

from ..errors import OutputError, OutputInUseError, ResumeError, translate
from ..signals import hold_signals
from .byte_writer import ByteWriter
from .stream import open_stream
from .target import OutputTarget

__all__ = ["Workspace", "atomic_file"]

_log = logging.getLogger(__name__)

_STATE_KIND = b"bert-tokemb partial output "
_STATE_FORMAT = _STATE_KIND + b"2"

_LOCK, _DATA, _STATE, _NEW_STATE = "lock", "data", "state.json", "state.json.new"
_NAMES = {_LOCK, _DATA, _STATE, _NEW_STATE}

# Errors of file systems without locks. On these, simultaneous runs are not detected.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_BLOCK = 1 << 20  # bytes

State = Mapping[str, Any]


class Workspace:
    """Keeps the partial output of one target; a context manager.

    Leaving the block without :meth:`commit` removes the workspace, unless :meth:`checkpoint`
    has saved a state that a later run can resume from.

    Args:
        target: A regular file or directory; see :class:`OutputTarget`.
        directory: Whether the output is a directory.
        may_replace: Whether an existing directory may be replaced.
        restart: Whether a partial output that cannot be resumed may be discarded.

    Attributes:
        state: The state that an interrupted run has saved, or None.

    Raises:
        OutputInUseError: if another run uses the workspace.
        ResumeError: if there is a partial output of an earlier version of this package, or a
            damaged one.
        OutputError: if the output cannot be written, or if its name is taken by something else.
    """

    def __init__(
        self,
        target: OutputTarget,
        *,
        directory: bool = False,
        may_replace: Callable[[Path], bool] = lambda path: False,
        restart: bool = False,
    ) -> None:
        self.target = target
        self.path = target.workspace
        self.data = self.path / _DATA
        self.state: State | None = None
        self._directory = directory
        self._may_replace = may_replace
        self._is_complete = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        # At most one state waits to be saved; filled and emptied by two threads.
        self._unsaved = deque[State](maxlen=1)
        with self._translated(), ExitStack() as closing:
            self._check_target()
            self._check_place(restart=restart)
            self._lock = self._acquire()
            closing.callback(os.close, self._lock)
            self._restore_previous()
            self.state = self._read_state(restart=restart)
            self._closing = closing.pop_all()

    @property
    def leftover(self) -> int:
        """Bytes of the partial output that is there already."""
        return sum(file.stat().st_size for file in self._files())

    def discard(self) -> None:
        """Remove the state and the data of an earlier run."""
        with self._translated():
            self.state = None
            (self.path / _STATE).unlink(missing_ok=True)
            # A crash of the machine must not combine the old state with new data.
            _sync(self.path)
            _remove(self.data)

    def open(self, file: str = "", *, keep: int = 0, skip: int = 0, crc32: int = 0) -> int:
        """Open the data, truncated to ``keep`` bytes and positioned there.

        Args:
            file: The name of a file in ``data``, if that is a directory.
            keep: Bytes of an earlier run to keep.
            skip: How many of these may have changed, at the start.
            crc32: The checksum of the rest of them.

        Returns:
            A descriptor, which is closed at the end of the block.

        Raises:
            ResumeError: if there are fewer than ``keep`` bytes, or others.
        """
        existing = self.target.permissions
        with self._translated():
            # Private data are never readable by others, not even for a moment.
            if file:
                mode = 0o777 if existing is None else existing | 0o700
                self.data.mkdir(mode, exist_ok=True)
            mode = 0o666 if existing is None or file else existing | 0o600
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self.data / file, flags, mode)
            self._closing.callback(os.close, descriptor)
            if os.fstat(descriptor).st_size < keep:
                raise ResumeError(self.target.name, ["data are missing"], "damaged")
            if _checksum(descriptor, skip, keep) != crc32:
                raise ResumeError(self.target.name, ["its data have changed"], "damaged")
            os.ftruncate(descriptor, keep)
            os.lseek(descriptor, keep, os.SEEK_SET)
        return descriptor

    def checkpoint(self, state: State) -> None:
        """Save a state after the data written so far are on disk, in another thread.

        While one state is being saved, only the latest of those that follow is kept for later.
        """
        self._unsaved.append(state)
        if self._saving is None or self._saving.done():
            self._saving = self._executor.submit(self._save)

    def sync(self) -> None:
        """Save the last state and put all data on disk, which may take a while.

        Raises:
            OutputError: if this fails. A later run can resume.
        """
        self._settle()
        with self._translated():
            self.sync_data()

    def sync_data(self) -> None:
        """Put all data on disk; may be called from any thread."""
        for file in self._files():
            _sync(file)

    def commit(self) -> None:
        """Give the data, which :meth:`sync` has put on disk, the name of the output.

        Raises:
            OutputError: if this fails, or if the workspace was removed in the meantime.
        """
        with self._translated():
            self._check_target()
            if not self._is_here():
                raise OutputError(
                    f"cannot write {self.target.name}: {self.path} was removed while it was in "
                    "use; run the command again"
                )
            self._rename()
            self._is_complete = True
            _sync(self.target.path.parent)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._closing:
            self._settle()
            self._executor.shutdown()
            if not self._is_here():
                self.state = None
            elif self._is_complete or self.state is None:
                self._remove_workspace()

    # --- The place -----------------------------------------------------------------------------

    def _check_target(self) -> None:
        """Raise unless the output may be replaced."""
        path, name = self.target.path, self.target.name
        if not path.name or (path.is_dir() and not self._directory):
            raise OutputError(f"cannot write {name}: {os.strerror(errno.EISDIR)}")
        if self._directory and path.exists() and not (path.is_dir() and self._may_replace(path)):
            raise OutputError(
                f"{name} exists and is not a result of this format, or contains other files; "
                "remove it or choose another name"
            )

    def _check_place(self, *, restart: bool) -> None:
        """Raise if something else has the name of the workspace."""
        if not os.path.lexists(self.path) or _is_workspace(self.path):
            return
        if not self.target.old_journal.is_file():
            raise OutputError(
                f"cannot write {self.target.name}: {self.path} is not a partial output; remove it"
            )
        if not restart:
            raise ResumeError(self.target.name, [], "earlier version")
        _remove(self.path)
        self.target.old_journal.unlink()

    def _acquire(self) -> int:
        """Return a descriptor of ``lock``, locked."""
        while True:
            with suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._lock = os.open(self.path / _LOCK, flags, 0o600)
            except FileNotFoundError:  # another run has just removed the directory
                continue
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise OutputInUseError(self.target.name) from None
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
            if self._is_here():  # otherwise another run has removed it since it was opened
                return self._lock
            os.close(self._lock)

    def _is_here(self) -> bool:
        """Whether the workspace under this name is the one that this run has locked."""
        try:
            return os.path.samestat(os.fstat(self._lock), (self.path / _LOCK).lstat())
        except OSError:
            return False

    # --- Data and state ------------------------------------------------------------------------

    def _files(self) -> Iterator[Path]:
        """Yield the data and, if they are a directory, what is in it."""
        if self.data.is_dir():
            yield from self.data.iterdir()
        if self.data.exists():
            yield self.data

    def _read_state(self, *, restart: bool) -> State | None:
        try:
            state = _decode_state((self.path / _STATE).read_bytes())
        except FileNotFoundError:
            return None
        if isinstance(state, str):
            if restart:
                return None
            raise ResumeError(self.target.name, [], state)
        # Without data, the run was killed after it was complete, while it removed the workspace.
        return state if self.data.exists() else None

    def _save(self) -> None:
        # On a full disk, the data or the state cannot be saved: then this point was not reached.
        with suppress(OSError, IndexError):
            state = self._unsaved.pop()
            self.sync_data()
            new = self.path / _NEW_STATE
            with new.open("wb") as file:
                file.write(_encode_state(state))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path / _STATE)
            self.state = state

    def _settle(self) -> None:
        """Save the last state. A signal waits until it is saved."""
        with hold_signals():
            if self._saving:
                self._saving.result()
            self._save()

    def _remove_workspace(self) -> None:
        with suppress(OSError):
            (self.path / _STATE).unlink(missing_ok=True)
            _remove(self.data)
            (self.path / _NEW_STATE).unlink(missing_ok=True)
            (self.path / _LOCK).unlink()
            self.path.rmdir()

    # --- Renaming ------------------------------------------------------------------------------

    def _rename(self) -> None:
        """Give the data the name of the output.

        A file is replaced atomically. An existing directory is moved aside first: at every moment
        the old or the new one exists, whole, and the next run restores the old one if need be.
        """
        target, previous = self.target.path, self.target.previous
        permissions = self.target.permissions
        if not self._directory:
            if permissions is not None:
                self.data.chmod(permissions)
            self.data.replace(target)
            return
        if replaces := target.exists():
            target.rename(previous)
        try:
            self.data.rename(target)
        except OSError:
            if replaces:
                previous.rename(target)
            raise
        if permissions is not None:
            target.chmod(permissions)
        self._remove_previous()

    def _restore_previous(self) -> None:
        """Undo, or finish, what a run that was killed while renaming directories has left."""
        target, previous = self.target.path, self.target.previous
        if self._directory and previous.is_dir() and self._may_replace(previous):
            if target.exists():
                self._remove_previous()
            else:
                previous.rename(target)

    def _remove_previous(self) -> None:
        previous = self.target.previous
        try:
            if previous.exists():
                previous.chmod(0o700)  # it may be protected
                shutil.rmtree(previous)
        except OSError:
            _log.warning("the previous %s could not be removed: %s", self.target.name, previous)

    def _translated(self) -> AbstractContextManager[None]:
        return translate(OutputError, f"write {self.target.name}")


def _encode_state(state: State) -> bytes:
    return _with_checksum(json.dumps(state).encode("ascii"))


def _decode_state(content: bytes) -> State | Literal["earlier version", "damaged"]:
    """Return the state that :func:`_encode_state` has encoded, or why there is none."""
    head, _, tail = content.partition(b', "state": ')
    encoded = tail[:-1]
    if content == _with_checksum(encoded):
        return dict(json.loads(encoded))
    is_other_version = _STATE_KIND in head and _STATE_FORMAT not in head
    return "earlier version" if is_other_version else "damaged"


def _with_checksum(encoded: bytes) -> bytes:
    head = b'{"format": "%s", "crc32": %d' % (_STATE_FORMAT, zlib.crc32(encoded))
    return b'%s, "state": %s}' % (head, encoded)


def _checksum(descriptor: int, start: int, end: int) -> int:
    """Return the CRC-32 of the bytes ``start`` to ``end - 1`` of a file."""
    crc32 = 0
    for position in range(start, end, _BLOCK):
        block = os.pread(descriptor, min(_BLOCK, end - position), position)
        crc32 = zlib.crc32(block, crc32)
    return crc32


def _is_workspace(path: Path) -> bool:
    """Whether a path is a directory that contains nothing but what a workspace does."""
    try:
        is_directory = stat.S_ISDIR(path.lstat().st_mode)
        return is_directory and {entry.name for entry in path.iterdir()} <= _NAMES
    except FileNotFoundError:  # another run has just removed it
        return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Put a file, or the names in a directory, on disk."""
    # Some directories cannot be read, and some file systems cannot sync directories.
    with suppress(OSError) if path.is_dir() else nullcontext():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_file(name: str) -> Iterator[ByteWriter]:
    """Yield a writer of a small file, which is put in place at the end of the block.

    A stream is written directly.

    Raises:
        OutputError: if it cannot be written, or if another run is writing it.
    """
    target = OutputTarget.resolve(name)
    if target.is_stream:
        with open_stream(target) as descriptor:
            writer = ByteWriter(name, descriptor)
            yield writer
            writer.flush()
        return
    with Workspace(target) as workspace:
        workspace.discard()
        writer = ByteWriter(name, workspace.open())
        yield writer
        writer.flush()
        workspace.sync()
        workspace.commit()
