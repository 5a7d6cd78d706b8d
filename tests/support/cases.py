"""The alignment cases: words, and the pieces that the toy vocabularies make of each.

``newer`` marks characters that the genuine server's Python 3.7 (Unicode 11) does not know, or
knows otherwise; their pieces are the server's. All of them are checked against it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    why: str
    cased: bool
    words: list[str]
    pieces: list[list[str]]
    newer: bool = False

    def __str__(self) -> str:
        return self.why

    @property
    def counts(self) -> list[int]:
        return [len(own) for own in self.pieces]

    @property
    def flat(self) -> list[str]:
        return [piece for own in self.pieces for piece in own]


DATA = Path(__file__).parents[1] / "data" / "alignment_cases.json"

CASES = [Case(**case) for case in json.loads(DATA.read_text("utf-8"))]
