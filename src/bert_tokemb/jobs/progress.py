"""The progress bar on standard error."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

from ..humanize import format_count
from ..text.reader import TextSize
from ..types import Tally

__all__ = ["Progress"]

_INTERVAL = 0.2  # seconds between two updates of the rate
_KNOWN_SIZE = "{l_bar}{bar}| {remaining} left{postfix}"
_UNKNOWN_SIZE = "{n_fmt}{unit} [{elapsed}{postfix}]"


class Progress:
    """Shows how many words have been encoded, if standard error is a terminal; a context manager.

    Args:
        size: Size of the text, or None if it is unknown.
        resumed: What an earlier run has written.
        quiet: Whether to show nothing at all.
    """

    def __init__(self, size: TextSize | None, resumed: Tally, *, quiet: bool) -> None:
        self._sentences = resumed.sentences
        self._words = 0
        self._start = self._updated = time.monotonic()
        self._bar = tqdm(
            total=size.words if size else None,
            initial=resumed.words,
            unit=" words",
            unit_scale=True,
            file=sys.stderr,
            disable=True if quiet or sys.stderr is None else None,
            bar_format=_KNOWN_SIZE if size else _UNKNOWN_SIZE,
        )

    def advance(self, sentences: int, words: int) -> None:
        """Show that a batch has been encoded."""
        self._bar.update(words)
        self._sentences += sentences
        self._words += words
        if time.monotonic() - self._updated >= _INTERVAL:
            self._show_rate()

    def reach(self, tally: Tally) -> None:
        """Show that this much has been written; repeated sentences are encoded only once."""
        self._bar.update(max(0, tally.words - self._bar.n))
        self._sentences = max(self._sentences, tally.sentences)

    def _show_rate(self) -> None:
        self._updated = time.monotonic()
        rate = self._words / max(self._updated - self._start, 1e-9)
        shown = f"{format_count(self._sentences, 'sentence')}, {rate:,.0f} words/s"
        self._bar.set_postfix_str(shown, refresh=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._show_rate()
        self._bar.close()
