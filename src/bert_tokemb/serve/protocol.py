"""The frames of bert-as-service: what clients may send, and what they get.

Facts are from ``bert_serving/client/__init__.py`` and ``bert_serving/server/__init__.py``,
version 1.10.0. A request is four frames: who asks, a command or sentences as JSON, the request's
number, and how many sentences there are. Clients subscribe to their own name, and get four
frames: it, what the data is as JSON, the data, and the request's number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Command",
    "MalformedError",
    "Request",
    "Sender",
    "Text",
    "data_info",
    "error_info",
    "json_info",
    "parse",
]

Text = str | list[str]
"""A sentence, or the pieces of one."""

_COMMANDS = (b"SHOW_CONFIG", b"SHOW_STATUS", b"TERMINATION")
_FRAMES = 4
_LONGEST_NAME = 255  # bytes; a client's own is 36 long
_MOST_DIGITS = 18
_MOST_SENTENCES = 1 << 20


class MalformedError(Exception):
    """What came is no request."""

    def __init__(self, reason: str, sender: Sender | None = None) -> None:
        super().__init__(reason)
        self.sender = sender
        """Who is to be told so, where that can be read."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Where a reply goes."""

    client: bytes
    number: bytes
    """The client's own number of the request, in digits."""

    def __str__(self) -> str:
        return f"{self.client.decode('ascii', 'backslashreplace')}#{self.number.decode('ascii')}"


@dataclass(frozen=True, slots=True)
class Command:
    """A question about the server, or ``TERMINATION``."""

    sender: Sender
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """Sentences to encode."""

    sender: Sender
    texts: Sequence[Text]
    """At least one; either all are strings or all are lists."""
    size: int
    """Bytes, as it came."""

    @property
    def is_tokenized(self) -> bool:
        """Whether the client has split the sentences into pieces."""
        return isinstance(self.texts[0], list)


def parse(frames: Sequence[bytes], most: int) -> Command | Request:
    """Read a message.

    Args:
        frames: As they came.
        most: Bytes that one frame may have.

    Raises:
        MalformedError: it is no request.
    """
    if len(frames) != _FRAMES:
        raise MalformedError(f"{len(frames)} frames, not {_FRAMES}")
    client, message, number, count = frames
    if not 0 < len(client) <= _LONGEST_NAME:
        raise MalformedError(f"a client's name of {len(client)} bytes")
    if not _is_number(number):
        raise MalformedError("a request's number that is none")
    sender = Sender(client, number)
    if not _is_number(count):
        raise MalformedError("a number of sentences that is none", sender)
    if message in _COMMANDS:
        return Command(sender, message.decode("ascii"))
    if len(message) > most:
        raise MalformedError(f"a frame of {len(message)} bytes, more than {most}", sender)
    return Request(sender, _texts(message, int(count), sender), len(message))


def json_info(told: Mapping[str, Any]) -> bytes:
    """Return the info frame of a reply that is nothing else."""
    return json.dumps(told).encode()


def error_info(message: str) -> bytes:
    """Return the info frame that tells of an error; the client's parsing fails on it at once."""
    return json_info({"error": message})


def data_info(dtype: str, shape: Sequence[int], tokens: Sequence[Sequence[str]] | None) -> bytes:
    """Return the info frame of an array, with the pieces of each sentence or without."""
    return json_info({"dtype": dtype, "shape": shape, "tokens": "" if tokens is None else tokens})


def _is_number(frame: bytes) -> bool:
    return frame.isdigit() and len(frame) <= _MOST_DIGITS


def _texts(message: bytes, count: int, sender: Sender) -> list[Text]:
    try:
        texts = json.loads(message)
    # A frame of brackets only makes the parser recurse.
    except (ValueError, RecursionError, MemoryError) as error:
        raise MalformedError(f"no JSON ({error})", sender) from error
    if not isinstance(texts, list) or not texts:
        raise MalformedError("no list of sentences", sender)
    if not (_all(texts, str) or (_all(texts, list) and all(_all(text, str) for text in texts))):
        raise MalformedError("sentences that are neither all text nor all lists of text", sender)
    if len(texts) > _MOST_SENTENCES:
        raise MalformedError(f"{len(texts)} sentences, more than {_MOST_SENTENCES}", sender)
    if len(texts) != count:
        raise MalformedError(f"{len(texts)} sentences, said to be {count}", sender)
    return texts


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
