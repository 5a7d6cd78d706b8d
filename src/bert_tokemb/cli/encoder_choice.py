"""A server, or the engine in this process: which one, and why."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BrokenPackageError, MissingPackageError, ServerError, UsageError
from ..extras import importing
from ..signals import hold_signals
from ..types import Encoder

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = ["choose_encoder"]

AnyEncoder: TypeAlias = AbstractContextManager[Encoder[Any]]

_log = logging.getLogger(__name__)

_PATIENCE = 1.0  # seconds; on this machine a port is open or refused at once


def choose_encoder(
    server: Address | None,
    model: str | None,
    *,
    default_server: Address,
    for_server: Mapping[str, Any],
    for_engine: Mapping[str, Any],
    given: Collection[str] = (),
) -> AnyEncoder:
    """Open the encoder that was asked for; with neither asked for, the one that is there.

    That is a server where something listens at the default address, which then must answer as
    one, and else the engine with its default model. Which it is, and why, is logged.

    Args:
        server: Where a server listens.
        model: A directory, or an id on the hub.
        default_server: Where to look for a server that nobody asked for.
        for_server: Arguments of :class:`ServingEncoder`.
        for_engine: Arguments of :func:`bert_tokemb.encoders.local.open_local`.
        given: Which of these arguments the user gave in so many words; of ``server`` and
            ``model`` one that is among them wins over one that is not.

    Raises:
        UsageError: both are asked for, or arguments are given for the other one.
        ServerError: the server does not answer, or not as it must.
        ModelError: the model cannot be used.
        MissingPackageError: the engine is not installed.
    """
    # The command line wins over a variable that it excludes.
    if "model" in given and "server" not in given:
        server = None
    if "server" in given and "model" not in given:
        model = None
    if server and model is not None:
        raise UsageError("--server and --model exclude each other: give one of them")
    if server:
        _refuse(given, for_engine, "they belong to --model; a server is started with its own")
        return _open_server(server, for_server)
    if model is not None:
        _refuse(given, for_server, "they belong to --server")
        return _open_local(model, for_engine)
    if _listens(default_server):
        where = f"a server listens at {default_server.host}:{default_server.port}"
        _refuse(given, for_engine, f"{where}, and is started with its own: give --model to go past")
        _log.warning("%s, and gives the vectors; --model would compute them here", where)
        return _open_default_server(default_server, for_server)
    from ..encoders.server.handshake import start_command

    nobody = f"no server listens at {default_server.host}:{default_server.port}"
    _refuse(given, for_server, f"{nobody}: give --server")
    try:
        encoder = _open_local(None, for_engine)
    except (BrokenPackageError, MissingPackageError) as error:
        where = f"{default_server.host}:{default_server.port}"
        error.alternative = (
            f"start a server (none listens at {where}) with: {start_command(default_server)}"
        )
        raise
    _log.warning("%s: computing in this process with %s", nobody, encoder)
    return encoder


def _refuse(given: Collection[str], belonging: Mapping[str, Any], why: str) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name in belonging if name in given]
    if wrong:
        raise UsageError(f"{' and '.join(wrong)} cannot be given here: {why}")


def _listens(address: Address) -> bool:
    try:
        address.probe(_PATIENCE)
    except OSError:
        return False
    return True


def _open_default_server(address: Address, for_server: Mapping[str, Any]) -> AnyEncoder:
    try:
        return _open_server(address, for_server)
    except ServerError as error:
        raise ServerError(
            f"{error}; or say which is meant: --server HOST:PORT:PORT_OUT, or --model for the "
            "engine in this process"
        ) from error


def _open_server(address: Address, for_server: Mapping[str, Any]) -> AnyEncoder:
    with hold_signals():
        from ..encoders.server.encoder import ServingEncoder  # the engine can start without

    return ServingEncoder(address, **for_server)


def _open_local(model: str | None, for_engine: Mapping[str, Any]) -> AnyEncoder:
    with importing("the local encoder", "local"):
        from ..encoders.local import open_local  # heavy, and perhaps not installed

    return open_local(model, **for_engine)
