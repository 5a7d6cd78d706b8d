"""The flags of the original, ``bert-serving-start`` 1.10.0, which ``bert-tokemb serve`` accepts.

Names, aliases, types and defaults are those of ``get_args_parser`` in
``bert_serving/server/helper.py``. They are parsed with argparse, as there, so that abbreviations
and lists of negative numbers work in the same way.
"""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import UsageError

__all__ = ["POOLING_STRATEGIES", "notes", "parse", "with_defaults"]

POOLING_STRATEGIES = (
    "NONE",
    "REDUCE_MEAN",
    "REDUCE_MAX",
    "REDUCE_MEAN_MAX",
    "CLS_TOKEN",
    "FIRST_TOKEN",
    "SEP_TOKEN",
    "LAST_TOKEN",
)
"""The names of :class:`bert_tokemb.serve.pooling.Pooling`, which is slow to import."""

_MIN_LENGTH = 4
_MAX_PORT = 65535

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
_NUMBER_LISTS = ("device_map", "pooling_layer")
_PORTS = (("-port", "-port_in", "-port_data"), ("-port_out", "-port_result"))

_WITHOUT_EFFECT = {
    "cors": "there is no HTTP server",
    "device_map": "the engine uses one device",
    "gpu_memory_fraction": "the engine allocates memory as needed",
    "graph_tmp_dir": "no graph is written to disk",
    "http_max_connect": "there is no HTTP server",
    "num_worker": "--threads sets the number of threads",
    "prefetch_size": "there are no worker processes to prefetch for",
    "priority_batch_size": "small requests never wait for large ones",
    "xla": "the engine has no such compiler",
}


def parse(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Split arguments into the values of flags, by name, and all other arguments.

    >>> parse(["-model_dir", "m", "-pooling_layer", "-4", "-3", "--host", "::1", "-cpu"])
    ({'model_dir': 'm', 'pooling_layer': [-4, -3], 'cpu': True}, ['--host', '::1'])

    Raises:
        UsageError: if a flag has an invalid value.
    """
    found, rest = _parser().parse_known_args(arguments, Namespace())
    return vars(found), rest


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all flags.

    Raises:
        UsageError: if one of the given flags is not supported, or its value is out of range.
    """
    flags = {**_DEFAULTS, **given}
    if flags["http_port"] is not None:
        raise UsageError("-http_port is not supported: put an HTTP server in front of this one")
    if flags["fp16"]:
        raise UsageError("-fp16 is not supported: give --precision fp16 or --precision int8")
    if flags["pooling_strategy"] == "CLS_POOLED":
        raise UsageError(
            "-pooling_strategy CLS_POOLED is not supported: it needs the layer of a fine-tuned "
            "classifier, and the engine computes hidden layers; CLS_TOKEN is the nearest to it"
        )
    if flags["max_batch_size"] < 1:
        raise UsageError(f"-max_batch_size must be at least 1, not {flags['max_batch_size']}")
    for name in ("port", "port_out"):
        if not 0 <= flags[name] <= _MAX_PORT:
            raise UsageError(f"-{name} must be from 0 to {_MAX_PORT}, not {flags[name]}")
    return flags


def notes(given: Mapping[str, Any]) -> list[str]:
    """Return a sentence about each given flag that has no effect."""
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
    for name in _NUMBER_LISTS:
        parser.add_argument(f"-{name}", type=int, nargs="+")
    for names in _PORTS:
        parser.add_argument(*names, type=int)
    parser.add_argument("-gpu_memory_fraction", type=float)
    parser.add_argument("-max_seq_len", type=_length)
    parser.add_argument("-cased_tokenization", dest="do_lower_case", action="store_false")
    parser.add_argument("-pooling_strategy", choices=[*POOLING_STRATEGIES, "CLS_POOLED"])
    return parser


def _length(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        length = int(text)
    except ValueError:
        length = 0
    if length < _MIN_LENGTH:
        raise ArgumentTypeError(f"{text} is neither NONE nor a number of at least {_MIN_LENGTH}")
    return length
