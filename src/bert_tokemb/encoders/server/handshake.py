"""The first contact with a bert-serving-server, and the settings it must have.

``server_config`` tells everything that can be checked beforehand; see ``get_args_parser`` in
``bert_serving/server/helper.py``, version 1.10.0, for the settings.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ...errors import ServerError
from .address import Address
from .connection import CLIENT_VERSION, BadReplyError, Connection

__all__ = ["check_unchanged", "first_contact", "identity_of", "start_command"]

_log = logging.getLogger(__name__)

_FIRST_CONTACT = 4.0
"""Seconds for each of the two steps of the first contact: is anyone there, is it the server."""

# Settings worth keeping when a server is started again, with the values that go without saying.
_DEFAULTS = {
    "tuned_model_dir": None,
    "ckpt_name": "bert_model.ckpt",
    "config_name": "bert_config.json",
    "pooling_layer": [-2],
    "num_worker": 1,
}
_DEFAULT_MAX_SEQ_LEN = 25
"""For sentence vectors; too short for most sentences whose words are wanted."""

# Settings that decide vectors, tokens, or how batches are padded.
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


def start_command(address: Address, config: Mapping[str, Any] | None = None) -> str:
    """Return the command line that starts a server as it must be started, the original or ours.

    >>> print(start_command(Address()).replace(" -max", "\\n-max"))
    bert-serving-start -model_dir MODEL_DIR -pooling_strategy NONE -show_tokens_to_client
    -max_seq_len NONE -port 5555 -port_out 5556
    >>> settings = {"model_dir": "my model", "pooling_layer": [-1, -2], "cpu": True}
    >>> print(start_command(Address(), settings).replace(" -max", "\\n-max"))
    bert-serving-start -model_dir 'my model' -pooling_strategy NONE -show_tokens_to_client
    -max_seq_len NONE -pooling_layer -1 -2 -cpu -port 5555 -port_out 5556
    """
    config = config or {}
    if "bert_tokemb_model" in config:
        return _our_start_command(address, config)
    program = "bert-tokemb serve" if "bert_tokemb_version" in config else "bert-serving-start"
    length = config.get("max_seq_len")
    command = [*program.split(), "-model_dir", config.get("model_dir") or "MODEL_DIR"]
    command += ["-pooling_strategy", "NONE", "-show_tokens_to_client"]
    command += ["-max_seq_len", length if length and length != _DEFAULT_MAX_SEQ_LEN else "NONE"]
    for name, default in _DEFAULTS.items():
        if (value := config.get(name, default)) != default:
            command += [f"-{name}", *(value if isinstance(value, list) else [value])]
    command += [] if config.get("do_lower_case", True) else ["-cased_tokenization"]
    command += ["-cpu"] if config.get("cpu") else []
    command += ["-port", address.port, "-port_out", address.port_out]
    return shlex.join(map(str, command))


def _our_start_command(address: Address, config: Mapping[str, Any]) -> str:
    command = ["bert-tokemb", "serve", "--model", config["bert_tokemb_model"]]
    layers = config.get("pooling_layer", [-2])
    command += ["--layers", ",".join(map(str, layers))] if layers != [-2] else []
    command += ["--max-seq-len", config["max_seq_len"]] if config.get("max_seq_len") else []
    command += ["--port", address.port, "--port-out", address.port_out]
    return shlex.join(map(str, command))


def first_contact(address: Address) -> tuple[Connection, Mapping[str, Any]]:
    """Return a connection and the settings of a server that was found to be of use.

    Raises:
        ServerError: nobody answers, or the server was not started as it must be.
    """
    try:
        address.probe(_FIRST_CONTACT)
    except (OSError, UnicodeError) as error:
        raise ServerError(
            f"no bert-serving-server at {address.host}, ports {address.port} and "
            f"{address.port_out} ({error}); "
            f"start one with: {start_command(address)}"
        ) from error
    with ExitStack() as closing:
        connection = Connection(address)
        closing.callback(connection.close)
        config = _settings(connection, address)
        _check_settings(address, config)
        closing.pop_all()  # all is well: it stays open
    return connection, config


def _settings(connection: Connection, address: Address) -> Mapping[str, Any]:
    try:
        config = connection.config(_FIRST_CONTACT)
    except BadReplyError as error:
        raise ServerError(
            f"what listens at {address} is no bert-serving-server: it gave {error}"
        ) from error
    if config is None:
        raise ServerError(
            f"something listens at {address.host}, port {address.port}, but no bert-serving-server "
            f"answers from port {address.port_out}: give the ports it was started with as --server "
            "HOST:PORT:PORT_OUT, wait until it logs `all set, ready to serve request!`, restart it "
            f"if its worker has died, or start one with: {start_command(address)}"
        )
    return config


def _check_settings(address: Address, config: Mapping[str, Any]) -> None:
    wrong = []
    if config.get("pooling_strategy") != 0:
        wrong.append("-pooling_strategy NONE")
    if not config.get("show_tokens_to_client"):
        wrong.append("-show_tokens_to_client")
    if wrong:
        raise ServerError(
            f"the server at {address} was started without {' and '.join(wrong)}, so it gives no "
            f"vectors of word pieces; start it with: {start_command(address, config)}"
        )
    if (version := config.get("server_version")) != CLIENT_VERSION:
        _log.warning(
            "the server at %s is version %s and its client here %s; they may not understand "
            "each other",
            address,
            version,
            CLIENT_VERSION,
        )


def identity_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide what a server gives."""
    return {name: config.get(name) for name in _IDENTITY}


def check_unchanged(address: Address, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Raise ServerError unless a server that came back would give what it gave before."""
    changed = [
        f"{name} was {before.get(name)!r} and is {after.get(name)!r}"
        for name in _IDENTITY
        if after.get(name) != before.get(name)
    ]
    if changed:
        raise ServerError(
            f"the server at {address} came back as another one ({'; '.join(changed)}): "
            "run the command again"
        )
