"""What a tokenizer is: from the words of a sentence to the ids of their pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["TokenizedWords", "Tokenizer"]


@dataclass(frozen=True, slots=True)
class TokenizedWords:
    """The pieces of the words of one sentence.

    Every piece belongs to at least one word, and the pieces of a word are consecutive.
    """

    pieces: Sequence[tuple[int, ...]]
    """The ids of the pieces of each word; empty for a word without pieces."""
    shared: Sequence[int] = ()
    """For each word, how many of its pieces, the first ones, are also pieces of a word before it.
    Empty if no piece belongs to several words."""
    inexact: bool = False
    """Whether it is a guess which word some pieces belong to."""


class Tokenizer(Protocol):
    """Splits sentences into the pieces of a model."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """The ids of the special tokens before the pieces of a sentence."""

    @property
    def suffix(self) -> tuple[int, ...]:
        """The ids of the special tokens after them."""

    @property
    def unknown(self) -> int | None:
        """The id of the piece that replaces what the vocabulary cannot spell, if there is one."""

    @property
    def size(self) -> int:
        """The largest id, plus 1."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that determine the pieces, apart from files; JSON values."""

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """A digest of what the files of the model determine."""

    def tokenize(self, words: Sequence[str]) -> TokenizedWords:
        """Return the pieces of the words of a sentence."""

    def piece(self, i: int) -> str:
        """Return the piece with this id."""
