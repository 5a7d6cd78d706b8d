"""Ctrl-C and termination signals, obeyed from the first moment on.

Imports next to nothing, so that the handlers are there before anything slow is imported.
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
    "raise_if_asked",
    "raise_on_signals",
]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked: list[int] = []
"""The signals that have come."""

# timeout(1) sends its signal twice: to the command, and to the group in which it is.
_ONCE = 0.25
"""Seconds in which the same signal counts as one."""
_came: dict[int, float] = {}
"""When each came first, as the monotonic clock tells."""


class Interrupted(BaseException):
    """A signal asked the process to end; no Exception, so that nobody takes it for an error."""

    def __init__(self, signum: int) -> None:
        self.signal = signal.Signals(signum)
        self.exit_code = 128 + signum


def raise_on_signals() -> None:
    """Raise :class:`Interrupted` where the program is when a signal comes.

    Who started the process with a signal ignored, as ``nohup`` and a script's ``&`` do, wants
    it ignored: it stays so.
    """
    sys.unraisablehook = _tell_unraisable
    for signum in _SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _raise)


def raise_if_asked() -> None:
    """Raise :class:`Interrupted` if that was lost when the signal came.

    What is raised while an object is being finalized, Python tells and forgets.
    """
    if _asked:
        raise Interrupted(_asked[0])


@contextmanager
def hold_signals() -> Iterator[None]:
    """Put off what a signal asks for until the end of the block.

    For imports: what is raised while an extension module starts is turned by it into an error
    of its own. And for what must be closed as soon as it is there, and does not take long.
    """
    handlers = {signum: signal.getsignal(signum) for signum in _SIGNALS}
    ours = [signum for signum, handler in handlers.items() if handler is _raise]
    held: list[int] = []
    for signum in ours:
        signal.signal(signum, lambda signum, _: held.append(signum))
    try:
        yield
    finally:
        for signum in ours:
            signal.signal(signum, _raise)
    if held:
        _raise(held[0], None)


@contextmanager
def call_on_signals(call: Callable[[], object]) -> Iterator[None]:
    """Have a signal call something, wherever the program is; a second one ends the process."""

    def handle(signum: int, frame: FrameType | None) -> None:
        _came[signum] = time.monotonic()
        for other in ours:
            signal.signal(other, _exit)
        call()

    ours = [signum for signum in _SIGNALS if signal.getsignal(signum) is _raise]
    for signum in ours:
        signal.signal(signum, handle)
    try:
        yield
    finally:
        for signum in ours:
            signal.signal(signum, _raise)


def ignore_signals() -> None:
    """From here on it is too late to be stopped: what was asked for is done."""
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _tell_unraisable(lost: sys.UnraisableHookArgs) -> None:
    if not isinstance(lost.exc_value, Interrupted):
        sys.__unraisablehook__(lost)


def _raise(signum: int, frame: FrameType | None) -> None:
    _asked.append(signum)
    _came[signum] = time.monotonic()
    # Asked again while the first is being obeyed: no more tidying up.
    for other in _SIGNALS:
        if signal.getsignal(other) is _raise:
            signal.signal(other, _exit)
    raise Interrupted(signum)


def _exit(signum: int, frame: FrameType | None) -> None:
    if time.monotonic() - _came.get(signum, -math.inf) > _ONCE:
        os._exit(128 + signum)
