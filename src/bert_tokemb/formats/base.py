"""What every format of the result has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from ..types import EmbeddedSentence

__all__ = ["Content", "FinishedAtEnd", "Output", "Position"]

Position: TypeAlias = Mapping[str, int]
"""How far an output was written, in numbers that each format chooses."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an output will hold: ``(n, width)`` arrays of one type."""

    width: int
    dtype: np.dtype[Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """How they were made: names, and values that JSON has."""

    def meta(self, kind: str) -> dict[str, Any]:
        """Return what a file tells of itself, in values that JSON has.

        Args:
            kind: What its format calls itself.
        """
        return {
            "format": kind,
            "width": self.width,
            "dtype": self.dtype.name,
            "about": dict(self.about),
        }


class Output(Protocol):
    """Takes one sentence after another; a context manager.

    What it writes takes its name at the end of the block, and never when the block raises.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def left(self) -> int:
        """Bytes that an interrupted run has left, and whose room is used again."""

    @property
    def bytes_per_sentence(self) -> int:
        """What a sentence takes besides its rows, about."""

    @property
    def is_file(self) -> bool:
        """Whether it is on a disk, under a name of its own."""

    @property
    def can_go_on(self) -> bool:
        """Whether what an interrupted run has left can be gone on with."""

    def begin(self, content: Content, position: Position | None = None) -> bool:
        """Learn what will come.

        Args:
            content: What it is.
            position: Where to go on with what was left by an interrupted run; else at nothing.

        Returns:
            Whether it can: False when less is there.
        """

    def write(self, one: EmbeddedSentence) -> None:
        """Append a sentence."""

    def position(self) -> Position:
        """Write what was gathered, and tell how far that is."""

    def finish(self) -> None:
        """Write what belongs behind the last sentence.

        It may take its time, and be interrupted. Without it, that is done at the end of the block.
        """

    def sync(self) -> None:
        """Put on disk what was written; may be called in another thread."""

    def keep(self, kept: bool) -> None:
        """Say whether what is incomplete stays when the block raises; else it does not."""

    def __enter__(self) -> Output: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...


Own = TypeVar("Own", bound="FinishedAtEnd")


class FinishedAtEnd(ABC):
    """How an output ends its block; ``_closing`` has what is to be closed, and then named."""

    _closing: ExitStack
    _is_finished = False

    def finish(self) -> None:
        """Write what belongs behind the last sentence, once."""
        if not self._is_finished:
            self._finish()
            self._is_finished = True

    @abstractmethod
    def _finish(self) -> None: ...

    def __enter__(self: Own) -> Own:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self._closing.__exit__(kind, *rest)
            return
        with self._closing:
            self.finish()
