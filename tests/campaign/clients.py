"""Clients of ``serve`` in parallel, next to connections that send garbage."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Event

import numpy as np
import zmq

from bert_tokemb import Address
from bert_tokemb.models.engine import Engine
from bert_tokemb.serve.zmtp import GREETING, ready
from support.client import connect
from support.ours import RawClient, invoke_serve
from support.tiny import PIECE_IDS, VOCABULARY, run, start, write_tiny

from .checks import case

__all__ = ["parallel_clients"]

WORDS = [piece for piece in VOCABULARY if piece.isalpha() and piece.isascii() and piece.islower()]
"""Words that are one piece each."""

Requests = list[list[str]]
Garbage = Callable[[Random, Address, Event], None]


def parallel_clients(random: Random, directory: Path) -> int:
    """Every reply is exact, none is lost, and no other subscriber receives one."""
    engine = start(write_tiny(directory / "model"), (-2,))
    clients = {name: _requests(random) for name in _identities(random, 16)}
    seeds = [random.randrange(1 << 30) for _ in range(6)]

    def use(address: Address) -> None:
        with _strangers(address), _garbage(address, seeds), ThreadPoolExecutor(16) as pool:
            for done in [pool.submit(_call, address, *client) for client in clients.items()]:
                for texts, reply in done.result():
                    _assert_exact(engine, texts, *reply)

    counts = {name: len(requests) for name, requests in clients.items()}
    with case(directory, f"requests by client: {counts}"):
        done = invoke_serve(use, "--model", directory / "model")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
    return sum(map(len, clients.values()))


# --- Clients ----------------------------------------------------------------------------------


def _identities(random: Random, n: int) -> list[bytes]:
    """Return distinct identities; some are prefixes of others, and some are not text."""
    prefixes = [b"worker" + b"0" * i for i in range(n // 2)]
    others = {random.randbytes(random.randint(8, 40)) for _ in range(n // 2)}
    return [*prefixes, *sorted(others)]


def _requests(random: Random) -> Requests:
    """Return a few requests, whose sentences the model does not cut."""
    return [
        [
            " ".join(random.choices(WORDS, k=random.randint(1, 60)))
            for _ in range(random.choice((1, 1, 2, 5, 40)))
        ]
        for _ in range(random.randint(1, 6))
    ]


Reply = tuple[np.ndarray, list[list[str]]]


def _call(address: Address, identity: bytes, requests: Requests) -> list[tuple[list[str], Reply]]:
    """Send the requests of a client, one after the other or all at once."""
    with connect(address, timeout=60, identity=identity) as client:
        return [(texts, client.encode(texts, show_tokens=True)) for texts in requests]


def _assert_exact(
    engine: Engine, texts: list[str], vectors: np.ndarray, tokens: list[list[str]]
) -> None:
    assert tokens == [["[CLS]", *text.split(), "[SEP]"] for text in texts]
    assert vectors.shape[:2] == (len(texts), max(map(len, tokens)))
    for own, pieces in zip(vectors, tokens, strict=True):
        (expected,) = run(engine, np.array([[PIECE_IDS[piece] for piece in pieces]], np.int32))
        np.testing.assert_array_equal(own[: len(pieces)], expected)
        assert not own[len(pieces) :].any()


# --- Strangers and garbage --------------------------------------------------------------------


@contextmanager
def _strangers(address: Address) -> Iterator[None]:
    """Connect subscribers to everything and to prefixes, and check that they receive nothing."""
    with zmq.Context() as context:
        subscribers = [context.socket(zmq.SUB) for _ in range(3)]
        for subscriber, prefix in zip(subscribers, (b"", b"w", b"worke"), strict=True):
            subscriber.linger = 0
            subscriber.subscribe(prefix)
            subscriber.connect(f"tcp://{address.host}:{address.port_out}")
        yield
        received = [subscriber.poll(50) for subscriber in subscribers]
        for subscriber in subscribers:
            subscriber.close()
        assert not any(received)


@contextmanager
def _garbage(address: Address, seeds: list[int]) -> Iterator[None]:
    """Connect threads that send garbage within the block."""
    stop = Event()

    def send(seed: int) -> None:
        random = Random(seed)
        while not stop.wait(random.random() * 0.02):
            random.choice(_GARBAGE)(random, address, stop)

    with ThreadPoolExecutor(len(seeds)) as pool:
        threads = [pool.submit(send, seed) for seed in seeds]
        try:
            yield
        finally:
            stop.set()
        for thread in threads:
            thread.result()


def _send_bytes(content: Callable[[Random], bytes]) -> Garbage:
    """Return garbage that sends bytes to one of the ports, and perhaps stays connected a while."""

    def send(random: Random, address: Address, stop: Event) -> None:
        port = random.choice((address.port, address.port_out))
        with suppress(OSError):  # the server may disconnect
            with socket.create_connection((address.host, port), timeout=10) as connection:
                connection.sendall(content(random))
                stop.wait(random.choice((0, 0, 0.2)))

    return send


def _http(random: Random) -> bytes:
    return b"GET /" + b"x" * random.randrange(300) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _noise(random: Random) -> bytes:
    return random.randbytes(random.choice((0, 1, 10, 64, 1000, 100_000)))


def _broken_zmtp(random: Random) -> bytes:
    """Return a correct beginning, and random bytes."""
    whole = GREETING + ready(random.choice((b"PUSH", b"SUB", b"DEALER")))
    return whole[: random.randrange(len(whole) + 1)] + random.randbytes(random.randrange(300))


def _messages(random: Random, address: Address, stop: Event) -> None:
    """Send messages that are no requests, or not complete ones."""
    frames = (
        b"",
        b"raw",
        b"0",
        b"1",
        b"-1",
        b"SHOW_CONFIG",
        b'["a"]',
        b"[1]",
        b"[" * 1000,
        b"\xff",
    )
    with RawClient(address, random.choice((b"raw", b"\0", b"raw" * 100))) as client:
        for _ in range(random.randrange(10)):
            client.send(*random.choices(frames, k=random.randint(1, 6)))
        stop.wait(random.random() * 0.1)


_GARBAGE: Sequence[Garbage] = (
    _send_bytes(_http),
    _send_bytes(_noise),
    _send_bytes(_broken_zmtp),
    _messages,
)
