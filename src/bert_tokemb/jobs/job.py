"""One run of ``bert-tokemb embed``: a text in, a result out."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from ..errors import UsageError
from ..formats.base import Content, Output
from ..formats.hdf5 import Hdf5Shape
from ..formats.registry import format_of, open_output
from ..humanize import format_count
from ..pipeline import LOOK_AHEAD, Pipeline
from ..signals import hold_signals, raise_if_asked
from ..storage.journal import open_journal
from ..storage.whole_file import WholeFile
from ..strategies import load_strategy, source_digest
from ..text.reader import TextInput, TextSize
from ..types import Encoder, Tally
from .disk_space import check_room, warn_of_room
from .progress import Progress, summary
from .report import write_report
from .resume import Continuation, check_format

__all__ = ["Asked", "run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command was asked, its encoder aside."""

    input_name: str
    output_name: str
    output_format: str | None = None
    hdf5_shape: Hdf5Shape = "2d"
    dtype: str | None = None
    strategy: str = "avg"
    blank_lines: Literal["keep", "skip"] = "keep"
    strict: bool = False
    long_sentences: str = "window"
    restart: bool = False
    disk_check: bool = True
    report_name: str | None = None
    quiet: bool = False


def run(
    asked: Asked,
    open_encoder: Callable[[], AbstractContextManager[Encoder[Any]]],
    tell: Callable[[str], None],
) -> None:
    """Embed a text.

    Args:
        asked: What from, where to, and how.
        open_encoder: Called when all else is known to be there.
        tell: Tells a line, unless it is to be quiet.

    Raises:
        TokembError: whatever can go wrong.
    """
    begin, clock = datetime.now(timezone.utc), time.monotonic()
    kind = format_of(asked.output_name, asked.output_format)
    strategy = load_strategy(asked.strategy)
    with ExitStack() as stack:
        text = stack.enter_context(TextInput(asked.input_name))
        report = stack.enter_context(WholeFile(asked.report_name)) if asked.report_name else None
        with hold_signals():  # or it would be left there
            if journal := open_journal(asked.output_name):
                stack.enter_context(journal)
        if journal and not asked.restart:
            check_format(journal, kind)
        output = open_output(asked.output_name, kind, hdf5_shape=asked.hdf5_shape)
        with (
            Continuation(text, output, journal).writing() as continuation,
            open_encoder() as encoder,
        ):
            dtype = np.dtype(asked.dtype or encoder.dtype)
            decisive = _decisive(asked, kind, dtype, encoder)
            about = {**encoder.source, **decisive, **_refusals(asked)}
            del about["fingerprint"]  # it tells people nothing
            size = text.measure()
            is_begun = bool(journal and journal.reached and not asked.restart)
            room = _Room(asked, output, encoder.width, dtype, is_begun=is_begun)
            room.check(size)
            tally = continuation.begin(
                decisive, Content(encoder.width, dtype, about), restart=asked.restart
            )
            before = replace(tally)
            if before.lines:
                _refuse_what_was_taken(asked, before)
                tell(f"bert-tokemb: continuing at sentence {before.sentences + 1}")
            with Progress(size.words if size else None, quiet=asked.quiet) as progress:
                progress.reach(before)
                pipeline = Pipeline(
                    encoder,
                    strategy,
                    keep_blank_lines=asked.blank_lines == "keep",
                    strict=asked.strict,
                    look_ahead=LOOK_AHEAD,
                )
                for chunk in pipeline.chunks(
                    text,
                    tally,
                    first_line=before.lines + 1,
                    record=text.bookmark,
                    progress=progress.advance,
                ):
                    for sentence in chunk.sentences:
                        raise_if_asked()
                        output.write(sentence.astype(dtype))
                    continuation.note(chunk.resume_point, tally)
                    progress.reach(tally)
                    room.watch(tally)
        if journal:
            journal.done()
        seconds = time.monotonic() - clock
        # Before the report, which may fail.
        tell(summary(text.name, tally, output.name, output.size, seconds, before=before))
        if report:
            run_of = {
                "input": text.name,
                "output": output.name,
                "bytes": output.size,
                "width": encoder.width,
                "begin": begin.isoformat(timespec="seconds"),
                "seconds": round(seconds, 3),
                "sentences_taken_over": before.sentences,
                "words_taken_over": before.words,
            }
            write_report(report, tally, {**run_of, "asked": about})


def _decisive(
    asked: Asked, kind: str, dtype: np.dtype[Any], encoder: Encoder[Any]
) -> Mapping[str, Any]:
    """Return what decides the result, besides the text."""
    return {
        "version": version("bert-tokemb"),
        "unicode": unicodedata.unidata_version,  # where words fall into basic tokens
        "format": kind,
        **({"hdf5_shape": asked.hdf5_shape} if kind == "h5" else {}),
        "dtype": dtype.name,
        "strategy": asked.strategy,
        "blank_lines": asked.blank_lines,
        **encoder.settings,
        "fingerprint": {**encoder.fingerprint(), "strategy": source_digest(asked.strategy)},
    }


def _refusals(asked: Asked) -> Mapping[str, Any]:
    """Return what decides whether there is a result, but not which."""
    return {"strict": asked.strict, "long_sentences": asked.long_sentences}


def _refuse_what_was_taken(asked: Asked, before: Tally) -> None:
    """See that an interrupted run has met nothing that this one is to refuse."""
    odd_words = before.unknown_words + before.empty_words
    for option, is_given, met, what in (
        ("--strict", asked.strict, odd_words, "unknown or empty word"),
        (
            "--long-sentences error",
            asked.long_sentences == "error",
            before.windowed_sentences,
            "long sentence",
        ),
    ):
        if is_given and met:
            raise UsageError(
                f"{option} refuses {format_count(met, what)} that an interrupted run has written "
                f"already: give --restart to begin anew, or go on without {option}"
            )


@dataclass(slots=True)
class _Room:
    """Whether the disk can hold the result: known beforehand, or watched."""

    asked: Asked
    output: Output
    width: int
    dtype: np.dtype[Any]
    is_begun: bool
    """Whether it goes on with what is there, and only in its type."""
    is_watched: bool = False

    def check(self, size: TextSize | None) -> None:
        if not self.asked.disk_check or not self.output.is_file:
            return
        if size is None:
            self.is_watched = True
            return
        rows = size.words * self.width * self.dtype.itemsize
        sentences = size.lines * self.output.bytes_per_sentence
        can_be_smaller = self.dtype != np.float16 and not self.is_begun
        advice = "give --dtype float16, " if can_be_smaller else ""
        check_room(self.asked.output_name, rows + sentences - self.output.left, advice)

    def watch(self, counts: Tally) -> None:
        if self.is_watched and warn_of_room(self.asked.output_name, counts.words, self.output.size):
            self.is_watched = False
