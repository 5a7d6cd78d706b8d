"""Pooling strategies: from the piece vectors of a sentence to what a server returns for it.

Names, numbers (which clients read in ``server_config``) and results are those of
``bert_serving/server/graph.py``, version 1.10.0.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from ..types import FloatArray, IntArray

__all__ = ["Pooling", "pool"]

# Subtracted from masked pieces, so that they are never the maximum.
_LARGE = np.float32(1e30)
# Added to the number of pieces, so that the mean of no pieces is 0.
_EPSILON = np.float32(1e-10)


class Pooling(Enum):
    """The strategies that need nothing but hidden layers."""

    NONE = 0
    REDUCE_MAX = 1
    REDUCE_MEAN = 2
    REDUCE_MEAN_MAX = 3
    FIRST_TOKEN = 4
    LAST_TOKEN = 5
    CLS_TOKEN = 4  # noqa: PIE796 - an alias, like the next one
    SEP_TOKEN = 5  # noqa: PIE796


def pool(strategy: Pooling, vectors: FloatArray, mask: IntArray) -> FloatArray:
    """Pool the piece vectors of one sentence.

    Args:
        strategy: What to compute.
        vectors: ``(p, c)``, special tokens included, without padding.
        mask: ``(p,)``, the attention mask. FIRST_TOKEN ignores it.

    Returns:
        ``(p, c)`` for NONE, ``(2 c,)`` for REDUCE_MEAN_MAX, ``(c,)`` for the others.

    >>> pool(Pooling.REDUCE_MAX, np.eye(4), np.array([0, 1, 1, 0]))
    array([0., 1., 1., 0.], dtype=float32)
    """
    weights = mask.astype(np.float32)
    if strategy is Pooling.NONE:
        unmasked: FloatArray = vectors * weights[:, None].astype(vectors.dtype)
        return unmasked
    if strategy is Pooling.FIRST_TOKEN:
        first: FloatArray = vectors[0]
        return first
    if strategy is Pooling.LAST_TOKEN:
        # With masked special tokens this is an earlier piece, as in the original.
        last: FloatArray = vectors[int(mask.sum()) - 1]
        return last
    if strategy is Pooling.REDUCE_MEAN:
        return _mean(vectors, weights)
    if strategy is Pooling.REDUCE_MAX:
        return _max(vectors, weights)
    return np.concatenate([_mean(vectors, weights), _max(vectors, weights)])


def _mean(vectors: FloatArray, weights: FloatArray) -> FloatArray:
    mean: FloatArray = weights @ vectors.astype(np.float32, copy=False) / (weights.sum() + _EPSILON)
    return mean


def _max(vectors: FloatArray, weights: FloatArray) -> FloatArray:
    penalty = (1 - weights) * _LARGE
    largest: FloatArray = (vectors.astype(np.float32, copy=False) - penalty[:, None]).max(axis=0)
    return largest
