"""A bert-serving-server: the thread that takes requests, answers commands and sends replies."""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from ..errors import ModelError, UsageError
from ..models.engine import Engine
from ..models.loading import Model
from ..tokenization.wordpiece import PieceTokenizer
from ..types import FloatArray
from .features import FeatureMaker
from .pending import ModelShape, PendingRequest
from .protocol import (
    PROTOCOL_VERSION,
    Command,
    MalformedError,
    Request,
    Sender,
    error_info,
    json_info,
    parse,
)
from .reply_queue import ReplyQueue
from .schedule import Schedule
from .settings import DEFAULT_LIMITS, Limits, Settings
from .sockets import VERSIONS, Sockets
from .statistics import Statistics
from .workers import WorkerPool

__all__ = ["Server", "wordpiece_tokenizer"]

_log = logging.getLogger(__name__)

_MESSAGES_AT_ONCE = 64  # so that replies are sent between requests
# Seconds until the state of the replies is looked at again, if there are none and if there are.
_IDLE, _BUSY = 1.0, 0.05
_SLOWEST_LINE = 1e6  # bytes a second

_UNREAD = "replies to earlier requests have not been read"


def wordpiece_tokenizer(model: Model) -> PieceTokenizer:
    """Return the tokenizer of a model that can be served.

    Raises:
        ModelError: if it is not BERT's own, on which clients of bert-as-service rely.
    """
    if isinstance(model.tokenizer, PieceTokenizer):
        return model.tokenizer
    kind = model.tokenizer.settings["tokenizer"]
    raise ModelError(
        f"{model.name} cannot be served: clients of bert-as-service rely on BERT's own tokenizer, "
        f"and it has another ({kind})"
    )


class Server:
    """Serves clients in the thread that calls :meth:`start`, :meth:`run` and :meth:`finish`.

    Args:
        sockets: Receives requests and sends replies.
        engine: Computes piece vectors.
        settings: What to return for a request.
        version: The version of this package, reported to clients.
        allow_shutdown: Whether to obey the command ``TERMINATION``.
        limits: Bounds on memory and time.
        clock: Returns the current time, in seconds.

    Raises:
        UsageError: if ``max_seq_len`` is more than the model accepts.
        ModelError: if the tokenizer of the model is not BERT's own.
    """

    def __init__(
        self,
        sockets: Sockets,
        engine: Engine,
        settings: Settings,
        *,
        version: str,
        allow_shutdown: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = engine.model.config
        model_limit = config.max_pieces
        if settings.max_seq_len is not None and settings.max_seq_len > model_limit:
            raise UsageError(
                f"max_seq_len is {settings.max_seq_len}, more than the {model_limit} pieces that "
                f"{engine.model.name} accepts"
            )
        self._sockets = sockets
        self._settings = settings
        self._allow_shutdown = allow_shutdown
        self._limits = limits
        self._clock = clock
        self._shape = ModelShape(engine.width, engine.dtype, model_limit)
        self._replies = ReplyQueue(sockets, limits)
        self._schedule = Schedule(engine.batch_limits, limits)
        tokenizer = wordpiece_tokenizer(engine.model)
        maker = FeatureMaker(tokenizer, settings, model_limit, config.type_vocab_size)
        self._workers = WorkerPool(engine, maker, self._schedule, self._hand_over)
        self._finished: deque[tuple[PendingRequest, bytes, FloatArray | bytes]] = deque()
        self._statistics = Statistics(clock())
        self._config = {
            # One process does everything, without the internal sockets of the original.
            "num_process": 1,
            "ventilator -> worker": [],
            "worker -> sink": "",
            "ventilator <-> sink": "",
            "num_concurrent_socket": 1,
            **settings.reported,
            "port": sockets.port,
            "port_out": sockets.port_out,
            "tensorflow_version": [],
            "python_version": sys.version,
            "server_version": PROTOCOL_VERSION,
            "bert_tokemb_version": version,
            **VERSIONS,
            "server_start_time": str(datetime.now()),
        }
        self._stopping = False

    def start(self) -> None:
        """Start the threads that compute.

        Raises:
            ThreadLimitError: if the system does not allow so many threads.
        """
        self._workers.start()

    def run(self) -> None:
        """Serve until :meth:`stop` is called."""
        while not self._stopping:
            self._serve_once(accepting=True)

    def stop(self) -> None:
        """Make :meth:`run` return; callable from any thread and from signal handlers."""
        self._stopping = True
        self._sockets.wake()

    def finish(self) -> None:
        """Answer the requests that have arrived, accept no more, and deliver the replies."""
        quiet = self._limits.quiet
        start = last_request = self._clock()
        # Requests may still be in the buffers of the network.
        while self._clock() < min(last_request + quiet, start + self._limits.last_requests):
            if self._serve_once(accepting=True, timeout=quiet):
                last_request = self._clock()
        _log.info("stopping", extra={"requests": len(self._schedule)})
        self._sockets.close_requests()
        self._schedule.close()
        while len(self._schedule):
            self._serve_once()
        self._workers.join()
        self._deliver()

    def _deliver(self) -> None:
        """Send the last replies, and wait for them as long as clients read.

        How much of a single reply has been read is unknown, so a large reply is given the time
        that it takes on a slow line.
        """
        size, deadline = -1, 0.0
        while self._finished or self._replies.size:
            self._serve_once()
            if self._replies.size != size:
                size = self._replies.size
                deadline = self._clock() + self._limits.unread + size / _SLOWEST_LINE
            elif self._clock() > deadline:
                _log.warning("replies dropped: no client reads them", extra={"bytes": size})
                return

    def _serve_once(self, *, accepting: bool = False, timeout: float = _IDLE) -> bool:
        """Wait for an event and handle all that have occurred.

        Args:
            accepting: Whether to receive requests.
            timeout: The most seconds to wait.

        Returns:
            Whether a message was received.
        """
        self._sockets.wait(min(timeout, _BUSY) if self._replies.size else timeout)
        now = self._clock()
        for change in self._sockets.subscriptions(_MESSAGES_AT_ONCE):
            self._replies.update(change, now)
        messages = self._sockets.requests(_MESSAGES_AT_ONCE) if accepting else []
        for frames in messages:
            self._receive(frames, self._clock())
        self._send_finished(now)
        for client in self._replies.expire(now):
            if dropped := self._schedule.drop(client):
                _log.warning(
                    "requests dropped: the client is gone",
                    extra={"client": client, "requests": len(dropped)},
                )
        if len(self._schedule) and not self._workers.is_alive:
            raise RuntimeError("a thread that computes has died")
        return bool(messages)

    def _receive(self, frames: Sequence[bytes], now: float) -> None:
        try:
            message = parse(frames, self._limits.request_bytes)
        except MalformedError as error:
            _log.warning("malformed request dropped", extra={"reason": str(error)})
            if error.sender:
                self._send_error(error.sender, str(error), now)
            return
        self._statistics.add(message, now)
        if isinstance(message, Command):
            self._obey(message, now)
        else:
            self._accept(message, now)

    def _obey(self, command: Command, now: float) -> None:
        _log.info("command", extra={"command": command.name, "sender": command.sender})
        if command.name != "TERMINATION":
            info: dict[str, object] = {
                "client": command.sender.client.decode("ascii", "backslashreplace"),
                "server_current_time": str(datetime.now()),
                **self._config,
            }
            if command.name == "SHOW_STATUS":
                info["statistic"] = self._statistics.values(now)
            self._replies.put(command.sender, json_info(info), b"", now)
        elif self._allow_shutdown:
            self.stop()
        else:
            _log.warning("TERMINATION refused: clients may not shut down this server")

    def _accept(self, request: Request, now: float) -> None:
        _log.info("request", extra={"sender": request.sender, "sentences": len(request.texts)})
        client = request.sender.client
        if self._replies.is_full(client):
            self._refuse(request.sender, _UNREAD, now)
        elif self._schedule.pending_bytes(client) + request.size > self._limits.kept_bytes:
            self._refuse(request.sender, "too many requests are pending: fetch replies first", now)
        else:
            pending = PendingRequest(request, self._settings, self._shape, self._limits)
            if pending.is_too_large:
                self._refuse(request.sender, "too many sentences: send fewer at a time", now)
            else:
                self._schedule.add(pending)

    def _refuse(self, sender: Sender, why: str, now: float) -> None:
        _log.info("request refused", extra={"sender": sender, "reason": why})
        self._send_error(sender, why, now)

    def _send_error(self, sender: Sender, why: str, now: float) -> None:
        self._replies.put(sender, error_info(why), b"", now, is_error=True)

    def _hand_over(self, request: PendingRequest) -> None:
        # Called in a worker thread, which also writes the JSON of the reply.
        self._finished.append((request, *request.reply()))
        self._sockets.wake()

    def _send_finished(self, now: float) -> None:
        with suppress(IndexError):
            while True:
                self._send(*self._finished.popleft(), now)

    def _send(
        self, request: PendingRequest, info: bytes, data: FloatArray | bytes, now: float
    ) -> None:
        failed = request.error is not None
        if failed:
            _log.warning(
                "request failed", extra={"sender": request.sender, "reason": request.error}
            )
        else:
            _log.info("reply", extra={"sender": request.sender, "sentences": request.sentences})
        self._replies.put(request.sender, info, data, now, is_error=failed)
        if self._replies.is_full(request.sender.client):
            # The replies to its other requests would only be dropped.
            for other in self._schedule.drop(request.sender.client):
                self._refuse(other.sender, _UNREAD, now)
