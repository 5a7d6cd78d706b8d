"""What a run met, for a person or a program to read afterwards."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .outputs.whole_file import WholeFile
from .types import Counts, Embedded

__all__ = ["FORMAT", "Tally", "write_report"]

FORMAT = "bert-tokemb report 1"
"""What the report calls itself."""

_MOST = 100
"""Of each kind; so long stays the report of whatever text."""

_LONGEST = 100
"""Characters of a word, for the same reason: a line of a binary file may be one."""


@dataclass(slots=True)
class Tally:
    """Counts, and the first lines and words that are worth telling; of each kind a bounded number.

    Words come with the number of their line, from 1.
    """

    counts: Counts = field(default_factory=Counts)
    unknown_words: list[tuple[int, str]] = field(default_factory=list)
    empty_words: list[tuple[int, str]] = field(default_factory=list)
    inexact_sentences: list[int] = field(default_factory=list)
    windowed_sentences: list[int] = field(default_factory=list)

    def see(self, one: Embedded) -> None:
        """Take note of a sentence; it is counted by others."""
        remarks = one.remarks
        if remarks is None:
            return
        for kept, words in (
            (self.unknown_words, remarks.unknown),
            (self.empty_words, remarks.empty),
        ):
            kept += [(one.line, _cut(one.words[j])) for j in words[: _MOST - len(kept)]]
        for lines, is_so in (
            (self.inexact_sentences, remarks.inexact),
            (self.windowed_sentences, remarks.windowed),
        ):
            if is_so and len(lines) < _MOST:
                lines.append(one.line)

    def state(self) -> dict[str, Any]:
        """Return all of it, in values that JSON has."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Tally:
        """Return what had that state."""
        words = {
            name: [(line, word) for line, word in state[name]]
            for name in ("unknown_words", "empty_words")
        }
        return cls(**{**state, **words, "counts": Counts(**state["counts"])})


def _cut(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[:_LONGEST]}\u2026"


def write_report(file: WholeFile, tally: Tally, more: Mapping[str, Any]) -> None:
    """Write a report of JSON.

    Args:
        file: Where to.
        tally: What was met.
        more: Whatever else is to be told, before that.
    """
    met = tally.state()
    told = {
        "format": FORMAT,
        **more,
        "counts": met.pop("counts"),
        "first": {
            name: [_named(entry) for entry in entries] for name, entries in met.items() if entries
        },
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }
    # Bytes of a file's name that are no UTF-8 become what JSON's own escapes are too.
    content = json.dumps(told, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
    file.write(content + b"\n")


def _versions() -> Iterator[tuple[str, str]]:
    for package in ("bert-tokemb", "numpy", "onnxruntime", "bert-serving-client"):
        with suppress(PackageNotFoundError):
            yield package.replace("-", "_"), version(package)


def _named(entry: int | Sequence[Any]) -> int | dict[str, Any]:
    return entry if isinstance(entry, int) else dict(zip(("line", "word"), entry, strict=True))
