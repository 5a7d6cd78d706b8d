"""Running ``bert-tokemb`` and reading what it wrote."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np

__all__ = ["ROOT", "Command", "load"]

ROOT = Path(__file__).parents[2]
"""The repository."""

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def load(path: Path) -> list[np.ndarray]:
    """Read a pickled result."""
    return pickle.loads(path.read_bytes())
