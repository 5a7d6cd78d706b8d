"""The connection to a server, and the first contact with one."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import socket
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import zmq
from bert_serving.client import BertClient

from bert_tokemb import Address, ServerEncoder
from bert_tokemb.encoders.server.connection import BadReplyError, Connection, Reply
from bert_tokemb.encoders.server.handshake import open_connection
from bert_tokemb.errors import (
    PARSER_ERRORS,
    ServerSettingsError,
    ServerUnreachableError,
)
from support.genuine import free_address
from support.standin import Frames, StandIn, Text

# --- The exceptions of the client -------------------------------------------------------------

ODD_VALUES: list[Any] = [None, True, -1, 1.5, 1 << 70, "", "x", [], [[]], {}, "\ud800"]
ODD_FIELDS: dict[str, list[Any]] = {
    "dtype": [
        *ODD_VALUES,
        "object",
        "S0",
        "int32",
        "float32,float32",
        "datetime64",
        "no-such-type",
    ],
    "shape": [*ODD_VALUES, [1], [-1], [1, -1, -1], [0, 1, 1], [1 << 40, 1 << 40], ["1"]],
    "tokens": [*ODD_VALUES, ["."], [[None]], [["[CLS]"], 1]],
}
ODD_HEADERS = [
    *(b"", b"\xff{", b"[" * 100_000, b"{", b'{"dtype": NaN}', b"\0"),
    *(json.dumps(value).encode() for value in ODD_VALUES),
]


def damaged_replies(client: bytes, number: bytes) -> Iterator[Frames]:
    """Yield replies in which a frame is damaged, missing or superfluous."""
    header = {"dtype": "float32", "shape": [1, 3, 2], "tokens": [["[CLS]", ".", "[SEP]"]]}
    good, vectors = json.dumps(header).encode(), bytes(24)
    for name, values in ODD_FIELDS.items():
        missing = {other: value for other, value in header.items() if other != name}
        yield [client, json.dumps(missing).encode(), vectors, number]
        for value in values:
            yield [client, json.dumps(header | {name: value}).encode(), vectors, number]
    for odd, data in product(ODD_HEADERS, (b"", b"abc", vectors)):
        yield [client, odd, data, number]
    for data in (b"", b"abc", bytes(4), bytes(23), bytes(1000)):
        yield [client, good, data, number]
    for odd in (b"", b"x", b"-1", b"1.5", b"\xff", b"9" * 30, b"9" * 5000, b"0"):
        yield [client, good, vectors, odd]
    for n in range(1, 6):
        yield [client, good, vectors, number, b"5", b"6"][:n]
        yield [client, *[b""] * n]


def test_damaged_replies_raise_no_other_error() -> None:
    """Each damaged reply is followed by a good one, and one of them is received."""

    def damage(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames]:
        client, _, number, _ = frames
        damaged = list(damaged_replies(client, number))[len(server.requests) - 1]
        return [damaged, server.reply(client, number, texts)]

    refused = 0
    with StandIn(fault=damage) as server:
        connection = connect(server)
        for _ in damaged_replies(b"", b""):
            connection.send(["."])
            try:
                assert isinstance(connection.receive(60), Reply)
            except BadReplyError:
                refused += 1
        connection.close()
    assert refused > 80


def test_exceptions_of_the_client_are_translated() -> None:
    """Every exception that its source raises by name is one that damaged replies may raise."""
    known = {kind.__name__ for kind in PARSER_ERRORS} | {"TimeoutError"}
    raised = {
        node.exc.func.id
        for node in ast.walk(ast.parse(inspect.getsource(BertClient)))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }
    assert {"AttributeError", "TypeError", "ValueError"} <= raised <= known
    assert not issubclass(zmq.ZMQError, OSError)  # none but Again is expected, at a time-out


def connect(server: StandIn, **options: float) -> Connection:
    connection = Connection(server.address, **options)
    assert connection.config(60) == server.config
    return connection


@pytest.mark.parametrize("pending", [False, True])
def test_late_settings_are_not_taken_for_a_reply(pending: bool) -> None:
    """The request for the settings was repeated, and the first answers arrive last."""
    questions: list[Frames] = []

    def late(server: StandIn, frames: Frames) -> list[Frames]:
        questions.append(frames)
        if len(questions) < 3:
            return []
        return [server.answer_config(question)[0] for question in reversed(questions)]

    with StandIn(config_fault=late) as server:
        connection = connect(server, config_interval=0.05)
        if not pending:
            assert connection.receive(0.2) is None
        number = connection.send(["."])
        reply = connection.receive(60)
        assert reply is not None
        assert (reply.number, reply.pieces) == (number, [["[CLS]", ".", "[SEP]"]])
        connection.close()


def test_settings_are_requested_until_the_timeout() -> None:
    with StandIn(config_fault=lambda server, frames: []) as server:
        connection = Connection(server.address, config_interval=0.05)
        assert connection.config(0.3) is None
        connection.close()


def test_vectors_are_read_only_views_of_the_reply() -> None:
    with StandIn() as server:
        connection = connect(server)
        connection.send(["hello", "a b"])
        reply = connection.receive(60)
        assert reply is not None
        np.testing.assert_array_equal(reply.vectors, server.model(["hello", "a b"])[1])
        assert not reply.vectors.flags.writeable
        assert connection.receive(0.0) is None
        connection.close()


# --- First contact ----------------------------------------------------------------------------


def test_closed_port_is_reported() -> None:
    address = free_address()
    with pytest.raises(ServerUnreachableError) as caught:
        ServerEncoder(address)
    assert str(caught.value) == (
        f"no bert-serving-server at 127.0.0.1, ports {address.port} and {address.port_out} "
        "(Connection refused)"
    )
    assert (caught.value.address, caught.value.problem) == (address, "no connection")
    assert not address.listens(1.0)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300, ".."])
def test_unknown_host_is_reported(host: str) -> None:
    with pytest.raises(ServerUnreachableError, match=r"no bert-serving-server at .* \(.+\)$"):
        ServerEncoder(Address(host))


def test_port_of_another_program_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1], free_address().port_out)
        assert address.listens(1.0)
        with pytest.raises(ServerUnreachableError) as caught:
            open_connection(address, timeout=0.3)
    assert str(caught.value) == (
        f"something listens at 127.0.0.1, port {address.port}, but no bert-serving-server answers "
        f"from port {address.port_out}"
    )


def test_swapped_ports_are_reported() -> None:
    """A publishing port closes the connections of senders, who could block forever."""
    with StandIn() as server:
        address = Address("127.0.0.1", server.address.port_out, server.address.port)
        with pytest.raises(ServerUnreachableError) as caught:
            open_connection(address, timeout=0.3)
        connection = Connection(address, config_interval=0.05)
        assert connection.config(1.0) is None
        connection.close()
    assert caught.value.problem == "no answer"


@pytest.mark.parametrize("answer", [b"", b"\xff", b"{", b"[]", b"1", b"null", b'"x"', b"[" * 10**5])
def test_settings_of_another_program_are_refused(answer: bytes) -> None:
    with StandIn(config_fault=lambda server, frames: [[frames[0], answer, frames[2]]]) as server:
        with pytest.raises(ServerUnreachableError, match="is not a bert-serving-server: it sent ."):
            ServerEncoder(server.address)


@pytest.mark.parametrize(
    ("config", "missing"),
    [
        ({"pooling_strategy": 2}, ["-pooling_strategy NONE"]),
        ({"show_tokens_to_client": False}, ["-show_tokens_to_client"]),
        (
            {"pooling_strategy": 2, "show_tokens_to_client": False},
            ["-pooling_strategy NONE", "-show_tokens_to_client"],
        ),
    ],
)
def test_settings_without_piece_vectors_are_refused(
    config: dict[str, Any], missing: list[str]
) -> None:
    with StandIn(config=config) as server:
        with pytest.raises(ServerSettingsError) as caught:
            ServerEncoder(server.address)
    assert caught.value.missing == missing
    assert caught.value.config == server.config
    assert f"was started without {' and '.join(missing)}, so it does not" in str(caught.value)


def test_other_version_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with StandIn(config={"server_version": "1.9.9"}) as server:
        with caplog.at_level(logging.WARNING), ServerEncoder(server.address):
            pass
    assert f"server at {server.address} has version 1.9.9, but the client here has" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout must be a positive number of seconds, not 0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"timeout": float("inf")}, "timeout must be"),
        ({"retries": -1}, "retries must not be negative, not -1"),
    ],
)
def test_invalid_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ServerEncoder(Address("127.0.0.1"), **options)


@pytest.mark.parametrize(
    "config",
    [{"max_seq_len": "x"}, {"max_seq_len": 2}, {"max_batch_size": [1]}, {"num_worker": "x"}],
)
def test_settings_that_are_not_numbers_are_refused(config: dict[str, Any]) -> None:
    with (
        StandIn(config=config) as server,
        pytest.raises(
            ServerUnreachableError, match=r"is not a bert-serving-server: it sent [a-z_]+"
        ),
    ):
        open_connection(server.address)
