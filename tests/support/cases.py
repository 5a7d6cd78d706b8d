"""Alignment cases: words and their pieces with the toy vocabularies.

All of them are checked against the genuine server. Cases marked ``newer`` contain characters that
its Python 3.7 (Unicode 11) lacks or treats differently; their pieces are the server's. Cases with a
reason under ``xfail`` cannot be aligned without an additional request to the server.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    label: str
    cased: bool
    words: list[str]
    pieces: list[list[str]]
    newer: bool = False
    xfail: str = ""

    def __str__(self) -> str:
        return self.label

    @property
    def counts(self) -> list[int]:
        """The number of pieces of each word."""
        return [len(own) for own in self.pieces]

    @property
    def flat(self) -> list[str]:
        """The pieces of the sentence."""
        return [piece for own in self.pieces for piece in own]


DATA = Path(__file__).parents[1] / "data" / "alignment_cases.json"

CASES = [Case(**case) for case in json.loads(DATA.read_text("utf-8"))]
