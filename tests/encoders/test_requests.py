"""Requests in flight: sent again after silence and bad replies, and the diagnosis at the end.

The tests of silence use a server without sockets and with a clock of its own, so that they neither
wait nor depend on the load of the machine.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from bert_tokemb import ServerEncoder, embed
from bert_tokemb.encoders.server.connection import BadReplyError, Reply
from bert_tokemb.encoders.server.requests import HARMLESS, RequestQueue
from bert_tokemb.errors import (
    ServerChangedError,
    ServerError,
    ServerGoneError,
    ServerSilentError,
)
from support.genuine import free_address
from support.standin import CONFIG, Fault, Frames, StandIn, Text, ToyModel

# --- Silence, without sockets -----------------------------------------------------------------


class FakeServer:
    """A server whose time passes only while a client waits.

    Args:
        seconds: How long it takes to answer a request; None for ever.
        config: Its settings, an exception in their place, or None for no answer.
        listens: Whether it accepts connections.
    """

    def __init__(
        self,
        seconds: Callable[[Sequence[Text]], float | None] = lambda texts: 0.0,
        *,
        config: Mapping[str, Any] | Exception | None = CONFIG,
        listens: bool = True,
    ) -> None:
        self.seconds = seconds
        self.config = config
        self.now = 0.0
        self.sent: list[Sequence[Text]] = []
        self._listens = listens

    def __str__(self) -> str:
        return "ADDRESS"

    def listens(self, timeout: float) -> bool:
        return self._listens

    def connect(self, address: object) -> FakeConnection:
        return FakeConnection(self)

    def queue(self, *, timeout: float = 1.0, retries: int = 1) -> RequestQueue:
        return RequestQueue(
            self,
            self.connect(self),
            timeout,
            retries,
            CONFIG,
            connect=self.connect,
            clock=lambda: self.now,
        )


class FakeConnection:
    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self._requests: deque[tuple[int, Sequence[Text], float]] = deque()
        self._number = 0

    def config(self, timeout: float) -> Mapping[str, Any] | None:
        if isinstance(self._server.config, Exception):
            raise self._server.config
        if self._server.config is None:
            self._server.now += timeout
        return self._server.config

    def send(self, texts: Sequence[Text]) -> int:
        self._number += 1
        self._server.sent.append(texts)
        seconds = self._server.seconds(texts)
        if seconds is not None:
            self._requests.append((self._number, texts, seconds))
        return self._number

    def receive(self, timeout: float) -> Reply | None:
        if not self._requests or self._requests[0][2] > timeout:
            self._server.now += timeout
            return None
        number, texts, seconds = self._requests.popleft()
        self._server.now += seconds
        pieces, vectors = ToyModel()(texts)
        return Reply(number, vectors, pieces)

    def close(self) -> None:
        self._requests.clear()


def test_timeout_runs_from_the_last_reply() -> None:
    """Of four requests that take 0.4 s each, one after the other, none is late after 0.7 s."""
    server = FakeServer(lambda texts: 0.4)
    queue = server.queue(timeout=0.7, retries=0)
    requests = [queue.send([f"text {n}"], [n]) for n in range(4)]
    for n, request in enumerate(requests):
        assert queue.wait(request).pieces[0][1:3] == ["text", str(n)]
    assert server.now == pytest.approx(1.6)


def test_unanswered_requests_are_sent_again_unchanged() -> None:
    silent = ["first", "second"]
    server = FakeServer(lambda texts: None if texts[0] in silent else 0.0)
    queue = server.queue(retries=1)
    requests = [queue.send([text, "more"], [1, 2]) for text in ("answered", *silent)]
    queue.wait(requests[0])
    silent.clear()
    for request in requests[1:]:
        assert queue.wait(request).pieces[0][1] == request.texts[0][:4]
    batches = [[text, "more"] for text in ("answered", "first", "second", "first", "second")]
    assert server.sent == batches


def test_late_request_is_retried_up_to_the_limit() -> None:
    server = FakeServer(lambda texts: None)
    queue = server.queue(timeout=0.3, retries=2)
    request = queue.send(["a"], [7])
    with pytest.raises(ServerSilentError) as caught:
        queue.wait(request)
    assert server.sent == [["a"]] * 3 + [[HARMLESS]]
    assert caught.value.timeout == 0.3
    assert str(caught.value) == (
        "the server at ADDRESS still returns its settings, but no longer answers requests within "
        "0.3 s: its worker has probably died at line 7, or is slower than that; check its log, "
        "restart it and look at these lines"
    )


@pytest.mark.parametrize("config", [None, BadReplyError("damaged")])
def test_failed_reconnections_count_as_attempts(config: Exception | None) -> None:
    server = FakeServer(lambda texts: None, config=config)
    queue = server.queue(retries=5)
    with pytest.raises(ServerError):
        queue.wait(queue.send(["a"], [7]))
    assert server.sent == [["a"]]


def test_silent_server_without_settings_still_listens() -> None:
    queue = FakeServer(lambda texts: None, config=None).queue()
    with pytest.raises(ServerSilentError, match="ADDRESS still listens, but no longer answers"):
        queue.wait(queue.send(["a"], [7]))


def test_silence_at_the_first_request_is_reported_at_once() -> None:
    server = FakeServer(lambda texts: None)
    queue = server.queue(timeout=0.3, retries=9)
    with pytest.raises(ServerSilentError, match=r"not answer a request within 0.3 s: its worker"):
        queue.wait(queue.send([HARMLESS], attempts=1))
    assert server.sent == [[HARMLESS]]


def test_server_that_no_longer_listens_is_reported() -> None:
    queue = FakeServer(lambda texts: None, listens=False).queue()
    with pytest.raises(ServerGoneError, match="ADDRESS is gone; it was last sent lines 7-8: check"):
        queue.wait(queue.send(["a", "b"], [8, 7]))


def test_bad_line_is_named() -> None:
    """After the batch fails, its lines are sent one by one to find the bad one."""
    queue = FakeServer(lambda texts: None if "poison" in texts else 0.0).queue()
    with pytest.raises(ServerError, match="^line 8: .* answers other lines, but not this one"):
        queue.wait(queue.send(["a", "poison", "b"], [7, 8, 9]))


def test_batch_that_fails_only_as_a_whole_is_reported() -> None:
    queue = FakeServer(lambda texts: None if len(texts) > 2 else 0.0).queue()
    message = r"lines 7-9 together within 1 s, although it answers each .* smaller -max_batch_size"
    with pytest.raises(ServerSilentError, match=message):
        queue.wait(queue.send(["a", "b", "c"], [7, 8, 9]))


def test_restarted_server_must_have_the_same_settings() -> None:
    server = FakeServer(lambda texts: None, config={**CONFIG, "do_lower_case": False})
    queue = server.queue()
    with pytest.raises(ServerChangedError, match="do_lower_case was True and is False") as caught:
        queue.wait(queue.send(["a"], [7]))
    assert caught.value.changes == {"do_lower_case": (True, False)}


# --- Bad replies, over sockets ----------------------------------------------------------------

LINES = [f"{'word ' * (n % 7)}number {n}" for n in range(300)]
"""Distinct, of several lengths, and more than fit into one request."""


def embed_all(server: StandIn, lines: Sequence[str] = LINES, **options: Any) -> list[Any]:
    with ServerEncoder(server.address, **options) as encoder:
        return [array.tolist() for array in embed(lines, encoder, "first")]


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], set[tuple[Text, ...]]]:
    """The arrays of the lines, and the requests for them."""
    with StandIn() as server:
        arrays = embed_all(server)
    return arrays, {tuple(batch) for batch in server.requests[1:]}


def once(fault: Fault) -> Fault:
    """Return a fault that occurs at the third request only."""

    def at_third(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames] | None:
        return fault(server, frames, texts) if len(server.requests) == 3 else None

    return at_third


def always(fault: Fault) -> Fault:
    """Return a fault that occurs at every request but the first, which opens the encoder."""

    def at_all(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames] | None:
        return fault(server, frames, texts) if len(server.requests) > 1 else None

    return at_all


def changed(**changes: Any) -> Fault:
    """Return a fault that changes fields of the reply."""

    def fault(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        client, info, vectors, number = server.reply(frames[0], frames[2], texts)
        fields = json.loads(info)
        fields.update({k: v(fields[k]) if callable(v) else v for k, v in changes.items()})
        return [[client, json.dumps(fields).encode(), vectors, number]]

    return fault


def half(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts[: len(texts) // 2])]


def few_frames(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts)[::3]]


def wider(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    pieces, vectors = ToyModel(width=9)(texts)
    info = {"dtype": "float32", "shape": vectors.shape, "tokens": pieces}
    return [[frames[0], json.dumps(info).encode(), vectors, frames[2]]]


BAD_REPLIES: dict[str, Fault] = {
    "half the sentences": half,
    "too few frames": few_frames,
    "no JSON": lambda server, frames, texts: [[frames[0], b"\xff{", b"", frames[2]]],
    "unknown data type": changed(dtype="no-such-type"),
    "data type that is no float": changed(dtype="int32"),
    "other shape": changed(shape=lambda shape: [*shape, 2]),
    "two dimensions": changed(shape=lambda shape: [shape[0], shape[1] * shape[2]]),
    "other width": wider,
    "no tokens": changed(tokens=""),
    "tokens that are no text": changed(tokens=lambda tokens: [[1] for _ in tokens]),
    "tokens of fewer sentences": changed(tokens=lambda tokens: tokens[1:]),
    "more tokens than vectors": changed(tokens=lambda tokens: [t * 9 for t in tokens]),
    "tokens without [CLS]": changed(tokens=lambda tokens: [t[1:] for t in tokens]),
    "list": lambda server, frames, texts: [[frames[0], b"[]", b"", frames[2]]],
    "empty object": lambda server, frames, texts: [[frames[0], b"{}", b"", frames[2]]],
    "no number": lambda server, frames, texts: [[*server.reply(frames[0], b"", texts)[:3], b"x"]],
}


@pytest.mark.parametrize("fault", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_bad_reply_is_requested_again(
    fault: Fault, undisturbed: tuple[list[Any], set[tuple[Text, ...]]]
) -> None:
    with StandIn(fault=once(fault)) as server:
        assert embed_all(server) == undisturbed[0]


@pytest.mark.parametrize("fault", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_bad_replies_to_all_attempts_are_an_error(fault: Fault) -> None:
    with StandIn(fault=always(fault)) as server:
        with pytest.raises(ServerError, match="sent a reply that does not fit the request: ."):
            embed_all(server, retries=1)


# --- Lost, late and stray replies, over sockets -----------------------------------------------


def lost(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    return []


def stray_first(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    stray = server.reply(frames[0], b"9999", ["not for you"] * len(texts))
    return [stray, server.reply(frames[0], frames[2], texts)]


def twice(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts)] * 2


class Late:
    """A reply that is sent only when the request has been sent again."""

    def __init__(self) -> None:
        self._held: list[Frames] = []

    def __call__(self, server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames] | None:
        if len(server.requests) == 3:
            self._held.append(server.reply(frames[0], frames[2], texts))
            return []
        late, self._held = self._held, []
        return [*late, server.reply(frames[0], frames[2], texts)]


@pytest.mark.parametrize("fault", [once(lost), Late()], ids=["lost", "late"])
def test_lost_and_late_replies_are_requested_again(
    fault: Fault, undisturbed: tuple[list[Any], set[tuple[Text, ...]]]
) -> None:
    arrays, batches = undisturbed
    with StandIn(fault=fault) as server:
        assert embed_all(server, timeout=1, retries=30) == arrays
    assert {tuple(batch) for batch in server.requests[1:]} == batches


@pytest.mark.parametrize("fault", [stray_first, twice])
def test_stray_replies_are_dropped(
    fault: Fault, undisturbed: tuple[list[Any], set[tuple[Text, ...]]]
) -> None:
    arrays, batches = undisturbed
    with StandIn(fault=once(fault)) as server:
        assert embed_all(server) == arrays
    assert len(server.requests) == 1 + len(batches)


def test_replies_may_arrive_in_another_order(
    undisturbed: tuple[list[Any], set[tuple[Text, ...]]],
) -> None:
    held: list[Frames] = []

    def hold(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        held.append(server.reply(frames[0], frames[2], texts))
        if len(server.requests) in (2, 4):
            return []
        released = held[::-1]
        held.clear()
        return released

    with StandIn(fault=always(hold)) as server:
        assert embed_all(server) == undisturbed[0]


def test_dead_worker_is_found_when_the_encoder_is_opened() -> None:
    with StandIn(fault=lost) as server:
        with pytest.raises(ServerSilentError, match="returns its settings, but does not answer"):
            ServerEncoder(server.address, timeout=0.3)
    assert server.requests == [[HARMLESS]]


def test_server_that_stops_during_a_run_is_reported() -> None:
    def die(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        server.stop()
        return []

    with StandIn(fault=once(die)) as server:
        with pytest.raises(ServerGoneError, match=r"is gone; it was last sent lines? \d"):
            embed_all(server, retries=0, timeout=2)


def test_restarted_server_receives_only_unanswered_requests(
    undisturbed: tuple[list[Any], set[tuple[Text, ...]]],
) -> None:
    arrays, batches = undisturbed
    address = free_address()
    restarted = StandIn(address=address)

    def die(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        server.stop()
        server.after_stop = restarted.start
        return []

    with StandIn(fault=once(die), address=address) as server:
        assert embed_all(server, timeout=1, retries=30) == arrays
    restarted.stop()
    answered = tuple(server.requests[1])
    assert {tuple(batch) for batch in restarted.requests} == batches - {answered}
