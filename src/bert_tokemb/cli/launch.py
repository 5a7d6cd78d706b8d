"""From the options of ``bert-tokemb serve`` to a running server."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..errors import ModelError, UsageError
from ..models.engine import Device, Engine
from ..models.loading import Model, load_model, load_release
from ..serve.pooling import Pooling
from ..serve.server import Server, wordpiece_tokenizer
from ..serve.settings import Settings
from ..serve.sockets import Sockets
from ..signals import call_on_signals
from .console import PROGRAM
from .json_log import json_log
from .original_flags import notes, with_defaults
from .ready_file import announced, check_ready_file

__all__ = ["launch", "resolve_host"]

_log = logging.getLogger(__name__)

_CHECKPOINT_FLAGS = ("ckpt_name", "config_name", "tuned_model_dir")
# The flags that determine replies, apart from those of the engine.
_SETTINGS = (
    "max_seq_len",
    "max_batch_size",
    "show_tokens_to_client",
    "mask_cls_sep",
    "no_special_token",
    "fixed_embed_length",
)


def launch(options: Mapping[str, Any], original: Mapping[str, Any] | None) -> None:
    """Serve until a signal arrives or a client shuts the server down.

    Args:
        options: The options of ``bert-tokemb serve``, by name.
        original: The flags of ``bert-serving-start`` given instead of ``--model``, by name.

    Raises:
        TokembError: if the model cannot be used, a port cannot be bound, or the like.
    """
    if options["ready_file"] is not None:
        check_ready_file(options["ready_file"])
    verbose = options["verbose"] or bool(original and original.get("verbose"))
    with json_log(sys.stderr, logging.INFO if verbose else logging.WARNING):
        host = resolve_host(options["host"])
        # From here on, both ways to start a server are described by the flags of the original.
        if original is None:
            model, flags = _load(options)
        else:
            model, flags = _load_original(original)
        engine = _start_engine(model, flags, options)
        with Sockets(host, flags["port"], flags["port_out"]) as sockets:
            server = Server(
                sockets,
                engine,
                _settings(flags, None if original else model.name),
                version=version(PROGRAM),
                allow_shutdown=options["allow_shutdown"],
            )
            with call_on_signals(server.stop):
                server.start()
                address = f"{sockets.host}:{sockets.port}:{sockets.port_out}"
                with announced(address, options["ready_file"]):
                    server.run()
                server.finish()


def _load(options: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Load the model of ``--model``, and express the options as flags."""
    model = load_model(options["model"], cased=options["cased"])
    return model, with_defaults(
        {
            "model_dir": model.name,
            "pooling_layer": options["layers"],
            "pooling_strategy": options["pooling_strategy"],
            "max_seq_len": options["max_seq_len"],
            "show_tokens_to_client": True,
            "do_lower_case": wordpiece_tokenizer(model).vocabulary.do_lower_case,
            "port": options["port"],
            "port_out": options["port_out"],
            "verbose": options["verbose"],
        }
    )


def _load_original(original: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Load the model of ``-model_dir`` as the original does, and complete the flags."""
    flags = with_defaults(original)
    for note in notes(original):
        _log.warning(note)
    directory = Path(flags["model_dir"])
    if not directory.is_dir():
        raise ModelError(f"-model_dir {flags['model_dir']} is not a directory")
    cased = not flags["do_lower_case"]
    if not (directory / flags["config_name"]).exists() and not any(
        name in original for name in _CHECKPOINT_FLAGS
    ):
        # A directory in the layout of Hugging Face, which says whether the model is cased.
        model = load_model(str(directory), cased=cased or None)
        return model, {
            **flags,
            "do_lower_case": wordpiece_tokenizer(model).vocabulary.do_lower_case,
        }
    checkpoint = Path(flags["tuned_model_dir"] or directory) / flags["ckpt_name"]
    return load_release(
        directory, config_name=flags["config_name"], checkpoint=checkpoint, cased=cased
    ), flags


def _start_engine(model: Model, flags: Mapping[str, Any], options: Mapping[str, Any]) -> Engine:
    if flags["cpu"] and options["device"] == "cuda":
        raise UsageError("-cpu and --device cuda exclude each other: give one of them")
    device: Device = "cpu" if flags["cpu"] else options["device"]
    return Engine(
        model,
        flags["pooling_layer"],
        device=device,
        precision=options["precision"],
        threads=options["threads"],
        position_embeddings=not flags["no_position_embeddings"],
    )


def _settings(flags: Mapping[str, Any], model_option: str | None) -> Settings:
    """Return what determines replies.

    Args:
        flags: All flags of the original.
        model_option: The value of ``--model``. It is reported to clients, so that they can print a
            command that starts a server with other settings.
    """
    strategy = Pooling[flags["pooling_strategy"]]
    model = {} if model_option is None else {"bert_tokemb_model": model_option}
    return Settings(
        pooling_strategy=strategy,
        reported={**flags, "pooling_strategy": strategy.value, **model},
        **{name: flags[name] for name in _SETTINGS},
    )


def resolve_host(host: str) -> str:
    """Return the address to bind, and warn if other machines can reach it.

    Raises:
        UsageError: if the host is neither an IPv4 address nor a name that has one.
    """
    try:
        # IPv4 only, since bert-serving-client supports nothing else.
        found = socket.getaddrinfo(
            None if host == "*" else host, 0, socket.AF_INET, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"--host {host!r} is not an IPv4 address of this machine ({error})"
        ) from error
    address = str(found[0][4][0])
    if not ipaddress.ip_address(address).is_loopback:
        _log.warning(
            "other machines can reach this address, and the protocol has neither encryption nor "
            "authentication: anyone who can connect can send requests",
            extra={"host": address},
        )
    return address
