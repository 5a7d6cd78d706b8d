"""Interrupted runs: the same command goes on where it stopped.

A text is embedded a stretch of lines at a time. With the engine nothing of a stretch depends on
those before it: so a run that goes on behind a whole stretch writes, bit for bit, what it would
have written undisturbed. A server's last bits depend on how it pads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from ..formats.base import Content, Output
from ..humanize import format_count
from ..signals import ignore_signals
from ..storage.journal import Journal
from ..text.reader import Bookmark, TextInput
from ..types import Tally

__all__ = ["Continuation", "check_format"]

_log = logging.getLogger(__name__)

# A model's vectors differ by less from run to run, and by more from another model's.
_TOLERANCE = 1e-3

_FINGERPRINT = {
    "vocabulary": "the model has another vocabulary",
    "weights": "the model has other weights",
    "vectors": "the model gives other vectors",
    "strategy": "the strategy's file has changed",
}
"""What it means when one of these differs."""


@dataclass(slots=True)
class Continuation:
    """What ties the text, its result and the journal together; any of them may not allow it."""

    text: TextInput
    output: Output
    journal: Journal | None
    """None for a result of which no journal can be kept."""
    is_running: bool = False
    """Whether anything may have been written yet."""

    def begin(self, asked: Mapping[str, Any], content: Content, *, restart: bool) -> Tally:
        """Go on where an interrupted run stopped, or begin.

        Args:
            asked: What decides the result, besides the text: names and values that JSON has.
            content: What the output will hold.
            restart: Whether to begin in any case.

        Returns:
            What was met before: nothing, where it begins.

        Raises:
            UsageError: the interrupted run was another one.
        """
        if self.journal and not restart and self._can_go_on:
            if before := self._go_on(self.journal, asked, content):
                self.is_running = True
                return before
        elif self.journal and not restart:
            self._begin_anew(self.journal)
        self.output.keep(False)
        self.output.begin(content)
        if self.journal:
            self.journal.begin(asked)
        self.is_running = True
        return Tally()

    def _go_on(self, journal: Journal, asked: Mapping[str, Any], content: Content) -> Tally | None:
        """Find the place where an interrupted run stopped, if there is one."""
        if (reached := journal.reached) is None:
            return None
        _check(self.output.name, journal.asked or {}, asked)
        if not self.text.skip_to(Bookmark(**reached["text"])):
            raise UsageError(
                f"the first {format_count(reached['text']['lines'], 'line')} of {self.text.name} "
                f"are not those any more of which {self.output.name} was begun: give --restart to "
                "begin anew"
            )
        if self.output.begin(content, reached["output"]):
            return Tally(**reached["tally"])
        _log.warning("beginning anew: what an interrupted run has left is not whole")
        self.text.rewind()
        return None

    def _begin_anew(self, journal: Journal) -> None:
        """Say so, unless another run has left what is of use."""
        if journal.reached:
            raise UsageError(
                f"{journal.name} was begun by another command ({self._why_not}): run that one "
                "again to go on, or give --restart to begin anew"
            )
        if journal.asked:
            _log.warning("beginning anew: %s", self._why_not)

    @property
    def _can_go_on(self) -> bool:
        return self.output.can_go_on and self.text.can_be_read_again

    @property
    def _why_not(self) -> str:
        if self.output.can_go_on:
            return "a stream cannot be read again"
        return "only .pkl and .npyd can be continued"

    def note(self, mark: Bookmark, tally: Tally) -> None:
        """Note that all up to a place in the text has been written."""
        if self.journal and self._can_go_on:
            reached = {
                "text": asdict(mark),
                "output": dict(self.output.position()),
                "tally": asdict(tally),
            }
            self.journal.note(reached, self.output.sync)

    @contextmanager
    def writing(self) -> Iterator[Continuation]:
        """Complete the output at the end; keep what an exception leaves, if that is of use."""
        with ExitStack() as stack:
            stack.push(self._tell_what_is_kept)  # when the output is closed
            stack.enter_context(self.output)
            try:
                yield self
            finally:
                self._settle()
            self.output.finish()
            if self.output.is_file:
                self.output.sync()
            ignore_signals()  # what is left takes no time, and is done or not

    def _settle(self) -> None:
        if self.journal is None:
            self.output.keep(False)
            return
        try:
            self.journal.settle()
        finally:
            self.journal.settle()  # the first may have been interrupted when it waited
            # Completing the output may fail too, or be interrupted.
            self.output.keep(self.journal.is_of_use)

    def _tell_what_is_kept(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None or not self.is_running or self.journal is None:
            return
        reached = self.journal.reached
        if reached and self.journal.is_of_use:
            sentences = reached["tally"]["sentences"]
            kept = format_count(sentences, "sentence is", "sentences are")
            _log.warning("%s kept, the same command goes on behind them", kept)
        elif not self.output.can_go_on:
            _log.warning("nothing is kept: %s", self._why_not)


def check_format(journal: Journal, kind: str) -> None:
    """See beforehand whether a result is of the format in which it was begun.

    Raises:
        UsageError: it is not.
    """
    if journal.asked and journal.reached:
        _check(journal.name, {"format": journal.asked.get("format")}, {"format": kind})


def _check(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = list(_changes(before, now))
    if changed:
        raise UsageError(
            f"{name} was begun by another command ({'; '.join(changed)}): run that one again to "
            "go on, or give --restart to begin anew"
        )


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs; nothing that only follows from something else that does."""
    differing = [key for key in {**before, **now} if not _is_same(before.get(key), now.get(key))]
    options = [key for key in differing if key != "fingerprint"]
    for key in ["encoder"] if "encoder" in options else options:
        yield f"{key} was {before.get(key)} and is {now.get(key)}"
    if differing == ["fingerprint"]:
        one, other = before.get("fingerprint") or {}, now.get("fingerprint") or {}
        for key, meaning in _FINGERPRINT.items():
            if not _is_same(one.get(key), other.get(key)):
                yield meaning


def _is_same(before: Any, now: Any) -> bool:
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return all(_is_same(before[key], now[key]) for key in before)
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(map(_is_same, before, now))
    if isinstance(before, float) and isinstance(now, float):
        return math.isclose(before, now, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(before == now)
