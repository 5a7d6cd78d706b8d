"""Speed of merging pieces into words of width 768 on one core.

python benchmarks/merging.py [TEXT] [--megabytes N] [--rounds N]

The batches are like those of a server: ``(b, t, c)``, zero-padded, sorted by length. Words are
split with the vocabulary of bert-base-uncased. The baseline is the seed script (see
``tests/support/seed.py``), which merges each word separately: once with the positions of the pieces
known, once with finding the words by their spelling, as the script does.
"""

from __future__ import annotations

import os

# NumPy reads these variables when it is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
from common import much_text, report, take_turns
from tokenizers import BertWordPieceTokenizer

from bert_tokemb.batching import make_batches
from bert_tokemb.strategies import AVG, FIRST, LAST, MAX
from bert_tokemb.tokenization.alignment import align
from bert_tokemb.tokenization.basic import UNKNOWN, basic_tokens
from bert_tokemb.types import BatchLimits, PreparedSentence, Sentence
from support.models import minilm_directory
from support.seed import MERGES, seed_merge

TARGET_SPEED = 500_000
TARGET_RATIO = 5
WIDTH = 768
BUDGET = BatchLimits(pieces=2048, sentences=64)
KEPT_RESULTS = 8  # as many as the pipeline holds at a time

STRATEGIES = {"avg": AVG, "last": LAST, "first": FIRST, "max": MAX}


@dataclass(frozen=True)
class Pieces(PreparedSentence):
    """A sentence, its pieces without special tokens, and the number of pieces of each word."""

    pieces: list[str]
    counts: list[int]


@dataclass(frozen=True)
class Batch:
    """The vectors that a server returns, and the positions of the words in them."""

    sentences: Sequence[Pieces]
    vectors: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def split_into_pieces(lines: Sequence[str]) -> Iterator[Pieces]:
    """Yield the sentences in which the seed script finds every word."""
    tokenizer = BertWordPieceTokenizer(str(minilm_directory() / "vocab.txt"))
    encodings = tokenizer.encode_batch(list(lines), add_special_tokens=False)
    for i, (line, encoding) in enumerate(zip(lines, encodings, strict=True), 1):
        words, pieces = line.split(), encoding.tokens
        counts = align([basic_tokens(word, do_lower_case=True) for word in words], pieces)
        if line.isascii() and counts and all(counts) and UNKNOWN not in pieces:
            yield Pieces(Sentence(i, words), len(pieces) + 2, pieces, counts)


def random_batch(sentences: Sequence[Pieces], random: np.random.Generator) -> Batch:
    """Return a batch of random vectors."""
    b, t = len(sentences), max(sentence.length for sentence in sentences)
    vectors = np.zeros((b, t, WIDTH), np.float32)
    starts = []
    for i, sentence in enumerate(sentences):
        vectors[i, : sentence.length] = random.random((sentence.length, WIDTH), np.float32)
        starts.append(i * t + 1 + np.cumsum(sentence.counts) - sentence.counts)
    counts = np.concatenate([sentence.counts for sentence in sentences])
    return Batch(sentences, vectors, np.concatenate(starts), counts)


def random_batches(lines: Sequence[str], size: int) -> list[Batch]:
    """Return batches of at least ``size`` bytes in total, each in separate memory."""
    random = np.random.default_rng(0)
    groups = list(make_batches(split_into_pieces(lines), BUDGET))
    random.shuffle(groups)
    batches, used = [], 0
    for sentences in cycle(groups):
        if used >= size:
            return batches
        batches.append(random_batch(sentences, random))
        used += batches[-1].vectors.nbytes
    sys.exit("the text has no sentence in which the seed script finds every word")


def merge_batches(batches: Sequence[Batch], name: str) -> None:
    """Merge the words of each batch at once."""
    kept: deque[np.ndarray] = deque(maxlen=KEPT_RESULTS)
    for batch in batches:
        flat = batch.vectors.reshape(-1, WIDTH)
        kept.append(STRATEGIES[name].merge(flat, batch.starts, batch.counts))


def merge_word_by_word(batches: Sequence[Batch], name: str) -> None:
    """Merge each word separately, like the seed script, with known positions of the pieces."""
    merge = MERGES[name]
    kept: deque[list[np.ndarray]] = deque(maxlen=KEPT_RESULTS)
    for batch in batches:
        arrays = []
        for sentence, vectors in zip(batch.sentences, batch.vectors, strict=True):
            rows, start = [], 1
            for count in sentence.counts:
                rows.append(merge([vectors[i] for i in range(start, start + count)]))
                start += count
            arrays.append(np.stack(rows))
        kept.append(arrays)


def merge_by_spelling(batches: Sequence[Batch], name: str) -> None:
    """Merge like the seed script, which finds the words by their spelling."""
    merge = MERGES[name]
    kept: deque[list[np.ndarray]] = deque(maxlen=KEPT_RESULTS)
    for batch in batches:
        arrays = []
        for sentence, vectors in zip(batch.sentences, batch.vectors, strict=True):
            words = " ".join(sentence.sentence.words).lower().split()
            arrays.append(seed_merge(words, vectors[1:], sentence.pieces, merge))
        kept.append(arrays)


def check(batch: Batch) -> None:
    """Check that our strategies and the seed script return the same vectors."""
    for name, merge in MERGES.items():
        merged = STRATEGIES[name].merge(
            batch.vectors.reshape(-1, WIDTH), batch.starts, batch.counts
        )
        expected = [
            seed_merge([w.lower() for w in s.sentence.words], vectors[1:], s.pieces, merge)
            for s, vectors in zip(batch.sentences, batch.vectors, strict=True)
        ]
        np.testing.assert_allclose(merged, np.concatenate(expected), rtol=1e-6)


def cache_size() -> int:
    """Return the bytes of the largest processor cache, or 64 MiB if the size is unknown."""
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(path.read_text().rstrip("K\n")) << 10 for path in found), default=64 << 20)


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--megabytes", type=int, help="default: 1.25 times the cache, at least 500")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = (options.megabytes or 0) * 10**6 or max(500 * 10**6, cache_size() * 5 // 4)
    batches = random_batches(much_text(options.text), size)
    check(batches[0])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    candidates: dict[str, Callable[[], None]] = {}
    for name in STRATEGIES:
        candidates[name] = partial(merge_batches, batches, name)
    for name in MERGES:
        candidates[f"{name}, word by word"] = partial(merge_word_by_word, batches, name)
        candidates[f"{name}, seed with spelling"] = partial(merge_by_spelling, batches, name)
    seconds = take_turns(options.rounds, candidates)
    words = sum(len(batch.counts) for batch in batches)
    pieces = sum(int(batch.counts.sum()) for batch in batches)
    ratio = seconds["avg, word by word"] / seconds["avg"]
    report(
        f"avg: {ratio:.1f} x merging word by word (target: {TARGET_RATIO}), "
        f"{words / seconds['avg']:,.0f} words/s (target: {TARGET_SPEED:,}); {words:,} words of "
        f"{pieces / words:.2f} pieces, {len(batches)} batches of {size / 1e6:,.0f} MB in total, "
        f"one core, median of {options.rounds}",
        [
            (name, ratio_to_word_by_word(name, seconds), f"{words / taken:,.0f} words/s")
            for name, taken in seconds.items()
        ],
    )


def ratio_to_word_by_word(name: str, seconds: dict[str, float]) -> str:
    """Return the ratio to merging word by word with the same strategy, if it is measured."""
    baseline = seconds.get(name.split(",")[0] + ", word by word")
    return f"{baseline / seconds[name]:.1f} x" if baseline else ""


if __name__ == "__main__":
    main()
