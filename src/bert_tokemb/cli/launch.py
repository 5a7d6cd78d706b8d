"""From the command line's options to a server that serves, and its end."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import Any

from ..errors import ModelError, UsageError
from ..models.engine import Device, Engine
from ..models.loading import Model, load_model, load_release
from ..serve.flags import complete, notes
from ..serve.logs import logging_to
from ..serve.server import Server
from ..serve.settings import Settings
from ..serve.sockets import Wire
from ..signals import call_on_signals
from ..storage.workspace import atomic_file

__all__ = ["launch"]

_log = logging.getLogger(__name__)

_PACKAGE = "bert-tokemb"
_CHECKPOINT_FLAGS = ("ckpt_name", "config_name", "tuned_model_dir")


def launch(options: Mapping[str, Any], original: Mapping[str, Any] | None) -> None:
    """Serve until a signal comes, or a client ends it.

    Args:
        options: Those of ``bert-tokemb serve``, by name.
        original: The flags of ``bert-serving-start`` that were given instead of ``--model``.

    Raises:
        TokembError: the model cannot be used, a port cannot be bound, or the like.
    """
    if options["ready_file"] == "":
        raise UsageError("--ready-file is empty: give the path of a file")
    verbose = options["verbose"] or bool(original and original.get("verbose"))
    with logging_to(sys.stderr, logging.INFO if verbose else logging.WARNING):
        host = _resolve(options["host"])
        if original is None:
            model, flags = _load(options)
        else:
            model, flags = _load_original(original)
        if flags["cpu"] and options["device"] == "cuda":
            raise UsageError("-cpu and --device cuda exclude each other: give one of them")
        device: Device = "cpu" if flags["cpu"] else options["device"]
        engine = Engine(
            model,
            flags["pooling_layer"],
            device=device,
            precision=options["precision"],
            threads=options["threads"],
            positions=not flags["no_position_embeddings"],
        )
        with Wire(host, flags["port"], flags["port_out"]) as wire:
            server = Server(
                wire,
                engine,
                # What started it, so that its clients can tell how to start it otherwise.
                Settings.of(flags, {} if original else {"bert_tokemb_model": model.name}),
                version=version(_PACKAGE),
                allow_shutdown=options["allow_shutdown"],
            )
            with call_on_signals(server.stop):
                server.start()
                with _telling_that_it_serves(wire, options["ready_file"]):
                    server.run()
                server.finish()


def _load(options: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Load the model of ``--model``, and say in the original's flags how it is served."""
    model = load_model(options["model"], cased=options["cased"])
    return model, complete(
        {
            "model_dir": model.name,
            "pooling_layer": options["layers"],
            "pooling_strategy": options["pooling_strategy"],
            "max_seq_len": options["max_seq_len"],
            "show_tokens_to_client": True,
            "do_lower_case": model.vocabulary.do_lower_case,
            "port": options["port"],
            "port_out": options["port_out"],
            "verbose": options["verbose"],
        }
    )


def _load_original(original: Mapping[str, Any]) -> tuple[Model, dict[str, Any]]:
    """Load the model of ``-model_dir``, as the original would."""
    flags = complete(original)
    for note in notes(original):
        _log.warning(note)
    directory = Path(flags["model_dir"])
    if not directory.is_dir():
        raise ModelError(f"-model_dir {flags['model_dir']} is no directory")
    cased = not flags["do_lower_case"]
    if not (directory / flags["config_name"]).exists() and not any(
        name in original for name in _CHECKPOINT_FLAGS
    ):
        # A directory of another layout, which says itself whether it is cased.
        model = load_model(str(directory), cased=cased or None)
        return model, {**flags, "do_lower_case": model.vocabulary.do_lower_case}
    checkpoint = Path(flags["tuned_model_dir"] or directory) / flags["ckpt_name"]
    return load_release(
        directory, config_name=flags["config_name"], checkpoint=checkpoint, cased=cased
    ), flags


def _resolve(host: str) -> str:
    """Return the address to bind, having warned of one that others can reach."""
    try:
        # IPv4 alone: the client knows no other.
        found = socket.getaddrinfo(
            None if host == "*" else host, 0, socket.AF_INET, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host!r} is no IPv4 address of this machine ({error})") from error
    address = found[0][4][0]
    if not ipaddress.ip_address(address).is_loopback:
        _log.warning(
            "others can reach this address, and the protocol knows no authentication: whoever "
            "can connect can have anything computed, and read others' replies",
            extra={"host": address},
        )
    return str(address)


@contextmanager
def _telling_that_it_serves(wire: Wire, ready_file: str | None) -> Iterator[None]:
    """Tell on standard output, and in a file as long as it is true, where the server listens."""
    address = f"{wire.host}:{wire.port}:{wire.port_out}"
    if ready_file is not None:
        with atomic_file(ready_file) as file:
            file.write(f"{address}\n".encode())
    if sys.stdout is not None:
        # By itself: it may be a pipe that is full.
        line = f"ready {address}\n".encode()
        Thread(target=_print, args=(sys.stdout.fileno(), line), daemon=True).start()
    try:
        yield
    finally:
        if ready_file is not None:
            _remove_if_ours(Path(ready_file), f"{address}\n")


def _print(descriptor: int, line: bytes) -> None:
    with suppress(OSError):
        os.write(descriptor, line)


def _remove_if_ours(path: Path, content: str) -> None:
    """Remove a file, unless somebody has put something else in its place, or it is a device."""
    with suppress(OSError, UnicodeError):
        if path.is_file() and path.read_text("utf-8") == content:
            path.unlink()
