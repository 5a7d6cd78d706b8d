"""Reads the JSON files that come with a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import PARSER_ERRORS, ModelError, translate

__all__ = ["flag", "read_json"]


def read_json(path: Path) -> Mapping[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        ModelError: if the file cannot be read, is not JSON, or holds something else.
    """
    with translate(
        ModelError, f"read {path}", damage=PARSER_ERRORS, damaged=f"{path} is damaged: invalid JSON"
    ):
        content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ModelError(f"{path} is damaged: it does not hold a JSON object")
    return content


def flag(
    path: Path, settings: Mapping[str, Any], name: str, *, nullable: bool = False
) -> bool | None:
    """Return a setting that is true or false, or None if it is absent.

    Args:
        path: The file of the settings, for the error message.
        settings: All settings of the file.
        name: The name of the setting.
        nullable: Whether ``null`` means the same as absent.

    Raises:
        ModelError: if the setting is neither true nor false.
    """
    value = settings.get(name)
    if isinstance(value, bool) or name not in settings or (value is None and nullable):
        return value
    raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, neither true nor false")
