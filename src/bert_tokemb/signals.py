"""Ctrl-C and termination signals.

The handlers are installed before anything slow is imported, so this module imports little.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = [
    "Interrupted",
    "call_on_signals",
    "hold_signals",
    "ignore_signals",
    "raise_if_interrupted",
    "raise_on_signals",
]

Handler = Callable[[int, FrameType | None], object]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: dict[int, float] = {}
"""When each signal was first received, by the monotonic clock; in order of arrival."""

_DUPLICATE = 0.25
"""Seconds within which the same signal counts once: timeout(1) sends its signal twice, to the
command and to its process group."""


class Interrupted(BaseException):
    """A signal asked the process to stop.

    Like KeyboardInterrupt it is no Exception, so that code that handles errors lets it pass.
    """

    def __init__(self, signum: int) -> None:
        self.signal = signal.Signals(signum)
        self.exit_code = 128 + signum


def raise_on_signals() -> None:
    """Raise :class:`Interrupted` in the main thread when a signal arrives.

    A second signal ends the process at once. Signals that the process was started to ignore, as
    by ``nohup`` or by ``&`` in a script, stay ignored.
    """
    sys.unraisablehook = _ignore_interrupted
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _interrupt)


def raise_if_interrupted() -> None:
    """Raise :class:`Interrupted` again if Python discarded it.

    Python prints and discards exceptions that are raised in finalizers.
    """
    if _received:
        raise Interrupted(next(iter(_received)))


@contextmanager
def hold_signals() -> Iterator[None]:
    """Delay the effect of signals until the end of the block.

    For imports: extension modules turn exceptions that are raised while they initialize into
    errors of their own. And for short steps that acquire something that must be released.
    """
    held: list[int] = []
    with _handler(lambda signum, frame: held.append(signum)):
        yield
    if held:
        _interrupt(held[0], None)


@contextmanager
def call_on_signals(function: Callable[[], object]) -> Iterator[None]:
    """Call a function when a signal arrives; a second signal ends the process at once."""

    def handle(signum: int, frame: FrameType | None) -> None:
        _receive(signum, handle)
        function()

    with _handler(handle):
        yield


def ignore_signals() -> None:
    """Ignore signals from now on: the output is complete."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def _handler(handler: Handler) -> Iterator[None]:
    """Install another handler for the signals that :func:`raise_on_signals` handles."""
    signals = [signum for signum in _SIGNALS if signal.getsignal(signum) is _interrupt]
    try:
        for signum in signals:
            signal.signal(signum, handler)
        yield
    finally:
        for signum in signals:
            signal.signal(signum, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    _receive(signum, _interrupt)
    raise Interrupted(signum)


def _receive(signum: int, handler: Handler) -> None:
    """Record a signal, and let the next one end the process."""
    _received.setdefault(signum, time.monotonic())
    for other in _SIGNALS:
        if signal.getsignal(other) is handler:
            signal.signal(other, _exit)


def _exit(signum: int, frame: FrameType | None) -> None:
    if time.monotonic() - _received.get(signum, -math.inf) > _DUPLICATE:
        os._exit(128 + signum)


def _ignore_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, Interrupted):
        sys.__unraisablehook__(unraisable)
