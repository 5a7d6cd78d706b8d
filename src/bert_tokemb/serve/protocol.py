"""The messages of bert-as-service: requests, commands and replies.

A request has four frames: the client's name, a command or sentences as JSON, the request's number
and the number of sentences. A client subscribes to its own name and receives replies of four
frames: its name, a JSON object that describes the data, the data, and the request's number.

The reference is ``bert_serving/client/__init__.py`` and ``bert_serving/server/__init__.py`` of
version 1.10.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "PROTOCOL_VERSION",
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

PROTOCOL_VERSION = "1.10.0"
"""The version that is sent to clients; they refuse every other one."""

Text = str | list[str]
"""A sentence, or the pieces of a sentence."""

_COMMANDS = (b"SHOW_CONFIG", b"SHOW_STATUS", b"TERMINATION")
_FRAMES = 4
_MAX_NAME = 255  # bytes; the names that clients choose have 36
_MAX_DIGITS = 18
_MAX_SENTENCES = 1 << 20


class MalformedError(Exception):
    """A message is not a valid request."""

    def __init__(self, reason: str, sender: Sender | None = None) -> None:
        super().__init__(reason)
        self.sender = sender
        """Where to send the error, if the message says so."""


@dataclass(frozen=True, slots=True)
class Sender:
    """The client and the number of a request, to which the reply is addressed."""

    client: bytes
    number: bytes
    """Decimal digits."""

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
    """Bytes of the JSON."""


def parse(frames: Sequence[bytes], max_bytes: int) -> Command | Request:
    """Parse a message.

    Args:
        frames: The frames of the message.
        max_bytes: The largest accepted frame.

    Raises:
        MalformedError: if the message is not a valid request.
    """
    if len(frames) != _FRAMES:
        raise MalformedError(f"{len(frames)} frames instead of {_FRAMES}")
    client, message, number, count = frames
    if not 0 < len(client) <= _MAX_NAME:
        raise MalformedError(f"a client name of {len(client)} bytes")
    if not _is_number(number):
        raise MalformedError("an invalid request number")
    sender = Sender(client, number)
    if not _is_number(count):
        raise MalformedError("an invalid number of sentences", sender)
    if message in _COMMANDS:
        return Command(sender, message.decode("ascii"))
    if len(message) > max_bytes:
        raise MalformedError(f"a frame of {len(message)} bytes, more than {max_bytes}", sender)
    return Request(sender, _parse_texts(message, int(count), sender), len(message))


def json_info(values: Mapping[str, Any]) -> bytes:
    """Return the info frame of a reply without data."""
    return json.dumps(values).encode()


def error_info(message: str) -> bytes:
    """Return the info frame of an error, on which the client raises ``KeyError``."""
    return json_info({"error": message})


def data_info(dtype: str, shape: Sequence[int], tokens: Sequence[Sequence[str]] | None) -> bytes:
    """Return the info frame of an array, with the pieces of each sentence unless they are None."""
    return json_info({"dtype": dtype, "shape": shape, "tokens": "" if tokens is None else tokens})


def _is_number(frame: bytes) -> bool:
    return frame.isdigit() and len(frame) <= _MAX_DIGITS


def _parse_texts(message: bytes, count: int, sender: Sender) -> list[Text]:
    if count > _MAX_SENTENCES:
        raise MalformedError(f"{count} sentences, more than {_MAX_SENTENCES}", sender)
    # Before parsing, because 20 million empty lists take half a minute and gigabytes.
    if message.count(b"]") + message.count(b"}") > _MAX_SENTENCES + 1:
        raise MalformedError(f"more than {_MAX_SENTENCES} closing brackets", sender)
    try:
        texts = json.loads(message)
    # RecursionError: a frame of nothing but brackets
    except (ValueError, RecursionError, MemoryError) as error:
        raise MalformedError(f"invalid JSON ({error})", sender) from error
    if not isinstance(texts, list) or not texts:
        raise MalformedError("something other than a list of sentences", sender)
    if not (_all(texts, str) or (_all(texts, list) and all(_all(text, str) for text in texts))):
        raise MalformedError("sentences that are not all strings or all lists of strings", sender)
    if len(texts) != count:
        raise MalformedError(f"{len(texts)} sentences, announced as {count}", sender)
    return texts


def _all(values: list[Any], kind: type) -> bool:
    return all(isinstance(value, kind) for value in values)
