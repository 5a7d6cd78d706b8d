"""The method of the script that this tool descends from, as the baseline to compare with.

Our own words for what hankcs' script of 2019 does: 100 lines a request in the file's order,
waiting for each; pieces are glued together until they spell the lower-cased word; the vectors
of each word are merged by themselves. A sentence in which the spelling goes astray loses the
rest of its words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from bert_serving.client import BertClient

__all__ = ["MERGES", "seed_embed", "seed_merge"]

LINES_A_REQUEST = 100

Array = np.ndarray[Any, Any]

MERGES: dict[str, Callable[[list[Array]], Array]] = {
    "last": lambda vectors: vectors[-1],
    "avg": lambda vectors: np.mean(vectors, axis=0),
}


def seed_embed(client: BertClient, lines: Sequence[str], strategy: str) -> Iterator[Array]:
    """Yield an array for each line, with a row for each word that the method does not lose."""
    merge = MERGES[strategy]
    for i in range(0, len(lines), LINES_A_REQUEST):
        texts = list(lines[i : i + LINES_A_REQUEST])
        vectors, tokens = client.encode(texts, show_tokens=True)
        for text, own_vectors, pieces in zip(texts, vectors, tokens, strict=True):
            yield seed_merge(text.lower().split(), own_vectors[1:], pieces[1:-1], merge)


def seed_merge(
    words: Sequence[str],
    vectors: Array,
    pieces: Sequence[str],
    merge: Callable[[list[Array]], Array],
) -> Array:
    """Merge the pieces of one sentence word by word."""
    rows: list[Array] = []
    spelled, waiting = "", []
    for piece, vector in zip(pieces, vectors, strict=False):
        spelled += piece.removeprefix("##")
        waiting.append(vector)
        if len(rows) < len(words) and spelled == words[len(rows)]:
            rows.append(merge(waiting))
            spelled, waiting = "", []
    return np.stack(rows) if rows else np.zeros((0, vectors.shape[-1]), vectors.dtype)
