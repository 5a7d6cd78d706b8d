"""Damages files and JSON values at random."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

__all__ = ["ODD_VALUES", "damaged_bytes", "damaged_json", "places"]

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**64, 10**400, 0.5, -0.0, 1e300, float("nan")),
    *("", "x", "false", "\ud800", "a\0b", "..", "/", "é" * 300, [], [1], ["x"], {}, {"a": 1}),
)


def places(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths to the values in a JSON value, of large objects the first only."""
    yield path
    if isinstance(value, dict):
        for name in list(value)[:12]:
            yield from places(value[name], (*path, name))


def damaged_json(random: Random, value: Any) -> Any:
    """Return a copy of a JSON value, in which one value is replaced by an odd one."""
    root = {"root": copy.deepcopy(value)}
    *path, last = ("root", *random.choice(list(places(value))))
    at: Any = root
    for name in path:
        at = at[name]
    at[last] = copy.deepcopy(random.choice(ODD_VALUES))
    return root["root"]


def damaged_bytes(random: Random, whole: bytes) -> bytes:
    """Return a truncated file, or one in which some bytes were changed, moved or removed."""
    size = len(whole)
    start, end = sorted(random.choices(range(size + 1), k=2))
    place = int(random.random() ** 3 * size)  # mostly near the beginning
    kind = random.randrange(6)
    if kind == 0:
        return whole[:place]
    if kind == 1:
        return whole[:start] + whole[end:]
    if kind == 2:
        return whole[:place] + whole[start:end] + whole[place:]
    changed = bytearray(whole)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        at = int(random.random() ** random.choice((1, 3)) * size)
        changed[at] = random.choice((0, 0x7F, 0xFF, random.randrange(256)))
    return bytes(changed)
