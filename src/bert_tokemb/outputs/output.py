"""What every format of the result has in common."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..types import Embedded

__all__ = ["Output"]


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

    def begin(self, width: int, dtype: np.dtype[Any]) -> None:
        """Learn what will come: ``(n, width)`` arrays of one type."""

    def write(self, one: Embedded) -> None:
        """Append a sentence."""

    def __enter__(self) -> Output: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None: ...
