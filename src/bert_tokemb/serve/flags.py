"""The flags of ``bert-serving-start``, version 1.10.0.

Names, aliases, types and defaults are facts of ``get_args_parser`` in
``bert_serving/server/helper.py``. They are parsed by the module that the original uses, so that
abbreviations and several negative numbers behind one flag mean what they meant there.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import UsageError
from .pooling import Pooling

__all__ = ["PROTOCOL_VERSION", "complete", "notes", "parse"]

PROTOCOL_VERSION = "1.10.0"
"""The version of bert-as-service whose protocol is spoken; clients refuse another."""

_LEAST_LENGTH = 4
_LAST_PORT = 65535

_DEFAULTS: Mapping[str, Any] = {
    "ckpt_name": "bert_model.ckpt",
    "config_name": "bert_config.json",
    "cors": "*",
    "cpu": False,
    "device_map": [],
    "do_lower_case": True,
    "fixed_embed_length": False,
    "fp16": False,
    "gpu_memory_fraction": 0.5,
    "graph_tmp_dir": None,
    "http_max_connect": 10,
    "http_port": None,
    "mask_cls_sep": False,
    "max_batch_size": 256,
    "max_seq_len": 25,
    "model_dir": None,
    "no_position_embeddings": False,
    "no_special_token": False,
    "num_worker": 1,
    "pooling_layer": [-2],
    "pooling_strategy": "REDUCE_MEAN",
    "port": 5555,
    "port_out": 5556,
    "prefetch_size": 10,
    "priority_batch_size": 16,
    "show_tokens_to_client": False,
    "tuned_model_dir": None,
    "verbose": False,
    "xla": False,
}

_SWITCHES = (
    "cpu",
    "fixed_embed_length",
    "fp16",
    "mask_cls_sep",
    "no_position_embeddings",
    "no_special_token",
    "show_tokens_to_client",
    "verbose",
    "version",
    "xla",
)
_TEXTS = ("ckpt_name", "config_name", "cors", "graph_tmp_dir", "model_dir", "tuned_model_dir")
_NUMBERS = (
    "http_max_connect",
    "http_port",
    "max_batch_size",
    "num_worker",
    "prefetch_size",
    "priority_batch_size",
)
_SEVERAL = ("device_map", "pooling_layer")
_PORTS = (("-port", "-port_in", "-port_data"), ("-port_out", "-port_result"))

_WITHOUT_EFFECT = {
    "cors": "there is no HTTP server",
    "device_map": "the engine uses one device",
    "gpu_memory_fraction": "the engine takes what it needs",
    "graph_tmp_dir": "no graph is written to disk",
    "http_max_connect": "there is no HTTP server",
    "num_worker": "--threads tells how many threads compute",
    "prefetch_size": "there are no workers to prefetch for",
    "priority_batch_size": "small requests never wait for large ones",
    "xla": "the engine has no such compiler",
}


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the flags that are among the arguments, by name, and all other arguments.

    >>> parse(["-model_dir", "m", "-pooling_layer", "-4", "-3", "--host", "::1", "-cpu"])
    ({'model_dir': 'm', 'pooling_layer': [-4, -3], 'cpu': True}, ['--host', '::1'])

    Raises:
        UsageError: a flag has a value that it cannot have.
    """
    found, rest = _parser().parse_known_args(arguments, Namespace())
    return vars(found), rest


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all flags, with defaults where none was given.

    Raises:
        UsageError: a flag that is refused was given.
    """
    flags = {**_DEFAULTS, **given}
    if flags["http_port"] is not None:
        raise UsageError("-http_port is not supported: put an HTTP server of your own before it")
    if flags["fp16"]:
        raise UsageError("-fp16 is not supported: give --precision, which has int8 and fp16")
    if flags["pooling_strategy"] == "CLS_POOLED":
        raise UsageError(
            "-pooling_strategy CLS_POOLED is not supported: it needs a fine-tuned classifier's "
            "layer, and the engine gives hidden layers; CLS_TOKEN is the nearest"
        )
    if flags["max_batch_size"] < 1:
        raise UsageError(f"-max_batch_size must be at least 1, not {flags['max_batch_size']}")
    for name in ("port", "port_out"):
        if not 0 <= flags[name] <= _LAST_PORT:
            raise UsageError(f"-{name} must be from 0 to {_LAST_PORT}, not {flags[name]}")
    return flags


def notes(given: Mapping[str, Any]) -> list[str]:
    """Return a note on each flag that was given and changes nothing."""
    return [
        f"-{name} has no effect: {why}" for name, why in _WITHOUT_EFFECT.items() if name in given
    ]


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> ArgumentParser:
    parser = _Parser(add_help=False, argument_default=SUPPRESS)
    for name in _SWITCHES:
        parser.add_argument(f"-{name}", action="store_true")
    for name in _TEXTS:
        parser.add_argument(f"-{name}")
    for name in _NUMBERS:
        parser.add_argument(f"-{name}", type=int)
    for name in _SEVERAL:
        parser.add_argument(f"-{name}", type=int, nargs="+")
    for names in _PORTS:
        parser.add_argument(*names, type=int)
    parser.add_argument("-gpu_memory_fraction", type=float)
    parser.add_argument("-max_seq_len", type=_length)
    parser.add_argument("-cased_tokenization", dest="do_lower_case", action="store_false")
    strategies = [*Pooling.__members__, "CLS_POOLED"]
    parser.add_argument("-pooling_strategy", choices=strategies)
    return parser


def _length(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        length = int(text)
    except ValueError:
        length = 0
    if length < _LEAST_LENGTH:
        raise ArgumentTypeError(f"{text} is neither NONE nor a number of at least {_LEAST_LENGTH}")
    return length
