"""Opening a connection to a server, and checking the server's settings.

``server_config`` contains everything that can be checked before the first request. See
``get_args_parser`` in ``bert_serving/server/helper.py`` for the meaning of the settings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ...errors import ServerChangedError, ServerSettingsError, ServerUnreachableError, reason
from .address import Address
from .connection import CLIENT_VERSION, BadReplyError, Connection

__all__ = ["check_unchanged", "identity", "open_connection"]

_log = logging.getLogger(__name__)

# Settings that determine vectors, pieces, or how batches are padded.
_IDENTITY = (
    "model_dir",
    "tuned_model_dir",
    "ckpt_name",
    "config_name",
    "pooling_layer",
    "pooling_strategy",
    "max_seq_len",
    "max_batch_size",
    "fixed_embed_length",
    "do_lower_case",
    "mask_cls_sep",
    "no_position_embeddings",
    "show_tokens_to_client",
    "fp16",
)

# Settings that are used as numbers, and their least values.
_NUMBERS = {"max_seq_len": 3, "max_batch_size": 1, "num_worker": 1}


def open_connection(
    address: Address, *, timeout: float = 4.0
) -> tuple[Connection, Mapping[str, Any]]:
    """Connect to a server, check its settings and return both.

    Args:
        address: The address of the server.
        timeout: Seconds to wait for a TCP connection, and again for the settings.

    Raises:
        ServerUnreachableError: if no server answers.
        ServerSettingsError: if the server does not return the vectors of pieces.
    """
    try:
        address.probe(timeout)
    except OSError as error:
        raise ServerUnreachableError(address, "no connection", reason(error)) from error
    with ExitStack() as on_error:
        connection = Connection(address)
        on_error.callback(connection.close)
        config = _read_config(connection, address, timeout)
        _check_config(address, config)
        on_error.pop_all()
    return connection, config


def _read_config(connection: Connection, address: Address, timeout: float) -> Mapping[str, Any]:
    try:
        config = connection.config(timeout)
    except BadReplyError as error:
        raise ServerUnreachableError(address, "not a server", str(error)) from error
    if config is None:
        raise ServerUnreachableError(address, "no answer")
    for name, least in _NUMBERS.items():
        value = config.get(name)
        if not (value is None or (isinstance(value, int) and value >= least)):
            raise ServerUnreachableError(address, "not a server", f"{name} {value!r:.40}")
    return config


def _check_config(address: Address, config: Mapping[str, Any]) -> None:
    missing = []
    if config.get("pooling_strategy") != 0:
        missing.append("-pooling_strategy NONE")
    if not config.get("show_tokens_to_client"):
        missing.append("-show_tokens_to_client")
    if missing:
        raise ServerSettingsError(address, missing, config)
    if (version := config.get("server_version")) != CLIENT_VERSION:
        _log.warning(
            "the server at %s has version %s, but the client here has version %s; they may be "
            "incompatible",
            address,
            version,
            CLIENT_VERSION,
        )


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that determine what a server returns."""
    return {name: config.get(name) for name in _IDENTITY}


def check_unchanged(address: Address, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Check that a server that was restarted returns the same as before.

    Raises:
        ServerChangedError: if one of its settings differs.
    """
    old, new = identity(before), identity(after)
    if changes := {name: (old[name], new[name]) for name in _IDENTITY if old[name] != new[name]}:
        raise ServerChangedError(address, changes)
