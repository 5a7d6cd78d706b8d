"""Human-readable numbers, and escapes for foreign text."""

from __future__ import annotations

__all__ = ["format_bytes", "format_count", "printable"]


def format_count(number: int, singular: str, plural: str = "") -> str:
    """Return a number with the noun that it counts.

    >>> format_count(1, "word"), format_count(2000, "word"), format_count(2, "entry", "entries")
    ('1 word', '2,000 words', '2 entries')
    """
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def format_bytes(size: int) -> str:
    """Return a size in powers of 1000.

    >>> format_bytes(999), format_bytes(77_300_000)
    ('999 B', '77.3 MB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def printable(text: str) -> str:
    r"""Escape characters that are invisible or that control a terminal.

    >>> printable("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
