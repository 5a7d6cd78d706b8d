"""ZMTP 3.0, the protocol of ZeroMQ's sockets on the wire, without any input or output.

It follows https://rfc.zeromq.org/spec/23/, with the security mechanism ``NULL``. Peers are libzmq
from version 4.0 on, which is every one that bert-serving-client can use, and other implementations
of the same age.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

__all__ = ["GREETING", "Peer", "ProtocolError", "frame_header", "ready"]

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = 3
_MECHANISM = b"NULL".ljust(20, b"\0")

GREETING = _SIGNATURE + bytes([_VERSION, 0]) + _MECHANISM + bytes(32)
"""What both sides send first."""

# Bits in the first byte of a frame.
_MORE, _LONG, _COMMAND = 1, 2, 4

_SHORT_HEADER, _LONG_HEADER = 2, 9  # bytes: flags and a length
_MAX_COMMAND = 1024  # bytes
_MAX_PING = 16  # bytes that a PONG returns


class ProtocolError(Exception):
    """A peer does not speak ZMTP 3, or exceeds a limit. It must be disconnected."""


class Peer:
    """The state of a connection: parses what the peer has sent.

    Args:
        kinds: The accepted types of the peer's socket, such as ``PUSH``.
        max_frames: The most frames of a message.
        max_bytes: The most bytes of a message.
    """

    def __init__(self, kinds: Sequence[bytes], max_frames: int, max_bytes: int) -> None:
        self._kinds = kinds
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._needed = len(GREETING)
        self._greeted = self._is_ready = False
        self._frames: list[bytes] = []
        self.outgoing = bytearray()
        """Bytes to send to the peer, in answer to what it has sent."""

    def receive(self, data: bytes) -> Iterator[list[bytes]]:
        """Yield the messages that are complete with these bytes.

        Raises:
            ProtocolError: if the peer must be disconnected.
        """
        self._buffer += data
        if not self._greeted:
            self._greet()
        while self._greeted and len(self._buffer) >= self._needed:
            flags, start, end = self._header()
            if len(self._buffer) < end:
                self._needed = end
                return
            body = bytes(memoryview(self._buffer)[start:end])
            del self._buffer[:end]
            self._needed = _SHORT_HEADER
            if flags & _COMMAND:
                self._obey(body)
            else:
                self._frames.append(body)
                if not flags & _MORE:
                    message, self._frames = self._frames, []
                    yield message

    def _greet(self) -> None:
        # The signature comes first, so an HTTP client is disconnected at its first byte.
        buffer = self._buffer
        if buffer[0] != _SIGNATURE[0] or buffer[9:10] not in (b"", _SIGNATURE[9:]):
            raise ProtocolError("not a ZeroMQ peer")
        if any(version < _VERSION for version in buffer[10:11]):
            raise ProtocolError(f"ZMTP {buffer[10]} instead of {_VERSION}")
        if len(buffer) >= len(GREETING):
            if buffer[12:32] != _MECHANISM:
                raise ProtocolError("a security mechanism other than NULL")
            del buffer[: len(GREETING)]
            self._needed = _SHORT_HEADER
            self._greeted = True

    def _header(self) -> tuple[int, int, int]:
        """Return the flags of the next frame, and where its body starts and ends."""
        flags = self._buffer[0]
        if flags > (_MORE | _LONG | _COMMAND) or (not self._is_ready and not flags & _COMMAND):
            raise ProtocolError("an invalid frame")
        start = _LONG_HEADER if flags & _LONG else _SHORT_HEADER
        if len(self._buffer) < start:
            return flags, start, start
        size = int.from_bytes(self._buffer[1:start], "big")
        if flags & _COMMAND:
            is_too_large = size > _MAX_COMMAND
        else:
            is_too_large = sum(map(len, self._frames)) + size > self._max_bytes
        if is_too_large or len(self._frames) >= self._max_frames:
            raise ProtocolError(f"a message of too many frames or bytes: {size} in the last frame")
        return flags, start, start + size

    def _obey(self, command: bytes) -> None:
        end = 1 + command[0] if command else 0
        name, body = command[1:end], command[end:]
        if name == b"READY":
            kind = dict(_metadata(body)).get(b"socket-type", b"")
            if kind not in self._kinds:
                raise ProtocolError(f"a socket of type {kind!r:.20}")
            self._is_ready = True
        elif name == b"PING":
            # Two bytes say how long the peer waits; the rest is to be returned.
            self.outgoing += _command(b"PONG", body[2 : 2 + _MAX_PING])
        elif name == b"ERROR" or not self._is_ready:
            raise ProtocolError("the handshake failed")


def ready(kind: bytes) -> bytes:
    """Return the command that ends the handshake, to be sent right after the greeting.

    >>> ready(b"PUB")
    b'\\x04\\x19\\x05READY\\x0bSocket-Type\\x00\\x00\\x00\\x03PUB'
    """
    return _command(b"READY", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)


def frame_header(size: int, *, more: bool) -> bytes:
    """Return what precedes a frame of a message.

    >>> frame_header(3, more=True), frame_header(256, more=False)
    (b'\\x01\\x03', b'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x01\\x00')
    """
    if size < 256:
        return bytes([_MORE * more, size])
    return bytes([_MORE * more | _LONG]) + size.to_bytes(8, "big")


def _command(name: bytes, body: bytes) -> bytes:
    content = bytes([len(name)]) + name + body
    return bytes([_COMMAND, len(content)]) + content


def _metadata(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield names, in lower case, and values of the properties in a command."""
    while body:
        end = 1 + body[0]
        name, size = body[1:end], int.from_bytes(body[end : end + 4], "big")
        yield name.lower(), body[end + 4 : end + 4 + size]
        body = body[end + 4 + size :]
