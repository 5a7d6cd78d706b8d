"""Piece vectors: joining those of windows, and sampling them for fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..tokenization.windows import Window
from ..types import EncodedBatch, FloatArray, IntArray, Sentence

__all__ = ["join_windows", "sample_components"]

_COMPONENTS = 16


def join_windows(
    sentence: Sentence,
    counts: IntArray,
    unknown: Sequence[bool],
    windows: Sequence[Window],
    vectors: Iterable[FloatArray],
    out: FloatArray,
    *,
    shared: IntArray | None = None,
    special: int = 1,
    inexact: bool = False,
) -> EncodedBatch:
    """Return a long sentence with the vectors that were computed window by window.

    Args:
        sentence: The whole sentence.
        counts: ``(w,)``, the number of pieces of each word.
        unknown: ``(w,)``, whether one of the word's pieces is the unknown piece.
        windows: The windows of its pieces.
        vectors: One ``(t, c)`` array for each window; the first rows belong to special tokens.
        out: ``(p, c)``, where the vectors are stored.
        shared: ``(w,)``, how many pieces of each word also belong to a word before it, or None if
            no piece belongs to several words.
        special: The number of special tokens before the pieces.
        inexact: Whether the alignment is a guess.
    """
    for window, own in zip(windows, vectors, strict=True):
        first_row = special - window.start
        out[window.kept_start : window.kept_end] = own[
            first_row + window.kept_start : first_row + window.kept_end
        ]
    starts: IntArray = np.cumsum(counts) - counts
    if shared is not None:
        starts -= np.cumsum(shared)
    return EncodedBatch(
        sentences=[sentence],
        vectors=out,
        starts=starts,
        counts=counts,
        unknown=np.asarray(unknown, np.bool_),
        inexact=[sentence.line] if inexact else (),
        shared=[sentence.line] if shared is not None else (),
        windowed=True,
    )


def sample_components(vectors: FloatArray) -> list[float]:
    """Return some components, rounded, that distinguish the vectors from another model's."""
    components = vectors.astype(np.float64).ravel()
    step = max(1, len(components) // _COMPONENTS)
    return [round(component, 6) for component in components[::step].tolist()]
