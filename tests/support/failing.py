"""Campaigns that fail; forked processes can import them from here, but not from a test."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from random import Random

__all__ = ["crashes", "finds_an_error", "hangs"]


def finds_an_error(random: Random, directory: Path) -> int:
    """Fail in a case."""
    (directory / "case").write_text("the number 7")
    raise AssertionError(f"drew {random.randrange(1000)}")


def crashes(random: Random, directory: Path) -> int:
    """End the process."""
    signal.raise_signal(signal.SIGKILL)
    return 1


def hangs(random: Random, directory: Path) -> int:
    """Return after any time-out."""
    time.sleep(600)
    return 1
