"""How many words a second are merged, 768 wide, on one core.

python benchmarks/merging.py [TEXT] [--megabytes N] [--rounds N]

Batches as a server gives them: ``(b, t, c)``, zero-padded, sorted by length; the words have as
many pieces as the vocabulary of bert-base-uncased gives them. Beside each strategy stands the
seed's way of merging each word by itself, and the seed's method with its spelling of words.
"""

from __future__ import annotations

import os

# Before numpy is imported.
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
from common import much_text, print_table, take_turns
from tokenizers import BertWordPieceTokenizer

from bert_tokemb.batching import make_batches
from bert_tokemb.strategies import AVG, FIRST, LAST, MAX
from bert_tokemb.tokenization.alignment import align
from bert_tokemb.tokenization.basic import UNKNOWN, basic_tokens
from bert_tokemb.types import BatchLimits, PreparedSentence, Sentence
from support.models import minilm_directory
from support.seed import MERGES, seed_merge

TARGET = 500_000
TARGET_RATIO = 5
WIDTH = 768
LIMITS = BatchLimits(pieces=2048, sentences=64)
KEPT_RESULTS = 8  # as many as the pipeline keeps for a while

STRATEGIES = {"avg": AVG, "last": LAST, "first": FIRST, "max": MAX}


@dataclass(frozen=True)
class Pieces(PreparedSentence):
    """A sentence, its pieces without special ones, and how many each word has."""

    pieces: list[str]
    counts: list[int]


@dataclass(frozen=True)
class Batch:
    """What a server gives, and where the words lie in it."""

    sentences: Sequence[Pieces]
    vectors: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


def cut_into_pieces(lines: Sequence[str]) -> Iterator[Pieces]:
    """Yield the sentences of which the seed's method loses no word."""
    tokenizer = BertWordPieceTokenizer(str(minilm_directory() / "vocab.txt"))
    encodings = tokenizer.encode_batch(list(lines), add_special_tokens=False)
    for i, (line, encoding) in enumerate(zip(lines, encodings, strict=True), 1):
        words, pieces = line.split(), encoding.tokens
        counts = align([basic_tokens(word, do_lower_case=True) for word in words], pieces)
        if line.isascii() and counts and all(counts) and UNKNOWN not in pieces:
            yield Pieces(Sentence(i, words), len(pieces) + 2, pieces, counts)


def fill(sentences: Sequence[Pieces], random: np.random.Generator) -> Batch:
    """Draw vectors for a batch."""
    b, t = len(sentences), max(sentence.length for sentence in sentences)
    vectors = np.zeros((b, t, WIDTH), np.float32)
    starts = []
    for i, sentence in enumerate(sentences):
        vectors[i, : sentence.length] = random.random((sentence.length, WIDTH), np.float32)
        starts.append(i * t + 1 + np.cumsum(sentence.counts) - sentence.counts)
    counts = np.concatenate([sentence.counts for sentence in sentences])
    return Batch(sentences, vectors, np.concatenate(starts), counts)


def draw_batches(lines: Sequence[str], size: int) -> list[Batch]:
    """Return batches of ``size`` bytes in all, no two of them in the same memory."""
    random = np.random.default_rng(0)
    cut = list(make_batches(cut_into_pieces(lines), LIMITS))
    random.shuffle(cut)
    batches, used = [], 0
    for sentences in cycle(cut):
        if used >= size:
            return batches
        batches.append(fill(sentences, random))
        used += batches[-1].vectors.nbytes
    sys.exit("the text has no plain English sentence")


def ours(batches: Sequence[Batch], name: str) -> None:
    """Merge the words of each batch."""
    kept: deque[np.ndarray] = deque(maxlen=KEPT_RESULTS)
    for batch in batches:
        flat = batch.vectors.reshape(-1, WIDTH)
        kept.append(STRATEGIES[name].merge(flat, batch.starts, batch.counts))


def word_by_word(batches: Sequence[Batch], name: str) -> None:
    """Merge each word by itself, as the seed does, knowing where its pieces lie."""
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


def seeds(batches: Sequence[Batch], name: str) -> None:
    """Merge as the seed does, finding the words by their spelling."""
    merge = MERGES[name]
    kept: deque[list[np.ndarray]] = deque(maxlen=KEPT_RESULTS)
    for batch in batches:
        arrays = []
        for sentence, vectors in zip(batch.sentences, batch.vectors, strict=True):
            words = " ".join(sentence.sentence.words).lower().split()
            arrays.append(seed_merge(words, vectors[1:], sentence.pieces, merge))
        kept.append(arrays)


def check(batch: Batch) -> None:
    """Stop unless all ways give the same."""
    for name, merge in MERGES.items():
        merged = STRATEGIES[name].merge(
            batch.vectors.reshape(-1, WIDTH), batch.starts, batch.counts
        )
        theirs = [
            seed_merge([w.lower() for w in s.sentence.words], vectors[1:], s.pieces, merge)
            for s, vectors in zip(batch.sentences, batch.vectors, strict=True)
        ]
        np.testing.assert_allclose(merged, np.concatenate(theirs), rtol=1e-6)


def cache_size() -> int:
    """Return the bytes of the largest processor cache, 64 MiB if it is unknown."""
    found = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    return max((int(path.read_text().rstrip("K\n")) << 10 for path in found), default=64 << 20)


def main() -> None:
    """Parse the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence a line")
    parser.add_argument("--megabytes", type=int, help="default: 1.25 times the cache, at least 500")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = (options.megabytes or 0) * 10**6 or max(500 * 10**6, cache_size() * 5 // 4)
    batches = draw_batches(much_text(options.text), size)
    check(batches[0])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ways: dict[str, Callable[[], None]] = {}
    for name in STRATEGIES:
        ways[name] = partial(ours, batches, name)
    for name in MERGES:
        ways[f"{name}, word by word"] = partial(word_by_word, batches, name)
        ways[f"{name}, seed with spelling"] = partial(seeds, batches, name)
    seconds = take_turns(options.rounds, ways)
    words = sum(len(batch.counts) for batch in batches)
    pieces = sum(int(batch.counts.sum()) for batch in batches)
    ratio = seconds["avg, word by word"] / seconds["avg"]
    print_table(
        f"avg: {ratio:.1f} x merging word by word (target: {TARGET_RATIO}), "
        f"{words / seconds['avg']:,.0f} words/s (target: {TARGET:,}); {words:,} words of "
        f"{pieces / words:.2f} pieces, {len(batches)} batches of {size / 1e6:,.0f} MB in all, "
        f"one core, median of {options.rounds}",
        [
            (name, times_word_by_word(name, seconds), f"{words / taken:,.0f} words/s")
            for name, taken in seconds.items()
        ],
    )


def times_word_by_word(name: str, seconds: dict[str, float]) -> str:
    """Compare with merging word by word by the same strategy, if the seed has it."""
    baseline = seconds.get(name.split(",")[0] + ", word by word")
    return f"{baseline / seconds[name]:.1f} x" if baseline else ""


if __name__ == "__main__":
    main()
