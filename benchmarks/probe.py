"""Accuracy of a linear probe that predicts parts of speech from word vectors.

python benchmarks/probe.py [FOLDER] [--model NAME] [--steps N] [--markdown]

The probe is multinomial logistic regression from the vector of a word to its universal
part-of-speech tag, trained on English web text and evaluated on other sentences. FOLDER contains
the text, one sentence per line, in ewt-train.txt and ewt-dev.txt, and the tags of its words, in the
same layout, in ewt-train.pos and ewt-dev.pos.

Each dimension is standardized to mean 0 and deviation 1 over the training words. Training is
deterministic: full-batch gradient descent from zero weights with a fixed number of steps.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from common import DATA, report

from bert_tokemb.batching import make_batches
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.models.engine import Engine, Precision
from bert_tokemb.models.loading import DEFAULT_MODEL, Model, load_model
from bert_tokemb.strategies import load_strategy
from bert_tokemb.types import EncodedBatch, FloatArray, IntArray, Sentence

STRATEGIES = ("first", "last", "avg", "max")
LAYERS = (-1, -2)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
TARGET_LOSS = 0.5  # percentage points, by int8
PENALTY = 1e-5  # of L2 regularization: the loss includes PENALTY / 2 * sum(weights**2)

Words = Sequence[tuple[Sequence[str], Sequence[str]]]
"""The words and the tags of each sentence."""
Cell = tuple[str, int, Precision]
"""A cell of the table: strategy, layer and precision."""


def read_words(folder: Path, part: str) -> Words:
    """Read a text and its tags."""
    paths = [folder / f"ewt-{part}.{kind}" for kind in ("txt", "pos")]
    for path in paths:
        if not path.is_file():
            sys.exit(f"{path} not found: pass the folder that contains it")
    columns = ([line.split() for line in path.read_text("utf-8").split("\n")] for path in paths)
    sentences = [(words, tags) for words, tags in zip(*columns, strict=True) if words or tags]
    if any(len(words) != len(tags) for words, tags in sentences):
        sys.exit(f"{paths[0]} and {paths[1]} have different numbers of words in a line")
    return sentences


def encode(sentences: Words, encoder: LocalEncoder) -> list[EncodedBatch]:
    """Return the vectors of all pieces, with the layers concatenated."""
    numbered = (Sentence(i, words) for i, (words, _) in enumerate(sentences))
    batches = make_batches(map(encoder.prepare, numbered), encoder.batch_limits)
    return list(encoder.encode(batches))


def vectors_of_words(
    encoded: Sequence[EncodedBatch], strategy: str, dimensions: slice
) -> FloatArray:
    """Return ``(c, w)`` vectors of words, in the order in which they were encoded."""
    merge = load_strategy(strategy).merge
    merged = (merge(one.vectors[:, dimensions], one.starts, one.counts) for one in encoded)
    return np.concatenate([vectors.T for vectors in merged], axis=1)


def tags_of_words(
    encoded: Sequence[EncodedBatch], sentences: Words, tags: Sequence[str]
) -> IntArray:
    """Return the ``(w,)`` numbers of the tags of the words, in the same order."""
    number = {tag: i for i, tag in enumerate(tags)}
    lines = (sentence.line for one in encoded for sentence in one.sentences)
    return np.array([number[tag] for line in lines for tag in sentences[line][1]])


class Probe:
    """Multinomial logistic regression.

    The gradient is multiplied by the inverse of a global upper bound of the Hessian, half the
    covariance of the vectors (Böhning 1992), so that no step is too long. Nesterov momentum reduces
    the number of steps.

    Args:
        vectors: The ``(c, w)`` training vectors.
        tags: The ``(w,)`` numbers of their tags, from 0.
        steps: The number of steps. After 100, the accuracy is within 0.17 points of its limit.
    """

    def __init__(self, vectors: FloatArray, tags: IntArray, steps: int) -> None:
        self._mean = vectors.mean(axis=1, keepdims=True)
        self._deviation = vectors.std(axis=1, keepdims=True)
        self._deviation[self._deviation == 0] = 1  # constant dimensions, as in MiniLM's last layer
        x = self._standardized(vectors)
        bound = (x @ x.T).astype(np.float64) / (2 * len(tags)) + PENALTY * np.eye(len(x))
        inverse = np.linalg.inv(bound).astype(np.float32)
        wanted = np.eye(tags.max() + 1, dtype=np.float32)[:, tags]
        weights = ahead = np.zeros((len(x), len(wanted)), np.float32)
        for step in range(steps):
            gradient = x @ (softmax(ahead.T @ x) - wanted).T / len(tags) + PENALTY * ahead
            before, weights = weights, ahead - inverse @ gradient
            ahead = weights + step / (step + 3) * (weights - before)
        self._weights = weights

    def accuracy(self, vectors: FloatArray, tags: IntArray) -> float:
        """Return the percentage of words whose tag is predicted correctly."""
        predicted = (self._weights.T @ self._standardized(vectors)).argmax(axis=0)
        return 100 * float((predicted == tags).mean())

    def _standardized(self, vectors: FloatArray) -> FloatArray:
        x = np.ones(
            (len(vectors) + 1, vectors.shape[1]), np.float32
        )  # the last row is for the bias
        np.subtract(vectors, self._mean, out=x[:-1])
        x[:-1] /= self._deviation
        return x


def softmax(scores: FloatArray) -> FloatArray:
    """Replace ``(n, w)`` scores by probabilities, and return them."""
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def accuracies(
    model: Model, precision: Precision, train: Words, dev: Words, steps: int
) -> Iterator[tuple[Cell, float]]:
    """Yield the accuracy for each strategy and layer; each sentence is encoded once."""
    tags = sorted({tag for _, own in train for tag in own})
    with LocalEncoder(Engine(model, LAYERS, device="cpu", precision=precision)) as encoder:
        parts = [(encode(sentences, encoder), sentences) for sentences in (train, dev)]
    numbers = [tags_of_words(encoded, sentences, tags) for encoded, sentences in parts]
    c = model.config.hidden_size
    for (i, layer), strategy in product(enumerate(LAYERS), STRATEGIES):
        own = slice(i * c, (i + 1) * c)
        probe = Probe(vectors_of_words(parts[0][0], strategy, own), numbers[0], steps)
        unseen = vectors_of_words(parts[1][0], strategy, own)
        yield (strategy, layer, precision), probe.accuracy(unseen, numbers[1])


def accuracy_without_vectors(train: Words, dev: Words) -> float:
    """Return the accuracy of always predicting the most common tag of the word.

    The prediction for words that are not in the training text is the most common tag of all.
    """
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            seen[word][tag] += 1
    guess = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    common = sum(seen.values(), Counter()).most_common(1)[0][0]
    right = [
        guess.get(word, common) == tag
        for words, tags in dev
        for word, tag in zip(words, tags, strict=True)
    ]
    return 100 * float(np.mean(right))


def table_of(found: Mapping[Cell, float]) -> Iterator[tuple[str, ...]]:
    """Yield a header and a row for each strategy; columns are layers and precisions."""
    columns = list(product(LAYERS, PRECISIONS))
    yield "strategy", *(f"layer {layer}, {precision}" for layer, precision in columns)
    for strategy in STRATEGIES:
        yield strategy, *(f"{found[(strategy, *column)]:.2f}" for column in columns)


def report_markdown(title: str, table: Sequence[Sequence[str]]) -> None:
    """Print a table for a README."""
    lines = [table[0], ["---"] + ["---:"] * (len(table[0]) - 1), *table[1:]]
    print(f"\n{title}\n", *(f"| {' | '.join(line)} |" for line in lines), sep="\n")


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DATA, help="contains the ewt files")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a directory, or an id on the hub")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--markdown", action="store_true", help="print the table for a README")
    options = parser.parse_args()
    train, dev = (read_words(options.folder, part) for part in ("train", "dev"))
    model = load_model(options.model)
    found: dict[Cell, float] = {}
    for precision in PRECISIONS:
        found |= accuracies(model, precision, train, dev, options.steps)
    lost = max(found[s, n, "fp32"] - found[s, n, "int8"] for s in STRATEGIES for n in LAYERS)
    print(f"int8 loses at most {lost:.2f} points (target: {TARGET_LOSS})")
    n, unseen = (sum(len(words) for words, _ in part) for part in (train, dev))
    title = (
        f"% of {unseen:,} words whose part of speech a linear probe predicts, trained on "
        f"{n:,} others; {options.model}, {options.steps} steps. The most common tag of each word, "
        f"without vectors: {accuracy_without_vectors(train, dev):.2f}"
    )
    (report_markdown if options.markdown else report)(title, list(table_of(found)))


if __name__ == "__main__":
    main()
