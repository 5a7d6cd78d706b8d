"""By what a model is known again."""

from __future__ import annotations

import numpy as np

from ..types import FloatArray

__all__ = ["some_numbers"]

_NUMBERS = 16


def some_numbers(vectors: FloatArray) -> list[float]:
    """Pick a few numbers, by which vectors can be told from those of another model."""
    numbers = vectors.astype(np.float64).ravel()
    step = max(1, len(numbers) // _NUMBERS)
    return [round(number, 6) for number in numbers[::step].tolist()]
