"""The unmodified bert-serving-client, and clients that break its rules, with our server."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from bert_serving.client import BertClient, ConcurrentBertClient

from bert_tokemb import Address, ServerEncoder, embed, open_local
from bert_tokemb.models.engine import Engine
from bert_tokemb.serve.pooling import Pooling
from bert_tokemb.serve.settings import Limits, Settings
from bert_tokemb.serve.zmtp import GREETING, ready
from support.client import connect
from support.ours import RawClient, serving, wait_until
from support.seed import seed_embed
from support.tiny import start

# Small enough that tests exceed them quickly.
LIMITS = Limits(quiet=0.05, request_bytes=1 << 20, reply_bytes=10 << 20, absence=1.0)


@pytest.fixture(scope="module")
def engine(shared_tiny: Path) -> Engine:
    return start(shared_tiny, (-2,))


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[Address]:
    """A server that returns the vectors of all pieces."""
    with serving(engine, Settings(show_tokens_to_client=True), LIMITS) as address:
        yield address


@pytest.fixture
def client(address: Address) -> Iterator[BertClient]:
    with connect(address) as client:
        yield client


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def logged(log: pytest.LogCaptureFixture, event: str, sender: str) -> list[logging.LogRecord]:
    """Return the records of an event that concern a client or one of its requests."""
    return [
        record
        for record in log.records
        if record.msg == event and sender in (str(getattr(record, "sender", "")), _client(record))
    ]


def _client(record: logging.LogRecord) -> str:
    return getattr(record, "client", b"").decode()


# --- The unmodified client --------------------------------------------------------------------


def test_client_accepts_the_server_with_all_checks(engine: Engine) -> None:
    settings = Settings(max_seq_len=20, show_tokens_to_client=True)
    with serving(engine, settings) as address:
        with BertClient(
            address.host, address.port, address.port_out, check_token_info=True, timeout=60_000
        ) as client:
            vectors, tokens = client.encode(["hello world"], show_tokens=True)
    assert vectors.shape == (1, 20, 32)
    assert tokens == [["[CLS]", "hello", "world", "[SEP]"]]


def test_encode_returns_the_vectors_of_the_engine(client: BertClient, shared_tiny: Path) -> None:
    texts = ["hello world", "hank plays the", "a"]
    vectors, tokens = client.encode(texts, show_tokens=True)
    assert vectors.shape == (3, max(map(len, tokens)), 32)
    assert tokens[2] == ["[CLS]", "a", "[SEP]"]
    assert not vectors[2, 3:].any()
    with open_local(str(shared_tiny)) as encoder:
        words = list(embed(texts, encoder, "last"))
    np.testing.assert_array_equal(vectors[2, 1], words[2][0])
    np.testing.assert_array_equal(
        client.encode([pieces[1:-1] for pieces in tokens], is_tokenized=True), vectors
    )


def test_fetch_all_returns_replies_in_order(client: BertClient) -> None:
    for n in (1, 2, 3):
        client.encode(["a"] * n, blocking=False)
    assert [len(reply) for reply in client.fetch_all()] == [1, 2, 3]


def test_encode_async_returns_every_batch(client: BertClient) -> None:
    batches = ([text] * 3 for text in ("a", "a b", "a b c"))
    replies = sorted(client.encode_async(batches, delay=0.2), key=lambda reply: reply.id)
    assert [reply.embedding.shape for reply in replies] == [(3, n, 32) for n in (3, 4, 5)]


def test_server_status_counts_sentences(client: BertClient) -> None:
    client.encode(["a", "b"])
    assert client.server_status["statistic"]["num_total_seq"] >= 2


def test_concurrent_client_gets_vectors(address: Address) -> None:
    with ConcurrentBertClient(
        max_concurrency=3,
        ip=address.host,
        port=address.port,
        port_out=address.port_out,
        check_length=False,
    ) as client:
        assert client.encode(["a"]).shape == (1, 3, 32)


def test_original_recipe_works_unchanged(client: BertClient) -> None:
    lines = ["hello world", "a b c"]
    assert [array.shape for array in seed_embed(client, lines, "last")] == [(2, 32), (3, 32)]


def test_server_encoder_accepts_the_server(engine: Engine) -> None:
    with serving(engine, Settings(show_tokens_to_client=True)) as address:
        with ServerEncoder(address) as encoder:
            assert next(embed(["hello world"], encoder)).shape == (2, 32)


# --- Requests that cannot be answered ---------------------------------------------------------


def test_malformed_request_is_answered_without_affecting_others(
    address: Address, client: BertClient, log: pytest.LogCaptureFixture
) -> None:
    with RawClient(address) as raw:
        raw.send(b"x")
        raw.send(b"raw", b"[", b"7", b"1")
        name, info, data, number = raw.receive()
    assert (name, data, number) == (b"raw", b"", b"7")
    assert json.loads(info)["error"].startswith("invalid JSON")
    assert log.messages.count("malformed request dropped") == 2
    assert client.encode(["a"]).shape == (1, 3, 32)


def test_frame_beyond_the_limit_is_answered(address: Address) -> None:
    with RawClient(address) as raw:
        raw.send(b"raw", b" " * (1 + LIMITS.request_bytes), b"7", b"1")
        assert raw.errors(1) == {7: "a frame of 1048577 bytes, more than 1048576"}


def test_frame_far_beyond_the_limit_does_not_affect_others(
    address: Address, client: BertClient
) -> None:
    with RawClient(address) as raw:
        raw.send(b"raw", b" " * (5 * LIMITS.request_bytes), b"7", b"1")
        for _ in range(20):
            assert client.encode(["a"]).shape == (1, 3, 32)


def test_failed_request_raises_in_its_client_alone(
    engine: Engine, log: pytest.LogCaptureFixture
) -> None:
    settings = Settings(
        max_seq_len=25,
        pooling_strategy=Pooling.LAST_TOKEN,
        no_special_token=True,
    )
    with serving(engine, settings) as address:
        with connect(address) as client, connect(address) as other:
            client.receiver.setsockopt(zmq.RCVTIMEO, 60_000)
            number = client._send(b'[["a"], []]', 2)  # past the checks of the client
            with pytest.raises(KeyError):
                client._recv_ndarray(number)
            assert other.encode(["a b"]).shape == (1, 32)
            assert client.encode(["a b"]).shape == (1, 32)
    (record,) = (record for record in log.records if record.msg == "request failed")
    assert "are masked" in record.reason


def test_reply_beyond_the_limit_raises_in_its_client(
    client: BertClient, log: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError):
        client.encode(["a " * 60] * 2000)  # 15.9 MB
    (record,) = (record for record in log.records if record.msg == "request failed")
    assert record.reason == "the reply would take 15.9 MB: send fewer sentences at a time"
    assert client.encode(["a"]).shape == (1, 3, 32)


# --- Clients that do not read, or not in time -------------------------------------------------


def test_reply_waits_for_the_subscription(address: Address, log: pytest.LogCaptureFixture) -> None:
    with RawClient(address, b"late", reads=False) as raw:
        raw.ask(["a"])
        wait_until(lambda: logged(log, "reply", "late#1"))
        raw.subscribe()
        assert raw.receive()[3] == b"1"


def test_requests_of_absent_client_are_dropped(
    address: Address, client: BertClient, log: pytest.LogCaptureFixture
) -> None:
    with RawClient(address, b"gone") as raw:
        raw.ask(["a"])
        raw.receive()
        for number in range(2, 10):
            raw.ask(["the " * 60] * 1000, number)
        wait_until(lambda: logged(log, "request", "gone#9"))
    assert client.encode(["a"]).shape == (1, 3, 32)
    # Either because the client is gone, or because its replies fill its queue.
    wait_until(
        lambda: (
            logged(log, "requests dropped: the client is gone", "gone")
            or logged(log, "replies dropped: the client is gone", "gone")
        )
    )


def test_client_cannot_unsubscribe_another(address: Address, client: BertClient) -> None:
    client.encode(["a"])
    with zmq.Context() as context, context.socket(zmq.XSUB) as forger:
        forger.linger = 0
        forger.connect(f"tcp://{address.host}:{address.port_out}")
        for kind in (b"\2", b"\0", b"\xff", b""):
            forger.send(kind + client.identity)
        # Later messages of the forger arrive after those.
        forger.send(b"\1forger")
        with RawClient(address, b"forger", reads=False) as raw:
            raw.ask(["a"])
            assert forger.poll(60_000)
        client.timeout = 5000
        assert client.encode(["a"]).shape == (1, 3, 32)


# --- Load -------------------------------------------------------------------------------------


def test_client_is_not_delayed_by_one_with_combining_marks(
    address: Address, client: BertClient, log: pytest.LogCaptureFixture
) -> None:
    """Sorting the marks of a letter must not take time that grows with their square."""
    client.encode(["a" + "\u0301\u0327" * 75_000], blocking=False)
    client.receiver.rcvtimeo = 5000  # 15 s, if it does
    assert next(client.fetch()).embedding.shape == (1, 3, 32)


def test_long_text_is_tokenized_no_further_than_needed(client: BertClient) -> None:
    vectors, ((*pieces,),) = client.encode(["a " * 500_000], show_tokens=True)
    assert vectors.shape == (1, 64, 32)
    assert pieces == ["[CLS]", *["a"] * 62, "[SEP]"]


def run_clients(
    address: Address, texts: list[list[str]], rounds: int
) -> dict[int, list[np.ndarray[Any, Any]]]:
    """Let a client for each of some texts send it several times, all clients at once."""
    replies: dict[int, list[np.ndarray[Any, Any]]] = {}

    def work(i: int) -> None:
        with connect(address) as client:
            replies[i] = [client.encode(texts[i]) for _ in range(rounds)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    return replies


@pytest.mark.parametrize(
    ("clients", "rounds"), [(8, 5), pytest.param(64, 60, marks=pytest.mark.slow)]
)
def test_many_clients_get_their_own_replies(
    clients: int, rounds: int, address: Address, shared_tiny: Path
) -> None:
    texts = [["hello world " * (1 + i % 5) + "a " * (i % 13)] * (1 + i % 3) for i in range(clients)]
    replies = run_clients(address, texts, rounds)
    assert replies.keys() == set(range(clients))
    with open_local(str(shared_tiny)) as encoder:
        for i, own in enumerate(texts):
            first_word = next(embed(own[:1], encoder, "first"))[0]
            assert len(replies[i]) == rounds
            for vectors in replies[i]:
                assert len(vectors) == len(own)
                np.testing.assert_allclose(vectors[-1, 1], first_word, rtol=0, atol=2e-5)


@contextmanager
def strangers(address: Address) -> Iterator[tuple[socket.socket, list[zmq.Socket[bytes]]]]:
    """Connect those who must not receive the replies to ``worker0`` and others."""
    request = b"GET /" + b"x" * 200 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with (
        socket.create_connection((address.host, address.port_out)) as http,
        zmq.Context() as context,
        context.socket(zmq.SUB) as everything,
        context.socket(zmq.SUB) as prefix,
        context.socket(zmq.XSUB) as talker,
    ):
        http.sendall(request)
        everything.subscribe(b"")
        prefix.subscribe(b"worker")
        subscribers = [everything, prefix, talker]
        for subscriber in subscribers:
            subscriber.linger = 0
            subscriber.connect(f"tcp://{address.host}:{address.port_out}")
        for frame in (b"no subscription", b"", b"\1", b"\1worker"):
            talker.send(frame)
        yield http, subscribers


def test_replies_go_to_the_requesting_client_alone(address: Address) -> None:
    lengths: dict[int, list[int]] = {}

    def run(i: int) -> None:
        with connect(address, identity=b"worker%d" % i) as client:
            text = "a " * (i + 1)
            lengths[i] = [client.encode([text] * n).shape[1] for n in range(1, 6)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(48)]
    with strangers(address) as (http, subscribers):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(240)
        assert not any(subscriber.poll(100) for subscriber in subscribers)
        http.settimeout(60)
        received = b"".join(iter(lambda: http.recv(4096), b""))
    assert received == GREETING + ready(b"PUB")
    assert lengths == {i: [i + 3] * 5 for i in range(48)}  # with [CLS] and [SEP]


def test_subscriber_that_does_not_read_costs_others_nothing(engine: Engine) -> None:
    """More bytes of replies than one client may leave unread."""
    limits = Limits(quiet=0.05, kept_bytes=1 << 20, unread=0.1)
    with (
        serving(engine, Settings(), limits) as address,
        strangers(address),
        connect(address, identity=b"worker1") as client,
    ):
        for _ in range(10):
            assert client.encode(["a b c " * 10] * 200).shape[0] == 200
