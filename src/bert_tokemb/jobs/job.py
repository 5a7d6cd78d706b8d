"""One run of ``bert-tokemb embed``: from a text to a result."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

from ..pipeline import Pipeline
from ..signals import ignore_signals, raise_if_interrupted
from ..storage.workspace import atomic_file
from ..strategies import load_strategy
from ..text.reader import TextInput
from ..types import Encoder
from .disk_space import DiskSpace
from .options import EmbedOptions
from .progress import Progress
from .report import report_json, summary
from .resume import ResultIdentity, open_output, resume_or_start

__all__ = ["run_job"]


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
    started = time.monotonic()
    strategy = load_strategy(options.strategy)
    with ExitStack() as stack:
        text = stack.enter_context(TextInput(options.input_name))
        report = options.report_name and stack.enter_context(atomic_file(options.report_name))
        output = stack.enter_context(open_output(options, text))
        encoder = stack.enter_context(open_encoder())
        identity = ResultIdentity.of(options, output.format, encoder)
        size = text.measure()
        disk = DiskSpace(output, options)
        disk.check(identity.content, size)
        tally = resume_or_start(options, text, output, identity)
        resumed = replace(tally)
        if resumed.lines:
            say(f"bert-tokemb: resuming at sentence {resumed.sentences + 1}")
        pipeline = Pipeline(
            encoder,
            strategy,
            keep_blank_lines=options.blank_lines == "keep",
            strict=options.strict,
            allow_nonfinite=options.allow_nonfinite,
            look_ahead=options.look_ahead,
        )
        with Progress(size, resumed, quiet=options.quiet) as progress:
            for chunk in pipeline.chunks(
                text, tally, record=text.resume_point, progress=progress.advance
            ):
                for sentence in chunk.sentences:
                    raise_if_interrupted()
                    output.write(sentence.astype(identity.content.dtype))
                if text.is_rereadable:
                    output.checkpoint(identity.state(chunk.resume_point, tally))
                progress.reach(tally)
                disk.watch(tally)
        output.finish()
        ignore_signals()
        output.commit()
        seconds = time.monotonic() - started
        say(summary(text.name, output, tally, resumed, seconds))
        if report:
            report.write(report_json(text.name, output, identity, tally, resumed, seconds))
