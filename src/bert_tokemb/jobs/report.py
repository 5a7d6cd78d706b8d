"""What a run met, for a person or a program to read afterwards."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..storage.whole_file import WholeFile
from ..types import Tally

__all__ = ["FORMAT", "write_report"]

FORMAT = "bert-tokemb report 1"
"""What the report calls itself."""


def write_report(file: WholeFile, tally: Tally, more: Mapping[str, Any]) -> None:
    """Write a report of JSON.

    Args:
        file: Where to.
        tally: What was met.
        more: Whatever else is to be told, before that.
    """
    counts = asdict(tally)
    examples = counts.pop("examples")
    told = {
        "format": FORMAT,
        **more,
        "counts": counts,
        "first": {name: list(map(_named, entries)) for name, entries in examples.items()},
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
