"""What all formats have in common: the metadata of a result, its writer and its reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError, translate
from ..types import EmbeddedSentence

__all__ = ["Content", "FinishedAtEnd", "Output", "Position", "Reader", "about_of"]

T = TypeVar("T")
R = TypeVar("R", bound="Reader")

Position: TypeAlias = Mapping[str, int]
"""How far an output was written, in numbers that each format chooses."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an output will contain: ``(n, width)`` arrays of one data type."""

    width: int
    dtype: np.dtype[Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """How they are computed; JSON values."""

    def metadata(self, format_id: str) -> dict[str, Any]:
        """Return the metadata that a result contains, as JSON values.

        Args:
            format_id: Name and version of the format.
        """
        return {
            "format": format_id,
            "width": self.width,
            "dtype": self.dtype.name,
            "about": dict(self.about),
        }


def about_of(metadata: Any, format_id: str) -> Mapping[str, Any]:
    """Return ``about`` from :meth:`Content.metadata`; nothing if the metadata is not of that kind.

    Args:
        metadata: What a result of unknown origin contains in place of the metadata.
        format_id: Name and version of the format.
    """
    is_ours = isinstance(metadata, dict) and metadata.get("format") == format_id
    about = metadata.get("about") if is_ours else None
    return about if isinstance(about, dict) else {}


class Reader(ABC):
    """Reads the arrays of a result in order; a context manager.

    Results may be of unknown origin, and damaged.

    Attributes:
        path: The path of the result, as it is called in messages.
        about: How the arrays were computed, if the result says so; JSON values.
    """

    description: ClassVar[str]
    """What it reads, such as ``an HDF5 file``."""
    path: str
    damage: tuple[type[Exception], ...] = PARSER_ERRORS
    """The exceptions of the parser that mean that the result is damaged."""

    @property
    def about(self) -> Mapping[str, Any]:
        return {}

    @abstractmethod
    def __iter__(self) -> Iterator[npt.NDArray[Any]]: ...

    def map(self, function: Callable[[npt.NDArray[Any]], T]) -> Iterator[T]:
        """Yield ``function(array)`` for each array, in order, without keeping the arrays."""
        return map(function, self)

    def close(self) -> None:  # noqa: B027 - most readers have nothing to close
        """Close the files."""

    def __enter__(self: R) -> R:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _parsing(self) -> AbstractContextManager[None]:
        """Raise what the parser raises within the block as ``InputError``."""
        return translate(
            InputError,
            f"read {self.path}",
            damage=self.damage,
            damaged=f"{self.path} is damaged, or not {self.description}",
        )


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
