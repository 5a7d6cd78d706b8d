"""Log lines as JSON objects, one a line."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Thread
from typing import Any, TextIO

__all__ = ["JsonFormatter", "logging_to"]

_MOST_WAITING = 10_000  # lines
_PATIENCE = 1.0  # seconds, at the end
_PAUSE = 0.05

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Gives a record's time, level and message, and what it was given as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        found: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        found |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)
        return json.dumps(found, default=_as_text)


def _as_text(value: object) -> str:
    return value.decode("ascii", "backslashreplace") if isinstance(value, bytes) else str(value)


@contextmanager
def logging_to(stream: TextIO | None, level: int) -> Iterator[None]:
    """Log to a stream, or nowhere, within the block.

    A thread of its own writes, so that nobody waits for a reader who does not read, not even at
    the end; lines that find no room are lost.
    """
    queue: Queue[logging.LogRecord | None] = Queue(_MOST_WAITING)
    writer = Thread(target=_write, args=(queue, stream), name="log", daemon=True)
    root = logging.getLogger()
    before = root.level
    collector = _Collector(queue)
    root.addHandler(collector)
    root.setLevel(level)
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(collector)
        root.setLevel(before)
        with suppress(Full):
            queue.put(None, timeout=_PATIENCE)
        writer.join(_PATIENCE)


class _Collector(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # nothing is pickled, and the traceback is wanted as it is

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self.queue.put_nowait(record)


def _write(queue: Queue[logging.LogRecord | None], stream: TextIO | None) -> None:
    formatter = JsonFormatter()
    # Past every lock of Python's, for which its end would wait while this thread waits.
    with suppress(OSError):
        while record := queue.get():
            line = f"{formatter.format(record)}\n".encode()
            while line and stream:
                try:
                    line = line[os.write(stream.fileno(), line) :]
                except BlockingIOError:  # it is set not to wait, so it is asked again
                    time.sleep(_PAUSE)
