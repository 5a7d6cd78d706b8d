"""What all formats have in common: the metadata of a result, its writer and its reader."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError, translate
from ..types import EmbeddedSentence, Layer

__all__ = ["Content", "OpenFile", "Position", "Reader", "Writer", "about_of"]

T = TypeVar("T")
R = TypeVar("R", bound="Reader")

Position: TypeAlias = Mapping[str, int]
"""How far a result has been written, and checksums, in numbers that its format chooses."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a result will contain: ``(n, width)`` arrays of one data type."""

    width: int
    dtype: np.dtype[Any]
    about: Mapping[str, Any] = field(default_factory=dict)
    """How they are computed; JSON values."""
    layers: Sequence[Layer] = ()
    """If not empty, the layers that are written separately instead of side by side."""

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

    The result may be of unknown origin, and it may be damaged.

    Args:
        path: The path of the result; also its name in messages.

    Attributes:
        about: How the arrays were computed, if the result says so; JSON values.
    """

    description: ClassVar[str]
    """The kind of result, such as ``an HDF5 file``."""
    damage: tuple[type[Exception], ...] = PARSER_ERRORS
    """What the parser raises if the result is damaged."""

    def __init__(self, path: str) -> None:
        self.path = path

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


class OpenFile(Protocol):
    """Opens a file to write; see :meth:`bert_tokemb.storage.workspace.Workspace.open`."""

    def __call__(self, file: str = "", *, keep: int = 0, skip: int = 0, crc32: int = 0) -> int: ...


class Writer(ABC):
    """Writes the sentences of a result, one after the other.

    Args:
        name: The name of the output in error messages.
        open_file: Opens the file, or a file of the directory, to write to.
        content: What the result will contain.
        position: Where an interrupted run resumes, for a format that is resumable.

    Raises:
        OutputError: from all methods, if the result cannot be written.
    """

    is_directory: ClassVar[bool] = False
    is_resumable: ClassVar[bool] = False
    """Whether the sentences before a position can be kept."""
    has_layers: ClassVar[bool] = False
    """Whether layers can be written separately."""
    is_streamable: ClassVar[bool] = False
    """Whether it can be written to a pipe."""
    bytes_per_sentence: ClassVar[int]
    """Bytes of a sentence in addition to its vectors, approximately."""

    @abstractmethod
    def __init__(
        self, name: str, open_file: OpenFile, content: Content, position: Position | None = None
    ) -> None: ...

    @classmethod  # noqa: B027 - most formats need none
    def check_packages(cls) -> None:
        """Raise MissingPackageError if the format needs a package that is not installed."""

    @classmethod
    def may_replace(cls, directory: Path) -> bool:
        """Whether an existing directory is a result of this format and contains nothing else."""
        return False

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes written so far."""

    @abstractmethod
    def write(self, sentence: EmbeddedSentence) -> None:
        """Append a sentence."""

    def position(self) -> Position:
        """Flush the buffer and return the length of the result so far."""
        return {}

    @abstractmethod
    def finish(self) -> None:
        """Write what follows the last sentence."""

    def abandon(self) -> None:  # noqa: B027 - most writers hold nothing
        """Release everything without writing."""
