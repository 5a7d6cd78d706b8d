"""One run of ``bert-tokemb embed``: from a text to a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ..formats.base import Content, SentenceShape
from ..formats.output import Output
from ..formats.registry import format_of
from ..pipeline import LOOK_AHEAD, Pipeline
from ..signals import raise_if_asked
from ..storage.target import OutputTarget
from ..storage.workspace import atomic_file
from ..strategies import load_strategy
from ..text.reader import TextInput
from ..types import Encoder, LongSentences
from .disk_space import DiskSpace
from .progress import Progress
from .report import report_json, summary
from .resume import command_of, log_what_is_kept, resume_or_start, state_of

__all__ = ["EmbedOptions", "run_job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedOptions:
    """What the user asked for, except the encoder; see ``bert-tokemb embed --help``."""

    input_name: str
    output_name: str
    output_format: str | None = None
    hdf5_shape: SentenceShape = "2d"
    dtype: str | None = None
    strategy: str = "avg"
    blank_lines: Literal["keep", "skip"] = "keep"
    strict: bool = False
    long_sentences: LongSentences = "window"
    restart: bool = False
    disk_check: bool = True
    report_name: str | None = None
    quiet: bool = False
    look_ahead: int = LOOK_AHEAD


def run_job(
    options: EmbedOptions,
    open_encoder: Callable[[], AbstractContextManager[Encoder[Any]]],
    say: Callable[[str], None],
) -> None:
    """Embed a text.

    Args:
        options: What to embed, where to write it, and how.
        open_encoder: Called after the input and the output have been opened.
        say: Prints a line.

    Raises:
        TokembError: if anything but a bug prevents the result.
    """
    started = time.time()
    strategy = load_strategy(options.strategy)
    target = OutputTarget.resolve(options.output_name)
    format = format_of(options.output_name, options.output_format)
    with ExitStack() as stack:
        text = stack.enter_context(TextInput(options.input_name))
        report = options.report_name and stack.enter_context(atomic_file(options.report_name))
        output = Output(target, format, restart=options.restart)
        stack.push(log_what_is_kept(output, text))
        stack.enter_context(output)
        encoder = stack.enter_context(open_encoder())
        dtype = np.dtype(options.dtype or encoder.dtype)
        command = command_of(options, format, dtype, encoder)
        about = {**encoder.source, **command.described}
        content = Content(encoder.width, dtype, about, options.hdf5_shape)
        disk = DiskSpace(output, content, enabled=options.disk_check)
        size = text.measure()
        disk.check(size, is_resuming=not options.restart)
        tally = resume_or_start(options, text, output, command, content)
        resumed = replace(tally)
        if resumed.lines:
            say(f"bert-tokemb: resuming at sentence {resumed.sentences + 1}")
        pipeline = Pipeline(
            encoder,
            strategy,
            keep_blank_lines=options.blank_lines == "keep",
            strict=options.strict,
            look_ahead=options.look_ahead,
        )
        with Progress(size, resumed, quiet=options.quiet) as progress:
            for chunk in pipeline.chunks(
                text,
                tally,
                first_line=tally.lines + 1,
                record=text.resume_point,
                progress=progress.advance,
            ):
                for sentence in chunk.sentences:
                    raise_if_asked()
                    output.write(sentence.astype(dtype))
                if text.is_rereadable:
                    output.checkpoint(state_of(command, chunk.resume_point, tally))
                progress.reach(tally)
                disk.watch(tally)
        output.complete()
        seconds = time.time() - started
        say(summary(text.name, output, tally, resumed, seconds))
        if report:
            report.write(report_json(text.name, output, content, tally, resumed, started, seconds))
