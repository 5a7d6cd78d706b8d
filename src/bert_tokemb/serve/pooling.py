"""From the vectors of a sentence's pieces to what a server gives for it.

What each strategy computes is that of ``bert_serving/server/graph.py``, version 1.10.0; so are
the names and the numbers, which clients read in ``server_config``.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from ..types import FloatArray, IntArray

__all__ = ["Pooling", "pool"]

# What takes a hidden piece out of every maximum.
_FAR = np.float32(1e30)
# What keeps a mean of no pieces from dividing by nothing.
_LITTLE = np.float32(1e-10)


class Pooling(Enum):
    """The strategies that need nothing but hidden layers."""

    NONE = 0
    REDUCE_MAX = 1
    REDUCE_MEAN = 2
    REDUCE_MEAN_MAX = 3
    FIRST_TOKEN = 4
    LAST_TOKEN = 5
    CLS_TOKEN = 4  # noqa: PIE796 - an alias, as the next
    SEP_TOKEN = 5  # noqa: PIE796


def pool(strategy: Pooling, vectors: FloatArray, mask: IntArray) -> FloatArray:
    """Return ``(n, c)`` for NONE, ``(2 c,)`` for REDUCE_MEAN_MAX, and else ``(c,)``.

    Args:
        strategy: What to compute.
        vectors: ``(n, c)``, those of one sentence without padding.
        mask: ``(n,)``, 0 for pieces that are to be hidden; some strategies look past it.

    >>> pool(Pooling.LAST_TOKEN, np.eye(4), np.array([0, 1, 1, 0]))
    array([0., 1., 0., 0.])
    """
    shown = mask.astype(np.float32)
    if strategy is Pooling.NONE:
        hidden: FloatArray = vectors * shown[:, None].astype(vectors.dtype)
        return hidden
    if strategy is Pooling.FIRST_TOKEN:
        first: FloatArray = vectors[0]
        return first
    if strategy is Pooling.LAST_TOKEN:
        # Where pieces are hidden this is not the last one, in the original neither.
        last: FloatArray = vectors[int(mask.sum()) - 1]
        return last
    if strategy is Pooling.REDUCE_MEAN:
        return _mean(vectors, shown)
    if strategy is Pooling.REDUCE_MAX:
        return _max(vectors, shown)
    return np.concatenate([_mean(vectors, shown), _max(vectors, shown)])


def _mean(vectors: FloatArray, shown: FloatArray) -> FloatArray:
    mean: FloatArray = shown @ vectors.astype(np.float32, copy=False) / (shown.sum() + _LITTLE)
    return mean


def _max(vectors: FloatArray, shown: FloatArray) -> FloatArray:
    hidden = (1 - shown) * _FAR
    largest: FloatArray = (vectors.astype(np.float32, copy=False) - hidden[:, None]).max(axis=0)
    return largest
