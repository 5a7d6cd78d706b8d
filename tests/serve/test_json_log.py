"""The log of the server: JSON lines that nothing waits for."""

from __future__ import annotations

import json
import logging
import os
import select
import threading
import time

from bert_tokemb.cli.json_log import JsonFormatter, json_log
from support.ours import wait_until

TIMEOUT = 60  # seconds


def test_json_formatter_writes_fields_and_traceback() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError as error:
        exc_info = (type(error), error, error.__traceback__)
    record = logging.makeLogRecord(
        {
            "levelname": "ERROR",
            "msg": "it %s",
            "args": ("failed",),
            "created": 1.5,
            "msecs": 500.0,
            "exc_info": exc_info,
            "client": b"a\xff",
        }
    )
    line = json.loads(JsonFormatter().format(record))
    assert line.pop("traceback").endswith("ZeroDivisionError: division by zero")
    assert line == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "error",
        "event": "it failed",
        "client": "a\\xff",
    }


def test_json_log_drops_lines_that_are_not_read() -> None:
    reader, writer = os.pipe()
    start = time.monotonic()
    with os.fdopen(writer, "w") as stream:
        with json_log(stream, logging.INFO, timeout=0.05):
            for _ in range(12_000):
                logging.getLogger("any").info("a line")
        assert time.monotonic() - start < TIMEOUT / 2
        os.close(reader)  # ends the thread that writes


def test_json_log_keeps_lines_for_a_slow_reader() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    lines = []

    def read() -> None:
        wait_until(lambda: not select.select([], [writer], [], 0)[1])  # the pipe is full
        with os.fdopen(reader) as pipe:
            lines.extend(map(json.loads, pipe))

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(writer, "w") as stream, json_log(stream, logging.INFO, timeout=TIMEOUT):
        for number in range(20):  # more than a pipe holds
            logging.getLogger("any").info("a line", extra={"number": number, "text": "x" * 9999})
    thread.join(TIMEOUT)
    assert [line["number"] for line in lines] == list(range(20))


def test_json_log_restores_the_root_logger() -> None:
    before = logging.root.level, logging.root.handlers[:]
    with json_log(None, logging.DEBUG):
        assert logging.root.level == logging.DEBUG
        logging.getLogger("any").info("written nowhere")
    assert (logging.root.level, logging.root.handlers) == before
