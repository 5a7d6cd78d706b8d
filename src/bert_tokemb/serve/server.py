"""A bert-serving-server: takes requests, has them computed, sends replies."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from ..errors import UsageError
from ..models.engine import Engine
from ..tokenization.wordpiece import PieceTokenizer
from ..types import FloatArray
from .features import FeatureMaker
from .flags import PROTOCOL_VERSION
from .job import LARGEST_REPLY, NO_MEMORY, Job, Shape
from .protocol import Command, MalformedError, Request, Sender, error_info, json_info, parse
from .reply_queue import Outbox
from .schedule import Schedule
from .settings import Settings
from .sockets import VERSIONS, Wire
from .statistics import Statistics
from .workers import Crew

__all__ = ["KEPT_REPLIES", "Server"]

KEPT_REPLIES = 256 * 10**6
"""Bytes, for each client; as many bytes of its requests may wait."""

_log = logging.getLogger(__name__)

_AT_ONCE = 64  # messages taken in before replies are looked after
_LONG = 1.0  # seconds, when there is nothing to look after
_SHORT = 0.05
_QUIET = 0.3  # seconds without a request, at the end, which say that all have come
_LAST_CALL = 3.0  # seconds, for a client that goes on asking
_PATIENCE = 10.0  # seconds, at the end, for clients that do not read
_SLOWEST = 1e6  # bytes a second


class Server:
    """Serves on a wire, in the thread that calls :meth:`run` and then :meth:`finish`.

    Args:
        wire: Where requests come from and replies go.
        engine: Computes.
        settings: What is given for a request.
        version: Of this package, which clients are told beside the protocol's.
        allow_shutdown: Whether the command ``TERMINATION`` is obeyed.
        kept_replies: Bytes of replies that are kept for a client that does not read.

    Raises:
        UsageError: the settings ask for longer sentences than the model takes.
    """

    def __init__(
        self,
        wire: Wire,
        engine: Engine,
        settings: Settings,
        *,
        version: str,
        allow_shutdown: bool = False,
        kept_replies: int = KEPT_REPLIES,
    ) -> None:
        config = engine.model.config
        if settings.max_seq_len is not None and settings.max_seq_len > config.positions:
            raise UsageError(
                f"the length of {settings.max_seq_len} is more than the {config.positions} pieces "
                f"that {engine.model.name} takes"
            )
        self._wire = wire
        self._settings = settings
        self._allow_shutdown = allow_shutdown
        self._kept_replies = kept_replies
        self._shape = Shape(engine.width, engine.dtype, config.positions)
        self._outbox = Outbox(wire, kept_replies)
        self._schedule = Schedule(engine.batch_limits)
        tokenizer = PieceTokenizer(engine.model.vocabulary)
        maker = FeatureMaker(tokenizer, settings, config.positions, config.token_types)
        self._crew = Crew(engine, maker, self._schedule, self._finish)
        self._finished: deque[tuple[Job, bytes, FloatArray | bytes]] = deque()
        self._statistics = Statistics(time.monotonic())
        self._told = {
            "num_process": 1,
            "ventilator -> worker": [],
            "worker -> sink": "",
            "ventilator <-> sink": "",
            "num_concurrent_socket": 1,
            **settings.echo,
            "port": wire.port,
            "port_out": wire.port_out,
            "tensorflow_version": [],
            "python_version": sys.version,
            "server_version": PROTOCOL_VERSION,
            "bert_tokemb_version": version,
            **settings.more,
            **VERSIONS,
            "server_start_time": str(datetime.now()),
        }
        self._stopping = False

    def start(self) -> None:
        """Let the threads begin that compute.

        Raises:
            ModelError: the system does not allow as many.
        """
        self._crew.start()

    def run(self) -> None:
        """Serve until :meth:`stop` is called."""
        while not self._stopping:
            self._turn(taking=True)

    def finish(self) -> None:
        """Do what has come, and take nothing more."""
        begin = last = time.monotonic()
        # More may be on its way out of the network's buffers.
        while time.monotonic() < min(last + _QUIET, begin + _LAST_CALL):
            if self._turn(taking=True, longest=_QUIET):
                last = time.monotonic()
        _log.info("stopping", extra={"requests": len(self._schedule)})
        self._wire.refuse()
        self._schedule.close()
        while len(self._schedule):
            self._turn()
        self._crew.join()
        self._deliver()

    def stop(self) -> None:
        """Have :meth:`run` return; from any thread, or a signal's handler."""
        self._stopping = True
        self._wire.wake()

    def _deliver(self) -> None:
        """Send the last replies, as long as any of them are read.

        How much of a reply has been read is not known: large ones are given the time that they
        need on a slow line.
        """
        last, deadline = -1, 0.0
        while self._finished or self._outbox:
            self._turn()
            left = self._outbox.size
            if left != last:
                last, deadline = left, time.monotonic() + _PATIENCE + left / _SLOWEST
            elif time.monotonic() > deadline:
                _log.warning("replies dropped: nobody reads them", extra={"bytes": left})
                return

    def _turn(self, *, taking: bool = False, longest: float = _LONG) -> bool:
        """Wait for something to do, and do it; tell whether a message was taken."""
        self._wire.wait(min(longest, _SHORT) if self._outbox else longest)
        now = time.monotonic()
        for change in self._wire.subscriptions(_AT_ONCE):
            self._outbox.subscribe(change, now)
        taken = taking and self._receive_some()
        self._send_finished(now)
        for client in self._outbox.tidy(now):
            if dropped := self._schedule.drop(client):
                _log.warning(
                    "requests dropped: their client is gone",
                    extra={"client": client, "requests": len(dropped)},
                )
        if len(self._schedule) and not self._crew.is_whole:
            raise RuntimeError("a thread that computes has died")
        return taken

    def _receive_some(self) -> bool:
        messages = self._wire.requests(_AT_ONCE)
        for frames in messages:
            self._receive(frames, time.monotonic())
        return bool(messages)

    def _receive(self, frames: Sequence[bytes], now: float) -> None:
        try:
            message = parse(frames, self._wire.frame_limit)
        except MalformedError as error:
            _log.warning("malformed request dropped", extra={"reason": str(error)})
            if error.sender:
                self._tell_error(error.sender, str(error), now)
            return
        self._statistics.note(message, now)
        if isinstance(message, Command):
            self._obey(message, now)
        else:
            self._accept(message, now)

    def _obey(self, command: Command, now: float) -> None:
        _log.info("command", extra={"command": command.name, "sender": command.sender})
        if command.name != "TERMINATION":
            told = self._config(command.sender.client)
            if command.name == "SHOW_STATUS":
                told["statistic"] = self._statistics.values(now)
            self._outbox.post(command.sender, json_info(told), b"", now)
        elif self._allow_shutdown:
            self.stop()
        else:
            _log.warning("TERMINATION refused: give --allow-shutdown to have it obeyed")

    def _accept(self, request: Request, now: float) -> None:
        _log.info("request", extra={"sender": request.sender, "sentences": len(request.texts)})
        client = request.sender.client
        if self._outbox.is_full(client):
            self._refuse(request.sender, "replies to earlier requests are not read", now)
        elif self._schedule.waiting_bytes(client) + request.size > self._kept_replies:
            self._refuse(request.sender, "too many requests wait: fetch replies first", now)
        else:
            self._schedule_job(request, now)

    def _schedule_job(self, request: Request, now: float) -> None:
        try:
            job = Job(request, self._settings, self._shape)
        except MemoryError:
            self._refuse(request.sender, NO_MEMORY, now)
            return
        if job.least_result_bytes > LARGEST_REPLY:
            self._refuse(request.sender, "too many sentences: ask for fewer at a time", now)
        else:
            self._schedule.add(job)

    def _refuse(self, sender: Sender, why: str, now: float) -> None:
        _log.info("request refused", extra={"sender": sender, "reason": why})
        self._tell_error(sender, why, now)

    def _tell_error(self, sender: Sender, why: str, now: float) -> None:
        self._outbox.post(sender, error_info(why), b"", now, is_error=True)

    def _config(self, client: bytes) -> dict[str, Any]:
        return {
            "client": client.decode("ascii", "backslashreplace"),
            "server_current_time": str(datetime.now()),
            **self._told,
        }

    def _finish(self, job: Job) -> None:
        # In the thread that computes: of many sentences the pieces take their time.
        try:
            info, data = job.reply()
        except MemoryError:
            job.error = NO_MEMORY
            info, data = job.reply()
        self._finished.append((job, info, data))
        self._wire.wake()

    def _send_finished(self, now: float) -> None:
        with suppress(IndexError):
            while True:
                self._send(*self._finished.popleft(), now)

    def _send(self, job: Job, info: bytes, data: FloatArray | bytes, now: float) -> None:
        client = job.sender.client
        if job.error is not None:
            _log.warning("request failed", extra={"sender": job.sender, "reason": job.error})
        else:
            _log.info("reply", extra={"sender": job.sender, "sentences": job.sentences})
        self._outbox.post(job.sender, info, data, now, is_error=job.error is not None)
        if self._outbox.is_full(client):
            # What it has asked for besides would be computed only to be dropped.
            for other in self._schedule.drop(client):
                self._refuse(other.sender, "replies to earlier requests are not read", now)
