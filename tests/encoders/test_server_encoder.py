"""Faults that the genuine server cannot be made to show, by a stand-in."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from bert_tokemb import Address, ServingEncoder, Tally, embed
from bert_tokemb.errors import LongSentenceError, ServerError
from support.genuine import free_address
from support.standin import Frames, StandIn, pieces_of

LINES = [f"{'word ' * (n % 7)}number {n}" for n in range(300)]
"""Distinct, of several lengths, and more than one request holds."""


def expected(line: str) -> list[list[float]]:
    """The vectors of a line under `first`, by the stand-in's rule."""
    pieces = ["[CLS]", *pieces_of(line), "[SEP]"]
    rows, j = [], 1
    for word in line.split():
        rows.append([j, len(pieces), len(pieces[j]), ord(pieces[j][-1]), 0, 0, 0, 0])
        j += len(pieces_of(word))
    return rows


def embed_all(server: StandIn, lines: list[str] = LINES, **options) -> list[list[list[float]]]:
    options = {"timeout": 0.5, "retries": 2, **options}
    with ServingEncoder(server.address, **options) as encoder:
        return [array.tolist() for array in embed(lines, encoder, "first")]


RIGHT = [expected(line) for line in LINES]


def test_by_hand() -> None:
    with StandIn() as server:
        assert embed_all(server) == RIGHT
    # Several requests, none larger than asked, and every line in just one.
    batches = server.requests[1:]
    assert len(batches) > 3
    assert max(map(len, batches)) <= 64
    assert sorted(line for batch in batches for line in batch) == sorted(LINES)


def once(fault: Callable[[StandIn, Frames, list[str]], list[Frames]]):
    """Do it at the third request only."""

    def at_third(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames] | None:
        return fault(server, frames, texts) if len(server.requests) == 3 else None

    return at_third


def always(fault: Callable[[StandIn, Frames, list[str]], list[Frames]]):
    """Do it at every request after the first, which the encoder makes when it is built."""

    def at_all(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames] | None:
        return fault(server, frames, texts) if len(server.requests) > 1 else None

    return at_all


def silence(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    return []


def _changed(**changes: object):
    def fault(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        info, vectors = server.encode(texts)
        info.update({k: v(info[k]) if callable(v) else v for k, v in changes.items()})
        return [[frames[0], json.dumps(info).encode(), vectors, frames[2]]]

    return fault


def half(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts[: len(texts) // 2])]


def few_frames(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts)[::3]]


def no_json(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    return [[frames[0], b"\xff{", b"", frames[2]]]


NONSENSE = {
    "half the sentences": half,
    "too few frames": few_frames,
    "no JSON": no_json,
    "no type": _changed(dtype="no-such-type"),
    "a type that is no float": _changed(dtype="int32"),
    "another shape": _changed(shape=lambda shape: [*shape, 2]),
    "two dimensions": _changed(shape=lambda shape: [shape[0], shape[1] * shape[2]]),
    "no tokens": _changed(tokens=""),
    "tokens that are no text": _changed(tokens=lambda tokens: [[1] for _ in tokens]),
    "tokens of fewer sentences": _changed(tokens=lambda tokens: tokens[1:]),
    "more tokens than vectors": _changed(tokens=lambda tokens: [t * 9 for t in tokens]),
    "tokens without [CLS]": _changed(tokens=lambda tokens: [t[1:] for t in tokens]),
    "a list": lambda server, frames, texts: [[frames[0], b"[]", b"", frames[2]]],
    "an empty object": lambda server, frames, texts: [[frames[0], b"{}", b"", frames[2]]],
    "no number": lambda server, frames, texts: [[*server.reply(frames[0], b"", texts)[:3], b"x"]],
}


@pytest.mark.parametrize("fault", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_once_is_survived(fault: Callable[..., list[Frames]]) -> None:
    with StandIn(fault=once(fault)) as server:
        assert embed_all(server) == RIGHT


@pytest.mark.parametrize("fault", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_always_is_told(fault: Callable[..., list[Frames]]) -> None:
    with StandIn(fault=always(fault)) as server:
        with pytest.raises(ServerError, match="gave a reply that does not fit the request: ."):
            embed_all(server, retries=1)


def test_another_width_than_before_is_nonsense() -> None:
    def wider(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        server._width = 9
        return [server.reply(frames[0], frames[2], texts)]

    with StandIn(fault=always(wider)) as server:
        with pytest.raises(ServerError, match="does not fit the request"):
            embed_all(server, retries=0)


def late(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    time.sleep(0.8)
    return [server.reply(frames[0], frames[2], texts)]


def wrong_number_first(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    stray = server.reply(frames[0], b"9999", ["not for you"] * len(texts))
    return [stray, server.reply(frames[0], frames[2], texts)]


def twice(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
    return [server.reply(frames[0], frames[2], texts)] * 2


@pytest.mark.parametrize("fault", [silence, late, wrong_number_first, twice])
def test_lost_late_and_stray_replies(fault: Callable[..., list[Frames]]) -> None:
    with StandIn(fault=once(fault)) as server:
        assert embed_all(server) == RIGHT
    # What was sent again was sent as it had been composed.
    assert {tuple(batch) for batch in server.requests[1:]} == _batches()


def _batches() -> set[tuple[str, ...]]:
    with StandIn() as server:
        embed_all(server)
    return {tuple(batch) for batch in server.requests[1:]}


@pytest.mark.parametrize("fault", [wrong_number_first, twice])
def test_stray_replies_are_no_reason_to_ask_again(fault: Callable[..., list[Frames]]) -> None:
    with StandIn(fault=once(fault)) as server:
        embed_all(server)
    assert len(server.requests) == 1 + len(_batches())


def test_replies_in_another_order() -> None:
    held: list[Frames] = []

    def hold(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        held.append(server.reply(frames[0], frames[2], texts))
        if len(held) < 2:
            return []
        released = held[::-1]
        held.clear()
        return released

    lines = [line for line in LINES for _ in range(2)]
    with StandIn(fault=always(hold)) as server:
        result = embed_all(server, lines)
    assert result[::2] == RIGHT


# --- Silence ----------------------------------------------------------------------------------


def test_a_bad_line_is_named() -> None:
    """The batch fails, its other lines are answered one by one."""

    def choke(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames] | None:
        return [] if any("poison" in text for text in texts) else None

    lines = [*LINES, "a poison b", *LINES]
    with StandIn(fault=choke) as server:
        with pytest.raises(ServerError, match="^line 301: .* answers other lines, but not this"):
            embed_all(server, lines, retries=1, timeout=0.3)


def test_a_batch_that_fails_only_as_a_whole() -> None:
    def choke(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames] | None:
        return [] if len(texts) > 3 else None

    with StandIn(fault=choke) as server:
        with pytest.raises(ServerError, match=r"lines .* together .* though it does one by one"):
            embed_all(server, retries=0, timeout=0.3)


def test_a_worker_that_died() -> None:
    begin = time.monotonic()
    with StandIn(fault=always(silence)) as server:
        with pytest.raises(ServerError, match=r"still tells its settings .* over lines? \d"):
            embed_all(server, retries=1, timeout=0.3)
    # Each request was waited for as often as was asked, and no more often.
    batches = [tuple(batch) for batch in server.requests[1:]]
    assert batches.count(batches[0]) == 2
    assert time.monotonic() - begin < 10


def test_a_worker_that_was_dead_before() -> None:
    with StandIn(fault=silence) as server:
        with pytest.raises(ServerError, match="no request within 0.3 s: its worker has died, or"):
            embed_all(server, timeout=0.3)
    assert server.requests == [["."]]  # asked once: nothing was lost


def test_death_at_a_request() -> None:
    def die(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        server.stop()
        return []

    with StandIn(fault=once(die)) as server:
        with pytest.raises(ServerError, match=r"is gone; it was last sent lines? \d"):
            embed_all(server, retries=1, timeout=0.3)


def test_death_and_return() -> None:
    """A server that comes back on its ports while there are attempts left."""
    returned = StandIn(address=free_address())

    def die(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        server.stop()
        threading.Timer(1.5, returned.start).start()
        return []

    with StandIn(fault=once(die), address=returned.given) as server:
        assert embed_all(server, timeout=1, retries=9) == RIGHT
    returned.stop()
    # What the first had answered was not asked again.
    assert len(returned.requests) == len(_batches()) - 1


def test_a_server_that_came_back_as_another_is_refused() -> None:
    def change(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        server.config["do_lower_case"] = False
        return []

    with StandIn(fault=once(change)) as server:
        message = "came back as another one .do_lower_case was True and is False.: run"
        with pytest.raises(ServerError, match=message):
            embed_all(server)


def test_the_time_of_one_request_does_not_run_while_another_is_computed() -> None:
    """Four requests of 0.4 s under way, one after the other, are none of them overdue at 0.7 s."""

    def slow(server: StandIn, frames: Frames, texts: list[str]) -> list[Frames]:
        time.sleep(0.4)
        return [server.reply(frames[0], frames[2], texts)]

    with StandIn(fault=always(slow)) as server:
        assert embed_all(server, timeout=0.7, retries=0) == RIGHT
    assert len(server.requests) == 1 + len(_batches())


# --- First contact ----------------------------------------------------------------------------


def test_nobody_there() -> None:
    address = free_address()
    with pytest.raises(ServerError) as caught:
        ServingEncoder(address)
    message = str(caught.value)
    ports = f"ports {address.port} and {address.port_out}"
    assert f"no bert-serving-server at 127.0.0.1, {ports} (" in message
    assert f"-port {address.port} -port_out {address.port_out}" in message
    assert "bert-serving-start -model_dir" in message


def test_a_host_that_does_not_exist() -> None:
    for host in ("no-such-host.invalid", "x" * 300, ".."):
        with pytest.raises(ServerError, match="no bert-serving-server at"):
            ServingEncoder(Address(host))


def test_something_else_listens() -> None:
    begin = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1], free_address().port_out)
        with pytest.raises(
            ServerError, match=f"no bert-serving-server answers from port {address.port_out}"
        ):
            ServingEncoder(address)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("attempt", range(3))
def test_swapped_ports(attempt: int) -> None:
    """Whoever sends to a port that publishes is hung up on, and could wait for ever."""
    begin = time.monotonic()
    with StandIn() as server:
        address = Address("127.0.0.1", server.address.port_out, server.address.port)
        with pytest.raises(ServerError, match="no bert-serving-server answers"):
            ServingEncoder(address)
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("nan")}, {"retries": -1}])
def test_options_that_cannot_be_meant(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot be meant"):
        ServingEncoder(Address("127.0.0.1"), **options)


def test_settings_that_are_none() -> None:
    with StandIn() as server:
        server.config = ["not", "a", "dict"]
        with pytest.raises(ServerError, match="is no bert-serving-server"):
            ServingEncoder(server.address)


def test_another_version_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with StandIn(config={"server_version": "1.9.9"}) as server:
        assert embed_all(server) == RIGHT
    assert "is version 1.9.9 and its client here 1.10.0" in caplog.text


# --- What the genuine server would take long to show ------------------------------------------


def test_float16() -> None:
    """From a server started with `-fp16`."""
    with StandIn(dtype="float16") as server, ServingEncoder(server.address) as encoder:
        arrays = list(embed(["hello unaffable", ""], encoder))
    assert [(a.dtype, a.shape) for a in arrays] == [(np.float16, (2, 8)), (np.float16, (0, 8))]
    np.testing.assert_array_equal(arrays[0][1, :3], np.float16([4, 7, np.mean([4, 6, 3])]))


def test_requests_are_not_larger_than_the_server_takes_undivided() -> None:
    with StandIn(config={"max_batch_size": 5}) as server:
        assert embed_all(server) == RIGHT
    assert max(map(len, server.requests)) == 5


def test_with_a_fixed_length_padding_counts() -> None:
    with StandIn(config={"max_seq_len": 512}) as server:
        assert embed_all(server) == RIGHT
    assert max(map(len, server.requests)) == 4


def _odd_pieces(text: str) -> list[str]:
    """A tokenizer that is not BERT's: it drops vowels, so that asking does not help."""
    return [piece for piece in pieces_of(text.replace("o", "")) if piece != "number"]


def test_a_server_with_another_tokenizer_loses_no_word() -> None:
    counts = Tally()
    with StandIn(pieces=_odd_pieces) as server, ServingEncoder(server.address) as encoder:
        arrays = list(embed(["hello world", "cat", "you too"], encoder, "first", tally=counts))
    assert [a[:, 0].tolist() for a in arrays] == [[1, 2], [1], [1, 2]]
    assert counts.inexact_sentences == 2


def test_a_cut_by_a_limit_in_no_config() -> None:
    with StandIn(limit=12) as server:
        assert len(embed_all(server, ["a " * 10])[0]) == 10
        with pytest.raises(
            LongSentenceError, match=r"line 1 \(11 words\) has more pieces than the 10 that"
        ):
            embed_all(server, ["a " * 11], long_sentences="error")


def test_a_sentence_that_was_surely_cut_is_not_asked_about() -> None:
    """Its 10,000 words would be as many questions."""
    with StandIn(limit=12) as server:
        with pytest.raises(LongSentenceError):
            embed_all(server, ["東京 é " * 5000], long_sentences="error")
    assert len(server.requests) == 2


def test_the_line_that_looks_like_a_pair() -> None:
    with StandIn() as server:
        assert [len(rows) for rows in embed_all(server, ["a ||| b", "|||", "|||| a|||b"])] == [
            3,
            1,
            2,
        ]
    sent = {text for batch in server.requests for text in batch}
    assert sent == {".", "a | | | b", "| | |", "|||| a|||b"}
