"""Which encoder a command uses: a server, or the local one in this process."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import BrokenPackageError, MissingPackageError, ServerError, UsageError
from ..extras import importing
from ..signals import hold_signals
from ..types import Encoder
from .advice import with_advice
from .start_command import start_command

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = ["ENCODER_OPTIONS", "choose_encoder"]

AnyEncoder: TypeAlias = AbstractContextManager[Encoder[Any]]

_LOCAL_OPTIONS = ("layers", "max_seq_len", "cased", "device", "precision", "threads")
_SERVER_OPTIONS = ("timeout", "retries")
_COMMON_OPTIONS = ("long_sentences",)

ENCODER_OPTIONS = {
    *("server", "default_server", "model", "layer_pooling"),
    *_LOCAL_OPTIONS,
    *_SERVER_OPTIONS,
}
"""The options that only :func:`choose_encoder` uses."""

_PROBE_TIMEOUT = 1.0  # seconds; on this machine a connection is accepted or refused at once

_log = logging.getLogger(__name__)


def choose_encoder(options: Mapping[str, Any], given: Collection[str]) -> AnyEncoder:
    """Open the encoder that the user asked for, or else the one that is available.

    If the user asked for none, this is the server at the default address, if anything listens
    there, or else the local encoder with the default model. The choice is logged.

    Args:
        options: ``server``, ``default_server``, ``model``, and options of the encoders.
        given: The options that were given on the command line. Of ``server`` and ``model``, one
            that was given wins over one that was set by an environment variable.

    Raises:
        UsageError: if both are given, or options of the encoder that is not used.
        ServerError: if the server does not answer, or has unsuitable settings.
        ModelError: if the model cannot be used.
        MissingPackageError: if the packages of the local encoder are not installed.
    """
    server: Address | None = options["server"]
    model: str | None = options["model"]
    if "model" in given and "server" not in given:
        server = None
    if "server" in given and "model" not in given:
        model = None
    if server and model:
        raise UsageError("--server and --model exclude each other: give one of them")
    if server:
        _refuse(
            given,
            _LOCAL_OPTIONS,
            "with --server, which has its own settings: give --model to compute in this process",
        )
        return _open_server(server, options)
    if model:
        _refuse(given, _SERVER_OPTIONS, "with --model: they apply to --server")
        return _open_local(model, options)
    return _open_default(options["default_server"], options, given)


def _open_default(
    server: Address, options: Mapping[str, Any], given: Collection[str]
) -> AnyEncoder:
    where = f"{server.host}:{server.port}"
    if server.listens(_PROBE_TIMEOUT):
        _refuse(
            given,
            _LOCAL_OPTIONS,
            f"with the server at {where}, which has its own settings: give --model to compute in "
            "this process",
        )
        _log.warning("using the server at %s; give --model to compute in this process", where)
        try:
            return _open_server(server, options)
        except ServerError as error:
            raise ServerError(
                f"{with_advice(error)}; or choose another encoder: give --server "
                "HOST:PORT:PORT_OUT, or --model to compute in this process"
            ) from error
    _refuse(given, _SERVER_OPTIONS, f"because no server listens at {where}: give --server")
    try:
        encoder = _open_local(None, options)
    except (BrokenPackageError, MissingPackageError) as error:
        error.alternative = f"start a server (none listens at {where}): {start_command(server)}"
        raise
    _log.warning("no server listens at %s: computing in this process with %s", where, encoder)
    return encoder


def _refuse(given: Collection[str], names: Sequence[str], why: str) -> None:
    if wrong := [f"--{name.replace('_', '-')}" for name in names if name in given]:
        raise UsageError(f"{' and '.join(wrong)} cannot be used {why}")


def _open_server(address: Address, options: Mapping[str, Any]) -> AnyEncoder:
    with hold_signals():
        from ..encoders.server.encoder import ServerEncoder

    if (pooling := options.get("layer_pooling", "concat")) in ("mean", "sum"):
        raise UsageError(
            f"--layer-pooling {pooling} cannot be used with a server, which puts its layers side "
            "by side: give --model to compute in this process"
        )
    return ServerEncoder(address, **_some(options, _SERVER_OPTIONS))


def _open_local(model: str | None, options: Mapping[str, Any]) -> AnyEncoder:
    with importing("the local encoder", "local"):
        from ..encoders.local import open_local

    # Layers that are written separately are side by side until then.
    pooling = options.get("layer_pooling", "concat")
    return open_local(
        model,
        layer_pooling="concat" if pooling == "stack" else pooling,
        **_some(options, _LOCAL_OPTIONS),
    )


def _some(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in (*names, *_COMMON_OPTIONS) if name in options}
