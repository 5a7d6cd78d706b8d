"""Parsing the messages of clients."""

from __future__ import annotations

import pytest

from bert_tokemb.serve.protocol import Command, MalformedError, Request, Sender, parse

MAX_BYTES = 1 << 24

MALFORMED: dict[str, tuple[tuple[bytes, ...], str]] = {
    "one frame": ((b"x",), "1 frames"),
    "three frames": ((b"raw", b'["a"]', b"1"), "3 frames"),
    "five frames": ((b"raw", b'["a"]', b"1", b"1", b""), "5 frames"),
    "empty name": ((b"", b'["a"]', b"1", b"1"), "name of 0 bytes"),
    "long name": ((b"raw" * 100, b'["a"]', b"1", b"1"), "name of 300 bytes"),
    "text as number": ((b"raw", b'["a"]', b"x", b"1"), "request number"),
    "huge number": ((b"raw", b'["a"]', b"9" * 5000, b"1"), "request number"),
    "negative count": ((b"raw", b'["a"]', b"7", b"-1"), "number of sentences"),
    "text as count": ((b"raw", b'["a"]', b"7", b"x"), "number of sentences"),
    "wrong count": ((b"raw", b'["a"]', b"7", b"2"), "1 sentences, announced as 2"),
    "truncated JSON": ((b"raw", b"[", b"7", b"1"), "invalid JSON"),
    "nested brackets": ((b"raw", b"[" * 100_000, b"7", b"1"), "invalid JSON"),
    "binary data": ((b"raw", bytes(range(256)) * 100, b"7", b"1"), "invalid JSON"),
    "empty frame": ((b"raw", b"", b"7", b"1"), "invalid JSON"),
    "object": ((b"raw", b'{"a": 1}', b"7", b"1"), "a list of sentences"),
    "null": ((b"raw", b"null", b"7", b"1"), "a list of sentences"),
    "empty list": ((b"raw", b"[]", b"7", b"0"), "a list of sentences"),
    "numbers": ((b"raw", b"[1, 2]", b"7", b"2"), "not all strings"),
    "strings and lists": ((b"raw", b'["a", ["b"]]', b"7", b"2"), "not all strings"),
    "lists of numbers": ((b"raw", b"[[1], [2]]", b"7", b"2"), "not all strings"),
    "list of null": ((b"raw", b"[[null]]", b"7", b"1"), "not all strings"),
    "huge frame": ((b"raw", b'["a"]' + b" " * MAX_BYTES, b"7", b"1"), "16777221 bytes, more than"),
    "too many sentences": (
        (b"raw", b"[" + b'"",' * (1 << 20) + b'""]', b"7", b"%d" % ((1 << 20) + 1)),
        "1048577 sentences, more than 1048576",
    ),
    "too many lists": (
        (b"raw", b"[" + b"[]," * (1 << 20) + b"[]]", b"7", b"%d" % (1 << 20)),
        "more than 1048576 closing brackets",
    ),
    "lower-case command": ((b"raw", b"show_config", b"7", b"1"), "invalid JSON"),
}


@pytest.mark.parametrize(("frames", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_parse_refuses_malformed_messages(frames: tuple[bytes, ...], reason: str) -> None:
    with pytest.raises(MalformedError, match=reason) as caught:
        parse(frames, MAX_BYTES)
    is_addressed = len(frames) == 4 and frames[0] == b"raw" and frames[2] == b"7"
    assert caught.value.sender == (Sender(b"raw", b"7") if is_addressed else None)


@pytest.mark.parametrize("name", ["SHOW_CONFIG", "SHOW_STATUS", "TERMINATION"])
def test_parse_returns_commands(name: str) -> None:
    message = parse([b"\xff", name.encode(), b"7", b"0"], 5)
    assert message == Command(Sender(b"\xff", b"7"), name)
    assert str(message.sender) == "\\xff#7"


def test_parse_returns_requests() -> None:
    sender = Sender(b"raw", b"1")
    assert parse([b"raw", b'["a", "b"]', b"1", b"2"], 10) == Request(sender, ["a", "b"], 10)
    assert parse([b"raw", b'[[], ["b"]]', b"1", b"2"], 11) == Request(sender, [[], ["b"]], 11)
