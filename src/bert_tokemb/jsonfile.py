"""Reading the JSON files that come with a model, which may be damaged in any way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import ModelError

__all__ = ["flag", "read_json"]


def read_json(path: Path) -> Mapping[str, Any]:
    """Read a JSON file that must hold an object.

    Raises:
        ModelError: it cannot be read, or is something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    # A file of brackets only makes the parser recurse.
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: it is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged: it holds no JSON object")
    return found


def flag(path: Path, found: Mapping[str, Any], name: str, *, nullable: bool = False) -> bool | None:
    """Return a setting that must be true or false, or None where there is none.

    Args:
        path: Where it was found, for the message.
        found: All settings there.
        name: Which one.
        nullable: Whether ``null`` is as good as none.

    Raises:
        ModelError: it is something else.
    """
    value = found.get(name)
    if isinstance(value, bool) or name not in found or (value is None and nullable):
        return value
    raise ModelError(f"{path} is damaged: {name} is {value!r:.40}, neither true nor false")
