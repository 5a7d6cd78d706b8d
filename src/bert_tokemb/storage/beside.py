"""What stands beside a result while it is written, under hidden names."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from ..errors import OutputError

__all__ = [
    "beside",
    "descriptor_of",
    "is_at",
    "names_of",
    "open_locked",
    "replaced",
    "status",
    "sync_directory",
]

# A name may have 255 bytes in most file systems.
_LONGEST_NAME = 255
_DIGEST_SIZE = 8

# More than the system follows.
_MOST_LINKS = 64

_KINDS = ("partial", "journal", "older", "new")

# A file system without locks: then nobody is told.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def beside(target: Path, kind: str) -> Path:
    """Return a hidden file's path beside another's, whose name is not too long either.

    >>> beside(Path("output.pkl"), "partial")
    PosixPath('.output.pkl.partial')
    """
    end = f".{kind}"
    name, room = os.fsencode(target.name), _LONGEST_NAME - len(end) - 1
    if len(name) > room:
        # Two long names may begin alike.
        digest = hashlib.blake2b(name, digest_size=_DIGEST_SIZE).hexdigest()
        name = name[: room - len(digest)] + digest.encode()
    return target.with_name(f".{os.fsdecode(name)}{end}")


def names_of(name: str) -> list[Path]:
    """Return what a run that writes a result may write, move or remove: it, and what is beside."""
    target = Path(os.path.realpath(name))
    return [target, *(beside(target, kind) for kind in _KINDS if target.name)]


def descriptor_of(name: str) -> int | None:
    """Return the descriptor of this process that a path means, as ``/dev/stdout`` does.

    None for all other paths. Such a file has a name of its own only by chance, and whoever opened
    it may have written into it before, or will.
    """
    tables = [os.path.realpath(table) for table in ("/dev/fd", "/proc/self/fd")]
    path = Path(name)
    for _ in range(_MOST_LINKS):
        directory = Path(os.path.realpath(path.parent))
        here = directory / path.name
        if str(directory) in tables and path.name.isdecimal() and os.path.lexists(here):
            return int(path.name)
        try:
            path = directory / here.readlink()
        except OSError:  # it is none
            break
    return None


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except OSError:
        return False


def status(name: str) -> os.stat_result | None:
    """Return what the system tells of a file; None where there is none.

    Raises:
        OSError: it cannot be told.
    """
    try:
        return Path(name).stat()
    except FileNotFoundError:
        return None


def open_locked(path: Path, name: str, flags: int = 0, *, directory: bool = False) -> int:
    """Open what stands beside a result; as long as it is open, nobody else can.

    Args:
        path: Of the file, or directory; it is made if it is not there.
        name: Of the result.
        flags: Of ``open(2)``, besides those that are needed.
        directory: Whether it is one.

    Returns:
        A descriptor.

    Raises:
        OutputError: another run has it open, or something else has its name.
        OSError: it cannot be opened.
    """
    while True:
        if directory:
            with suppress(FileExistsError):  # be it a directory or not
                path.mkdir()
            flags |= os.O_RDONLY | os.O_DIRECTORY
        else:
            flags |= os.O_RDWR | os.O_CREAT
        try:
            descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENOTDIR):
                raise
            raise _in_the_way(path, name) from error
        with ExitStack() as closing:
            closing.callback(os.close, descriptor)
            _lock(descriptor, name)
            if not directory and not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _in_the_way(path, name)
            # Whoever had it before may have removed or renamed it when it was open here already.
            if is_at(descriptor, path):
                closing.pop_all()
                return descriptor


def _lock(descriptor: int, name: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(
            f"another run is writing {name}: wait for it, or name another output"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


def sync_directory(directory: Path) -> None:
    """Put on disk which names are in a directory, where a file system can do that."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replaced(name: str, path: Path) -> OutputError:
    """Return the error that tells that somebody has removed what a run was writing."""
    return OutputError(
        f"cannot write {name}: somebody has removed {path}, into which it was written; run it again"
    )


def _in_the_way(path: Path, name: str) -> OutputError:
    return OutputError(f"cannot write {name}: {path} is not what a run leaves there, remove it")
