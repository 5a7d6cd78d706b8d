"""Pooling strategies; the recorded replies compare them with the genuine server."""

from __future__ import annotations

import numpy as np
import pytest

from bert_tokemb.serve.pooling import Pooling, pool

VECTORS = np.array([[1, 9], [2, 5], [4, 3], [8, 0]], np.float32)


@pytest.mark.parametrize(
    ("strategy", "mask", "expected"),
    [
        (Pooling.NONE, [0, 1, 1, 0], [[0, 0], [2, 5], [4, 3], [0, 0]]),
        (Pooling.REDUCE_MEAN, [0, 1, 1, 0], [3, 4]),
        (Pooling.REDUCE_MEAN, [0, 0, 0, 0], [0, 0]),
        (Pooling.REDUCE_MAX, [0, 1, 1, 0], [4, 5]),
        (Pooling.REDUCE_MEAN_MAX, [0, 1, 1, 0], [3, 4, 4, 5]),
        (Pooling.FIRST_TOKEN, [0, 1, 1, 0], [1, 9]),
        (Pooling.LAST_TOKEN, [1, 1, 1, 1], [8, 0]),
        (Pooling.LAST_TOKEN, [0, 1, 1, 0], [2, 5]),
        (Pooling.CLS_TOKEN, [1, 1, 1, 1], [1, 9]),
        (Pooling.SEP_TOKEN, [1, 1, 1, 1], [8, 0]),
    ],
)
def test_pool_uses_the_mask(strategy: Pooling, mask: list[int], expected: list[object]) -> None:
    for dtype in (np.float32, np.float16):
        pooled = pool(strategy, VECTORS.astype(dtype), np.array(mask))
        np.testing.assert_allclose(pooled, expected, atol=1e-6)
