"""The configuration of a model, and helpers to read it from ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError

__all__ = ["ModelConfig", "choice", "positive_integer", "small_number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What every architecture's configuration has, by the names of Hugging Face's ``config.json``.

    Architectures add fields of their own in subclasses.
    """

    hidden_size: int
    """Length of the vectors of a hidden layer."""
    num_hidden_layers: int
    max_position_embeddings: int
    """The most pieces of a sentence, special tokens included.

    An architecture that reserves some of its positions leaves these out.
    """
    pad_token_id: int = 0
    """The id that fills a sentence up to the length of its batch."""
    type_vocab_size: int
    """The number of token types; 1 if the architecture has none."""
    vocab_size: int

    @property
    def max_pieces(self) -> int:
        """The most pieces of a sentence, special tokens included."""
        return self.max_position_embeddings


def positive_integer(path: Path, settings: Mapping[str, Any], name: str) -> int:
    """Return a setting that is a positive integer below 2**31.

    Raises:
        ModelError: if it is absent or something else.
    """
    value = settings.get(name)
    if value is None:
        raise ModelError(f"{path} has no {name}")
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, not a positive integer")
    return value


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
