"""The effect of windows on the vectors of long sentences.

python benchmarks/windows.py [TEXT] [--limits N ...]

Texts of 380 words, which fit into the 512 pieces of all-MiniLM-L6-v2, are embedded as a whole; in
windows, with a smaller ``--max-seq-len``; and in separate parts of that length. The figures are
cosine similarities between the vectors of each word and those of the whole text, which decrease as
context is lost.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import much_text, report

from bert_tokemb import embed, open_local
from bert_tokemb.models.loading import load_model
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.models import minilm_directory

WORDS = 380
SPECIAL_TOKENS = 2
MODEL = str(minilm_directory())


def word_vectors(lines: Sequence[str], limit: int | None = None) -> np.ndarray:
    """Return the vectors of all words."""
    with open_local(MODEL, max_seq_len=limit) as encoder:
        return np.concatenate(list(embed(lines, encoder)))


def split_lines(lines: Sequence[str], limit: int) -> list[str]:
    """Split lines between words into parts of at most ``limit`` pieces."""
    split = PieceTokenizer(load_model(MODEL).tokenizer.vocabulary).split
    parts: list[list[str]] = []
    for line in lines:
        parts.append([])
        remaining = limit - SPECIAL_TOKENS
        for word in line.split():
            if len(split(word)) > remaining:
                parts.append([])
                remaining = limit - SPECIAL_TOKENS
            parts[-1].append(word)
            remaining -= len(split(word))
    return [" ".join(part) for part in parts]


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the ``(w,)`` cosines between the rows of two ``(w, c)`` arrays."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--limits", type=int, nargs="+", default=[256, 128, 64, 32])
    options = parser.parse_args()
    words = " ".join(much_text(options.text)).split()[: WORDS * options.texts]
    lines = [" ".join(words[i : i + WORDS]) for i in range(0, len(words), WORDS)]
    expected = word_vectors(lines)
    rows = [("", "mean", "worst 5 %", "worst 1 %", "worst", "middle word")]
    middle = np.arange(WORDS // 2, len(expected), WORDS)
    for limit in options.limits:
        for name, own in (
            (f"windows of {limit}", word_vectors(lines, limit)),
            (f"parts of {limit}", word_vectors(split_lines(lines, limit))),
        ):
            found = cosines(expected, own)
            figures = [found.mean(), *np.percentile(found, [5, 1, 0]), found[middle].mean()]
            rows.append((name, *(f"{figure:.3f}" for figure in figures)))
    report(
        f"cosine similarity to the vectors of the whole text; {len(lines)} texts of {WORDS} words",
        rows,
    )


if __name__ == "__main__":
    main()
