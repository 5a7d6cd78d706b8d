"""Fixtures of the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A blank line, and a word without pieces."""
    path = tmp_path / "text"
    path.write_text("Hello World !\n\nhank \u200b\n")
    return path
