"""Parses the documentation: pages, code blocks, links and anchors."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from .command import ROOT

__all__ = ["PAGES", "Block", "anchors", "blocks", "expected_print", "links", "prose", "read"]

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
"""Paths from the root of the repository."""

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def sessions(self) -> Iterator[tuple[str, str]]:
        """Yield the commands of a ``console`` block, which follow ``$``, and their output."""
        for session in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = session.partition("\n")
            yield command, output


def read(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text("utf-8")


def blocks(page: str, language: str = "") -> list[Block]:
    """Return the code blocks of a page, or those in one language."""
    text = read(page)
    found = [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCED.finditer(text)
    ]
    return [block for block in found if language in ("", block.language)]


def prose(page: str) -> str:
    """Return a page without its code blocks."""
    return _FENCED.sub("", read(page))


def links(page: str) -> list[str]:
    """Return the targets of the links of a page."""
    return _LINK.findall(prose(page))


def anchors(page: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub derives them."""
    headings = _HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def expected_print(code: str) -> list[str]:
    """Return the output that a Python example states: its comments after the first ``print``.

    >>> expected_print("x = 1  # a number\\nprint(x)  # 1\\n# 2")
    ['1', '2']
    """
    printed, comments = False, []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        printed |= token.type == tokenize.NAME and token.string == "print"
        if printed and token.type == tokenize.COMMENT:
            comments.append(token.string.removeprefix("# "))
    return comments
