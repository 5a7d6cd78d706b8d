"""The log of ``bert-tokemb serve``: JSON objects, one a line."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue
from threading import Thread
from typing import Any, TextIO

__all__ = ["JsonFormatter", "json_log"]

_MAX_WAITING = 10_000  # lines
_RETRY = 0.05  # seconds

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: its time, level and message, and the fields of ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        fields |= {name: v for name, v in vars(record).items() if name not in _STANDARD_FIELDS}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=_as_text)


def _as_text(value: object) -> str:
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)


@contextmanager
def json_log(stream: TextIO | None, level: int, *, timeout: float = 1.0) -> Iterator[None]:
    """Write the log to a stream within the block.

    A thread writes the lines, so that the server never waits for a program that does not read its
    log. Lines are dropped if too many are waiting.

    Args:
        stream: Where to write, or None to write nothing.
        level: The least level that is written.
        timeout: The most seconds that the end of the block waits for the last lines.
    """
    handler, root = _Handler(stream), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.finish(timeout)


class _Handler(logging.Handler):
    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._stream = stream
        self._lines: Queue[bytes | None] = Queue(_MAX_WAITING)
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self._lines.put_nowait(f"{self.format(record)}\n".encode())

    def finish(self, timeout: float) -> None:
        with suppress(Full):
            self._lines.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _write(self) -> None:
        # Not through the stream: at exit, Python would wait for its lock, which this thread holds
        # while it waits for the reader.
        with suppress(OSError):
            while line := self._lines.get():
                while line and self._stream:
                    try:
                        line = line[os.write(self._stream.fileno(), line) :]
                    except BlockingIOError:  # the descriptor is non-blocking
                        time.sleep(_RETRY)
