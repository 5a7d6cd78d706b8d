"""The command that starts a server with the settings that are needed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..encoders.server.address import Address

__all__ = ["start_command"]

# Settings to keep when a server is started again, with their default values.
_DEFAULTS = {
    "tuned_model_dir": None,
    "ckpt_name": "bert_model.ckpt",
    "config_name": "bert_config.json",
    "pooling_layer": [-2],
    "num_worker": 1,
}
_DEFAULT_MAX_SEQ_LEN = 25
"""Meant for sentence vectors; most sentences are longer."""


def start_command(address: Address, config: Mapping[str, Any] | None = None) -> str:
    """Return the command line that starts a server whose replies contain the vectors of pieces.

    Args:
        address: The address of the server.
        config: The settings of a server that is to be started again: the original one, or ours.

    >>> from bert_tokemb import Address
    >>> print(start_command(Address()).replace(" -max", "\\n-max"))
    bert-serving-start -model_dir MODEL_DIR -pooling_strategy NONE -show_tokens_to_client
    -max_seq_len NONE -port 5555 -port_out 5556
    >>> settings = {"model_dir": "my model", "pooling_layer": [-1, -2], "cpu": True}
    >>> print(start_command(Address(), settings).replace(" -max", "\\n-max"))
    bert-serving-start -model_dir 'my model' -pooling_strategy NONE -show_tokens_to_client
    -max_seq_len NONE -pooling_layer -1 -2 -cpu -port 5555 -port_out 5556
    >>> settings = {"model_dir": "m", "max_seq_len": 256}  # 25, the default, is too short
    >>> print(start_command(Address(), settings).replace(" -max", "\\n-max"))
    bert-serving-start -model_dir m -pooling_strategy NONE -show_tokens_to_client
    -max_seq_len 256 -port 5555 -port_out 5556
    >>> "-max_seq_len NONE" in start_command(Address(), {**settings, "max_seq_len": 25})
    True
    >>> settings = {"bert_tokemb_model": "model", "pooling_layer": [-1], "max_seq_len": 128}
    >>> print(start_command(Address(), settings))
    bert-tokemb serve --model model --layers -1 --max-seq-len 128 --port 5555 --port-out 5556
    """
    config = config or {}
    if "bert_tokemb_model" in config:
        return _serve_command(address, config)
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


def _serve_command(address: Address, config: Mapping[str, Any]) -> str:
    command = ["bert-tokemb", "serve", "--model", config["bert_tokemb_model"]]
    layers = config.get("pooling_layer", [-2])
    command += ["--layers", ",".join(map(str, layers))] if layers != [-2] else []
    command += ["--max-seq-len", config["max_seq_len"]] if config.get("max_seq_len") else []
    command += ["--port", address.port, "--port-out", address.port_out]
    return shlex.join(map(str, command))
