"""The protocol of ZeroMQ: what a peer sends, in parts and in error."""

from __future__ import annotations

import pytest

from bert_tokemb.serve.zmtp import GREETING, Peer, ProtocolError, frame_header, ready


def message(*frames: bytes) -> bytes:
    *others, last = frames
    headers = [frame_header(len(frame), more=True) + frame for frame in others]
    return b"".join([*headers, frame_header(len(last), more=False), last])


@pytest.fixture
def peer() -> Peer:
    return Peer([b"PUSH"], max_frames=3, max_bytes=1000)


def connected(peer: Peer) -> Peer:
    assert list(peer.receive(GREETING + ready(b"PUSH"))) == []
    return peer


def test_messages_are_complete_whatever_the_parts(peer: Peer) -> None:
    sent = [[b"a"], [b"", b"x" * 300, b"y" * 255], [b""]]
    data = GREETING + ready(b"PUSH") + b"".join(message(*frames) for frames in sent)
    received = [frames for i in range(len(data)) for frames in peer.receive(data[i : i + 1])]
    assert received == sent
    assert list(peer.receive(message(b"b") + message(b"c"))) == [[b"b"], [b"c"]]


def test_ping_is_answered(peer: Peer) -> None:
    list(connected(peer).receive(b"\x04\x0a\4PING\0\1abc"))
    assert peer.outgoing == b"\x04\x08\4PONGabc"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1", "not a ZeroMQ peer"),
        (b"\xff" + bytes(8) + b"\1", "not a ZeroMQ peer"),
        (GREETING[:10] + b"\1", "ZMTP 1 instead of 3"),
        (GREETING.replace(b"NULL\0", b"CURVE"), "a security mechanism other than NULL"),
        (GREETING + ready(b"SUB"), "a socket of type b'SUB'"),
        (GREETING + message(b"a"), "an invalid frame"),
        (GREETING + ready(b"PUSH") + b"\x08\0", "an invalid frame"),
        (GREETING + b"\x04\x0d\5ERROR\6reason", "the handshake failed"),
        (GREETING + b"\x04\0", "the handshake failed"),
        (GREETING + b"\x06" + (1025).to_bytes(8, "big"), "too many frames or bytes"),
    ],
)
def test_foreign_peer_is_refused(data: bytes, reason: str, peer: Peer) -> None:
    with pytest.raises(ProtocolError, match=reason):
        list(peer.receive(data))


@pytest.mark.parametrize(
    "frames", [[b"x" * 1001], [b"x" * 500, b"x" * 501], [b"a", b"b", b"c", b"d"]]
)
def test_message_beyond_the_limits_is_refused(frames: list[bytes], peer: Peer) -> None:
    connected(peer)
    with pytest.raises(ProtocolError, match="too many frames or bytes"):
        list(peer.receive(message(*frames)))


def test_refusal_does_not_wait_for_the_body(peer: Peer) -> None:
    connected(peer)
    with pytest.raises(ProtocolError):
        list(peer.receive(frame_header(1001, more=True)))
