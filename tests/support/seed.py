"""The seed script: the script that this project replaces, as a baseline.

This is our own implementation of the method of hankcs' script of 2019. The script sends 100 lines
per request, in file order, and waits for each reply. It joins pieces until they spell the
lower-cased word, and merges the vectors of each word separately. If the pieces do not spell a word,
the rest of the sentence is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from bert_serving.client import BertClient

__all__ = ["MERGES", "seed_embed", "seed_merge"]

_LINES_PER_REQUEST = 100

Array = np.ndarray[Any, Any]

MERGES: dict[str, Callable[[list[Array]], Array]] = {
    "last": lambda vectors: vectors[-1],
    "avg": lambda vectors: np.mean(vectors, axis=0),
}


def seed_embed(client: BertClient, lines: Sequence[str], strategy: str) -> Iterator[Array]:
    """Yield an array for each line, with a row for each word that the script finds."""
    merge = MERGES[strategy]
    for i in range(0, len(lines), _LINES_PER_REQUEST):
        texts = list(lines[i : i + _LINES_PER_REQUEST])
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
    spelled, collected = "", []
    for piece, vector in zip(pieces, vectors, strict=False):
        spelled += piece.removeprefix("##")
        collected.append(vector)
        if len(rows) < len(words) and spelled == words[len(rows)]:
            rows.append(merge(collected))
            spelled, collected = "", []
    return np.stack(rows) if rows else np.zeros((0, vectors.shape[-1]), vectors.dtype)
