"""The options of a run of ``embed``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..pipeline import LOOK_AHEAD
from ..types import LongSentences

__all__ = ["EmbedOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """The options of ``bert-tokemb embed``, except those of the encoder."""

    input_name: str
    """A path, or ``-`` for standard input."""
    output_name: str
    """A path, or ``-`` for standard output."""
    output_format: str | None = None
    """By default, the format that the name of the output ends in."""
    separate_layers: bool = False
    """Whether to write the vectors of each layer separately, in a format that can do so."""
    dtype: str | None = None
    """By default, the data type of the encoder."""
    strategy: str = "avg"
    blank_lines: Literal["keep", "skip"] = "keep"
    strict: bool = False
    """Whether to refuse unknown words and words without pieces."""
    allow_nonfinite: bool = False
    """Whether vectors may contain NaN or infinity."""
    long_sentences: LongSentences = "window"
    restart: bool = False
    """Whether to start over if there is a partial output."""
    disk_check: bool = True
    report_name: str | None = None
    quiet: bool = False
    look_ahead: int = LOOK_AHEAD
    """Bytes of results for which the text is read ahead."""
