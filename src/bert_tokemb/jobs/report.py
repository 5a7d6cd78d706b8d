"""What a run reports at the end: the closing line, and JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..formats.output import Output
from ..humanize import format_bytes, format_count
from ..types import Tally
from .resume import ResultIdentity

__all__ = ["FORMAT", "report_json", "summary"]

FORMAT = "bert-tokemb report 2"
"""The name and version of the report's format."""


def summary(text: str, output: Output, tally: Tally, resumed: Tally, seconds: float) -> str:
    """Return the closing line of a run.

    Args:
        text: The name of the input.
        output: The result.
        tally: Counts of the whole text.
        resumed: Counts of the part that an earlier run has written.
        seconds: Duration of the run.
    """
    if not tally.lines:
        return f"{text} is empty: wrote an empty result to {output.target.name}"
    rate = (tally.words - resumed.words) / seconds
    line = (
        f"{format_count(tally.sentences, 'sentence')}, {format_count(tally.words, 'word')} -> "
        f"{output.target.name} ({format_bytes(output.size)}) in {seconds:.1f} s, "
        f"{rate:,.0f} words/s"
    )
    notes = [
        format_count(number, *nouns)
        for number, *nouns in (
            (resumed.sentences, "sentence resumed", "sentences resumed"),
            (tally.blank_lines, "blank line"),
            (tally.unknown_words, "unknown word"),
            (tally.empty_words, "word without pieces", "words without pieces"),
            (tally.nonfinite_words, "word with NaN or infinity", "words with NaN or infinity"),
            (tally.windowed_sentences, "sentence in windows", "sentences in windows"),
            (
                tally.shared_sentences,
                "sentence with shared pieces",
                "sentences with shared pieces",
            ),
            (
                tally.inexact_sentences,
                "sentence aligned inexactly",
                "sentences aligned inexactly",
            ),
        )
        if number
    ]
    return f"{line}; {', '.join(notes)}" if notes else line


def report_json(
    text: str,
    output: Output,
    identity: ResultIdentity,
    tally: Tally,
    resumed: Tally,
    seconds: float,
) -> bytes:
    """Return the JSON report of a run.

    Args:
        identity: The settings of the run.

    The other arguments are those of :func:`summary`.
    """
    counts = asdict(tally)
    examples = counts.pop("examples")
    report = {
        "format": FORMAT,
        "input": text,
        "output": output.target.name,
        "bytes": output.size,
        "width": identity.content.width,
        "started": (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat(
            timespec="seconds"
        ),
        "seconds": round(seconds, 3),
        "sentences_resumed": resumed.sentences,
        "words_resumed": resumed.words,
        "options": identity.content.about,
        "counts": counts,
        "first": {kind: list(map(_example, found)) for kind, found in examples.items()},
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }
    # A file name that is not UTF-8 contains surrogates, which become JSON's own escapes.
    encoded = json.dumps(report, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
    return encoded + b"\n"


def _example(found: int | list[Any]) -> int | dict[str, Any]:
    return found if isinstance(found, int) else {"line": found[0], "word": found[1]}


def _versions() -> Iterator[tuple[str, str]]:
    for package in ("bert-tokemb", "numpy", "onnxruntime", "bert-serving-client"):
        with suppress(PackageNotFoundError):
            yield package.replace("-", "_"), version(package)
