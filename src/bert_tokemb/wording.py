"""Numbers of things, and text of others, as people read them."""

from __future__ import annotations

__all__ = ["bytes_of", "count_of", "visible"]


def count_of(number: int, what: str) -> str:
    """Name a number of things.

    >>> count_of(1, "word"), count_of(2000, "word"), count_of(2, "man|men")
    ('1 word', '2,000 words', '2 men')
    """
    one, _, many = what.partition("|")
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def bytes_of(size: int) -> str:
    """Write a size in powers of 1000.

    >>> bytes_of(999), bytes_of(77_300_000)
    ('999 B', '77.3 MB')
    """
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def visible(text: str) -> str:
    r"""Write escapes for what cannot be seen, or does something to a terminal.

    >>> visible("a\x1b[2J\n")
    'a\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
