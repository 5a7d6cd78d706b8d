"""The vectors of a long sentence, out of those of its windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..tokenization.windows import Window
from ..types import EncodedBatch, FloatArray, IntArray, Sentence

__all__ = ["joined"]


def joined(
    sentence: Sentence,
    counts: IntArray,
    unknown: Sequence[bool],
    windows: Sequence[Window],
    vectors: Iterable[FloatArray],
    kept: FloatArray,
) -> EncodedBatch:
    """Bring together what was computed in windows.

    Args:
        sentence: The whole of it.
        counts: ``(w,)``, the pieces of each word.
        unknown: ``(w,)``, whether one of them is ``[UNK]``.
        windows: Of its pieces.
        vectors: For each window ``(t, c)``, that of ``[CLS]`` first.
        kept: ``(p, c)``, to be filled.
    """
    for window, own in zip(windows, vectors, strict=True):
        first = 1 - window.start
        kept[window.kept_start : window.kept_end] = own[
            first + window.kept_start : first + window.kept_end
        ]
    return EncodedBatch(
        sentences=[sentence],
        vectors=kept,
        starts=np.cumsum(counts) - counts,
        counts=counts,
        unknown=np.asarray(unknown, np.bool_),
        windowed=True,
    )
