"""Resuming an interrupted run.

The text is embedded in chunks of lines, and no chunk depends on those before it. A run that
resumes after a complete chunk therefore writes the bytes that an uninterrupted run would have
written. (With a server, the last bits of a vector may depend on the padding.)
"""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from ..errors import ResumeError
from ..formats.base import Content
from ..formats.output import Output
from ..formats.registry import Format, format_of
from ..humanize import format_count
from ..storage.target import OutputTarget
from ..strategies import source_digest
from ..text.reader import ResumePoint, TextInput
from ..types import Encoder, Tally
from .options import EmbedOptions

__all__ = ["ResultIdentity", "open_output", "resume_or_start"]

_log = logging.getLogger(__name__)

# The vectors of one model differ by less between machines, those of two models by more.
_TOLERANCE = 1e-3

_FINGERPRINT = {
    "vocabulary": "the model has another vocabulary",
    "tokenizer": "the model has another tokenizer",
    "weights": "the model has other weights",
    "vectors": "the model returns other vectors",
    "strategy": "the file of the strategy has changed",
}
"""What a difference in an entry of the fingerprint means."""


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """The settings and fingerprints that determine a result, except the text; JSON values."""

    content: Content
    settings: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    """What identifies the model and the strategy."""

    @classmethod
    def of(cls, options: EmbedOptions, format: Format, encoder: Encoder[Any]) -> ResultIdentity:
        """Collect what determines the result of a run."""
        dtype = np.dtype(options.dtype or encoder.dtype)
        settings = {
            "version": version("bert-tokemb"),
            "unicode": unicodedata.unidata_version,  # decides how words become basic tokens
            "format": format.name,
            **({"separate_layers": True} if options.separate_layers else {}),
            "dtype": dtype.name,
            "strategy": options.strategy,
            "blank_lines": options.blank_lines,
            "allow_nonfinite": options.allow_nonfinite,
            **encoder.settings,
        }
        # These determine whether there is a result, but not which.
        refusals = {"strict": options.strict, "long_sentences": options.long_sentences}
        about = {**encoder.source, **settings, **refusals}
        fingerprint = {**encoder.fingerprint(), "strategy": source_digest(options.strategy)}
        layers = encoder.layers if options.separate_layers else ()
        content = Content(encoder.width, dtype, about, layers)
        return cls(content, settings, fingerprint)

    def state(self, resume_point: ResumePoint, tally: Tally) -> Mapping[str, Any]:
        """Return what a later run needs to resume, in JSON values."""
        return {
            "settings": self.settings,
            "fingerprint": self.fingerprint,
            "text": asdict(resume_point),
            "tally": asdict(tally),
        }


@contextmanager
def open_output(options: EmbedOptions, text: TextInput) -> Iterator[Output]:
    """Open the output of a run, and say what an interrupted run leaves."""
    target = OutputTarget.resolve(options.output_name)
    format = format_of(options.output_name, options.output_format)
    output = Output(target, format, restart=options.restart)
    try:
        with output:
            yield output
    finally:
        if output.is_started and not output.is_complete and not target.is_stream:
            _log_what_is_kept(output, text)


def resume_or_start(
    options: EmbedOptions, text: TextInput, output: Output, identity: ResultIdentity
) -> Tally:
    """Resume the run that was interrupted while it wrote the output, or start.

    Returns:
        What the interrupted run has written, or an empty tally.

    Raises:
        ResumeError: if there is a partial output of a different command or text.
    """
    state = output.saved_state
    if state is None or options.restart:
        if output.leftover and not output.is_resumable:
            _log.warning("starting over: %s", _why_not_resumable(output, text))
        output.start(identity.content)
        return Tally()
    name = output.target.name
    if changes := list(_changes(state, identity)):
        raise ResumeError(name, changes)
    if not text.is_rereadable:
        raise ResumeError(name, [_why_not_resumable(output, text)])
    tally = Tally(**state["tally"])
    _check_refusals(name, options, tally)
    if not text.resume_at(ResumePoint(**state["text"])):
        lines = format_count(tally.lines, "line")
        raise ResumeError(name, [f"the first {lines} of {text.name} have changed since"])
    output.start(identity.content, state["position"])
    return tally


def _log_what_is_kept(output: Output, text: TextInput) -> None:
    if state := output.saved_state:
        kept = format_count(state["tally"]["sentences"], "sentence")
        _log.warning("kept %s; run the same command again to resume", kept)
    elif why := _why_not_resumable(output, text):
        _log.warning("kept nothing: %s", why)


def _why_not_resumable(output: Output, text: TextInput) -> str:
    if not output.is_resumable:
        return "only .pkl and .npyd results can be resumed"
    return "" if text.is_rereadable else f"{text.name} is a stream, which cannot be read again"


def _check_refusals(name: str, options: EmbedOptions, tally: Tally) -> None:
    """Raise if the interrupted run has written what this run refuses."""
    refused = []
    if options.strict and (words := tally.unknown_words + tally.empty_words):
        refused.append(format_count(words, "unknown or empty word"))
    if options.long_sentences == "error" and tally.windowed_sentences:
        refused.append(format_count(tally.windowed_sentences, "long sentence"))
    if refused:
        found = f"it contains {' and '.join(refused)}, which this run refuses"
        raise ResumeError(name, [found], "refused sentences")


def _changes(state: Mapping[str, Any], identity: ResultIdentity) -> Iterator[str]:
    """Describe the differences from an interrupted run, but none that follow from another."""
    before, now = state["settings"], identity.settings
    names = [name for name in {**before, **now} if not _equal(before.get(name), now.get(name))]
    for name in ["encoder"] if "encoder" in names else names:
        yield f"{name} was {before.get(name)} and is {now.get(name)}"
    if not names:
        for name, meaning in _FINGERPRINT.items():
            if not _equal(state["fingerprint"].get(name), identity.fingerprint.get(name)):
                yield meaning


def _equal(before: Any, now: Any) -> bool:
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(map(_equal, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(before == now)
