"""Quantized parameters, kept on disk from one run to the next.

They are a cache and no more: what cannot be read is made again, what cannot be written is not
kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load, save

from .parameters import Parameter

__all__ = ["cache_directory", "remembered"]

# Part of every key: to be changed whenever parameters are made in another way.
_RECIPE = 1
_DIGEST = 32  # bytes of SHA-256, before the content


def cache_directory() -> Path:
    """Return ``$BERT_TOKEMB_CACHE``, or the user's cache directory."""
    if given := os.environ.get("BERT_TOKEMB_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bert-tokemb"


def remembered(
    files: tuple[Path, ...], depth: int, make: Callable[[], dict[str, Parameter]], *, bits: int = 8
) -> Mapping[str, Parameter]:
    """Return the parameters made from these files, from the cache or by making them.

    Args:
        files: What they are made from. Their paths, sizes and times are the key.
        depth: How many layers they are for.
        bits: How many each weight has.
        make: Makes them.
    """
    path = None
    with suppress(OSError, RuntimeError):  # the latter where nobody is at home
        path = cache_directory() / f"int{bits}-{_key(files, depth)}"
    if path:
        with suppress(OSError, SafetensorError):
            return _kept(path)
    made = make()
    if path:
        with suppress(OSError, SafetensorError):
            _keep(path, made)
    return made


def _key(files: tuple[Path, ...], depth: int) -> str:
    stats = [(str(path.resolve()), path.stat()) for path in files]
    made_from = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    described = json.dumps([_RECIPE, depth, made_from])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _kept(path: Path) -> Mapping[str, Parameter]:
    content = path.read_bytes()
    # Nobody would notice a weight that the disk has changed.
    if content[:_DIGEST] != hashlib.sha256(content[_DIGEST:]).digest():
        raise SafetensorError(f"{path} is damaged")
    found: Mapping[str, Parameter] = load(content[_DIGEST:])
    return found


def _keep(path: Path, made: Mapping[str, Parameter]) -> None:
    """Write a file that is whole or absent, whoever else writes the same."""
    content = save(dict(made))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as scratch:
        partial = Path(scratch) / path.name
        with partial.open("wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
        partial.replace(path)
