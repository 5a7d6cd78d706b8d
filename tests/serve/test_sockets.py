"""The sockets of the server on their own."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import zmq

from bert_tokemb import Address
from bert_tokemb.errors import ServerError
from bert_tokemb.serve.settings import Limits
from bert_tokemb.serve.sockets import Sockets, Subscription
from support.ours import RawClient

TIMEOUT = 60  # seconds


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with Sockets("127.0.0.1", 0, 0, Limits(request_bytes=1000)) as sockets:
        yield sockets


def client_of(sockets: Sockets) -> RawClient:
    return RawClient(Address(sockets.host, sockets.port, sockets.port_out))


def receive(sockets: Sockets) -> list[list[bytes]]:
    while not (messages := sockets.requests(64)):
        sockets.wait(TIMEOUT)
    return messages


def test_sockets_listen_on_loopback_only(sockets: Sockets) -> None:
    listening = Path("/proc/net/tcp").read_text().splitlines()
    for port in (sockets.port, sockets.port_out):
        (line,) = [line for line in listening if f":{port:04X} 00000000:0000 0A" in line]
        assert line.split()[1].startswith("0100007F:")


def test_sockets_report_the_port_that_is_taken(sockets: Sockets) -> None:
    with pytest.raises(
        ServerError,
        match=rf"cannot listen on 127\.0\.0\.1, port {sockets.port}: Address .* in use; another",
    ):
        Sockets("127.0.0.1", sockets.port, 0)


def test_sockets_report_an_address_of_another_machine() -> None:
    with pytest.raises(ServerError, match=r"cannot listen on 192\.0\.2\.1, a free port: .*; the"):
        Sockets("192.0.2.1", 0, 0)


def test_frame_somewhat_beyond_the_limit_is_received(sockets: Sockets) -> None:
    with client_of(sockets) as client:
        client.send(b"x" * 4000)
        assert receive(sockets) == [[b"x" * 4000]]


def test_frame_far_beyond_the_limit_is_lost(sockets: Sockets) -> None:
    with client_of(sockets) as client, client_of(sockets) as other:
        client.send(b"x" * 4001)
        other.send(b"other")
        assert receive(sockets) == [[b"other"]]
        messages = []
        while not messages:  # the client is disconnected and connects again
            with suppress(zmq.Again):
                client.sender.send(b"again", zmq.NOBLOCK)
            sockets.wait(0.05)
            messages = sockets.requests(64)
        assert messages[0] == [b"again"]


def test_message_of_too_many_frames_is_lost(sockets: Sockets) -> None:
    with client_of(sockets) as client, client_of(sockets) as other:
        client.send(*[b"x"] * 5)
        other.send(b"other")
        assert receive(sockets) == [[b"other"]]


def test_close_does_not_wait_for_connections_that_broke() -> None:
    sockets = Sockets("127.0.0.1", 0, 0)
    for _ in range(3000):
        with socket.create_connection((sockets.host, sockets.port_out)) as connection:
            # The connection is reset, perhaps with a part of the handshake unsent.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100)
        sockets.wait(0)
    thread = Thread(target=sockets.__exit__, daemon=True)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


def test_requests_returns_few_large_messages(sockets: Sockets) -> None:
    with client_of(sockets) as client:
        for _ in range(20):
            client.send(b"x" * 3000)
        assert len(receive(sockets)) <= 4  # more are read at once if they are small


def test_subscriptions_ignore_other_messages(sockets: Sockets) -> None:
    with zmq.Context() as context, context.socket(zmq.XSUB) as client:
        client.linger = 0
        client.connect(f"tcp://{sockets.host}:{sockets.port_out}")
        for frame in (b"\1raw", b"\2raw", b"", b"\xff", b"\0raw"):
            client.send(frame)
        changes: list[Subscription] = []
        while len(changes) < 2:
            sockets.wait(TIMEOUT)
            changes += sockets.subscriptions(64)
        assert changes == [Subscription(b"raw", is_new=True), Subscription(b"raw", is_new=False)]


def test_wake_ends_one_wait(sockets: Sockets) -> None:
    for _ in range(100_000):  # more than the pipe holds
        sockets.wake()
    start = time.monotonic()
    sockets.wait(TIMEOUT)
    assert time.monotonic() - start < TIMEOUT / 2
    # The pipe is read in parts, and then wait() waits.
    while True:
        start = time.monotonic()
        sockets.wait(0.2)
        if time.monotonic() - start > 0.1:
            return
