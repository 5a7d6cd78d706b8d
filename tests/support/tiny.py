"""The tiny model that most tests use, and helpers that load, run and damage it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb import embed
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.errors import ModelError, UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.loading import load_model

from .models import TINY, random_weights, toy_vocabulary, write_hugging_face

__all__ = [
    "CASED_VOCABULARY",
    "PIECES",
    "PIECE_IDS",
    "VOCABULARY",
    "WEIGHTS",
    "refusal",
    "rewrite",
    "run",
    "some_ids",
    "start",
    "used_or_refused",
    "write_tiny",
]

Array = np.ndarray[Any, Any]

VOCABULARY = toy_vocabulary(cased=False)
CASED_VOCABULARY = toy_vocabulary(cased=True)
PIECES = len(VOCABULARY)
PIECE_IDS = {piece: i for i, piece in enumerate(VOCABULARY)}
WEIGHTS = random_weights(TINY, PIECES)


def write_tiny(directory: Path, **options: Any) -> Path:
    """Write the model; see :func:`support.models.write_hugging_face`."""
    return write_hugging_face(directory, TINY, VOCABULARY, WEIGHTS, **options)


def start(directory: Path, layers: Sequence[int] = (-1,), **options: Any) -> Engine:
    """Load a model and start its engine; ``cased`` and the options of the engine are optional."""
    cased = options.pop("cased", None)
    return Engine(load_model(str(directory), cased=cased), layers, **options)


def some_ids(b: int = 3, t: int = 17, pieces: int = PIECES) -> Array:
    """Return ``(b, t)`` random ids of pieces."""
    return np.random.default_rng(b * t).integers(0, pieces, (b, t)).astype(np.int32)


def run(engine: Engine, ids: Array, types: Array | None = None, mask: Array | None = None) -> Array:
    """Return the vectors of pieces, by default with token type 0 and without padding."""
    zeros, ones = np.zeros_like(ids), np.ones_like(ids)
    return engine.run(ids, zeros if types is None else types, ones if mask is None else mask)


def refusal(directory: Path, **options: Any) -> str:
    """Load an invalid model, and return the error message without the directory."""
    with pytest.raises((ModelError, UsageError)) as caught:
        start(directory, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{directory}/", "").replace(str(directory), "DIR")


def rewrite(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; ``...`` removes a field."""
    found = {**json.loads(path.read_text("utf-8")), **changes}
    kept = {name: value for name, value in found.items() if value is not ...}
    path.write_text(json.dumps(kept), "utf-8")


def used_or_refused(directory: Path) -> None:
    """Check that a model either embeds a sentence or is rejected with a one-line error."""
    try:
        started = start(directory)
        with LocalEncoder(started) as encoder:
            assert next(embed(["hello É東 ☃"], encoder)).shape[0] == 3
    except (ModelError, UsageError) as error:
        assert "\n" not in str(error)  # noqa: PT017
