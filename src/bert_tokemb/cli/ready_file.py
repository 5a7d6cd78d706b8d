"""How ``bert-tokemb serve`` announces its address: on standard output and in a file."""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

from ..errors import OutputError, UsageError, reason, translate
from ..storage.workspace import atomic_file

__all__ = ["announced", "check_ready_file"]

_log = logging.getLogger(__name__)

_ADDRESS = re.compile(rb"([^\s:]{1,255}):(\d{1,5}):\d{1,5}\n")
_MAX_CONTENT = 1024  # bytes
_TIMEOUT = 2.0  # seconds


def check_ready_file(name: str) -> None:
    """Raise unless a server may write its address to this file, and remove the file at its end.

    Raises:
        UsageError: if it is a pipe, contains anything but an address, or belongs to a running
            server.
        OutputError: if it cannot be examined.
    """
    if not name:
        raise UsageError("--ready-file is empty: give the path of a file")
    path = Path(name)
    with translate(OutputError, f"write {name}"):
        if path.is_fifo():
            # Opening it would wait for a reader, with the model loaded and no signal obeyed.
            raise UsageError(f"--ready-file {name} is a pipe: give the path of a file")
        if not path.is_file():
            return
        with path.open("rb") as file:
            found = _ADDRESS.fullmatch(content := file.read(_MAX_CONTENT))
    if content and not found:
        raise UsageError(
            f"--ready-file {name} exists and is no ready file: remove it, or give another path"
        )
    if found and _listens(found[1].decode("ascii", "replace"), int(found[2])):
        raise UsageError(
            f"--ready-file {name} belongs to the server that is running at "
            f"{content.decode('ascii', 'replace').strip()}: give another path"
        )


@contextmanager
def announced(address: str, ready_file: str | None) -> Iterator[None]:
    """Print and write where the server listens; remove the file at the end."""
    if ready_file is not None:
        with atomic_file(ready_file) as file:
            file.write(f"{address}\n".encode())
    if sys.stdout is not None:
        # In a thread, since a pipe without a reader may be full.
        line = f"ready {address}\n".encode()
        Thread(target=_print, args=(sys.stdout.fileno(), line), daemon=True).start()
    try:
        yield
    finally:
        if ready_file is not None:
            _remove(Path(os.path.realpath(ready_file)), f"{address}\n")


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), _TIMEOUT).close()
    except (OSError, OverflowError, UnicodeError):
        return False
    return True


def _print(descriptor: int, line: bytes) -> None:
    try:
        os.write(descriptor, line)
    except BrokenPipeError:
        pass  # the reader of the pipe has closed it
    except OSError as error:
        _log.warning("cannot print that the server is ready", extra={"reason": reason(error)})


def _remove(path: Path, content: str) -> None:
    """Remove a regular file that still has this content."""
    with suppress(OSError, UnicodeError):
        if path.is_file() and path.read_text("utf-8") == content:
            path.unlink()
