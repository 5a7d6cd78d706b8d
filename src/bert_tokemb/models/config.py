"""The configuration of a model, and helpers to read it from ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

__all__ = [
    "ModelConfig",
    "choice",
    "flag",
    "integer",
    "padding_id",
    "positive_integer",
    "refuse",
    "refuse_decoders",
    "small_number",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What every architecture's configuration has, by the names of Hugging Face's ``config.json``.

    Architectures add fields of their own in subclasses.
    """

    hidden_size: int
    """Length of the vectors of a hidden layer."""
    num_hidden_layers: int
    max_pieces: int
    """The most pieces of a sentence, special tokens included."""
    pad_token_id: int
    """The piece that pads the sentences of a batch to the same length."""
    type_vocab_size: int
    """The number of token types; 1 if the architecture has none."""
    vocab_size: int


def positive_integer(
    path: Path, settings: Mapping[str, Any], name: str, default: int | None = None
) -> int:
    """Return a setting that is a positive integer below 2**31.

    Raises:
        ModelError: if it is something else, or absent without a default.
    """
    value = settings.get(name, default)
    if value is None:
        raise ModelError(f"{path} has no {name}")
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, not a positive integer")
    return value


def integer(path: Path, settings: Mapping[str, Any], name: str, default: int) -> int:
    """Return a setting that is an integer between -2**31 and 2**31.

    Raises:
        ModelError: if it is something else.
    """
    value = settings.get(name, default)
    if type(value) is not int or not abs(value) < 1 << 31:
        raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, not an integer")
    return value


def padding_id(settings: Mapping[str, Any], vocab_size: int, default: int) -> int:
    """Return ``pad_token_id``, or the default if that is not the id of a piece.

    This is for architectures whose vectors do not depend on it.
    """
    value = settings.get("pad_token_id")
    return value if type(value) is int and 0 <= value < vocab_size else default


def flag(path: Path, settings: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return a setting that is true or false.

    Raises:
        ModelError: if it is something else.
    """
    value = settings.get(name, default)
    if type(value) is not bool:
        raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, not true or false")
    return value


def refuse(path: Path, settings: Mapping[str, Any], name: str, *harmless: Any) -> None:
    """Refuse a setting that would change the vectors in a way that is not implemented.

    Args:
        path: The file, for error messages.
        settings: Its content.
        name: The name of the setting.
        harmless: The values with which it changes nothing. Absent, null, false, 0 and empty
            values change nothing either.

    Raises:
        ModelError: if it has another value.
    """
    value = settings.get(name)
    if value and value not in harmless:
        raise ModelError(f"{path} has {name} {value!r:.40}, which is not supported")


def refuse_decoders(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse models that attend only to previous pieces or to another text.

    Raises:
        ModelError: if the settings say so.
    """
    for name in ("is_decoder", "add_cross_attention"):
        if settings.get(name):
            raise ModelError(f"{path} has {name}: only encoders are supported")


def small_number(path: Path, settings: Mapping[str, Any], name: str, default: float) -> float:
    """Return a setting that is a number from 0 to 1.

    Raises:
        ModelError: if it is something else.
    """
    value = settings.get(name, default)
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, not a number from 0 to 1")
    return float(value)


def choice(
    path: Path,
    settings: Mapping[str, Any],
    name: str,
    supported: Sequence[str],
    default: str | None = None,
) -> str:
    """Return a setting that is one of the ``supported`` strings.

    Raises:
        ModelError: if it is something else, or absent without a default.
    """
    value = settings.get(name, default)
    if not isinstance(value, str) or value not in supported:
        raise ModelError(
            f"{path} has {name} {value!r:.40}, which is not supported (supported: "
            f"{', '.join(supported)})"
        )
    return value
