"""How well words' parts of speech can be read off their vectors: a linear probe.

python benchmarks/probe.py [FOLDER] [--model NAME] [--steps N] [--markdown]

The probe is multinomial logistic regression from the vector of one word to its universal
part-of-speech tag, trained on English web text and scored on sentences that it has not seen.
FOLDER holds that text, one sentence a line, in ewt-train.txt and ewt-dev.txt, and the tags of its
words, line by line, in ewt-train.pos and ewt-dev.pos.

The probe sees each dimension with mean 0 and deviation 1 over the training words. It is fitted to
all of them at once, from zeros, by a fixed number of steps; nothing is drawn at random.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from common import DATA, print_table

from bert_tokemb.batching import make_batches
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.models.engine import Engine, Precision
from bert_tokemb.models.loading import DEFAULT_MODEL, Model, load_model
from bert_tokemb.strategies import load_strategy
from bert_tokemb.types import EncodedBatch, FloatArray, IntArray, Sentence

STRATEGIES = ("first", "last", "avg", "max")
LAYERS = (-1, -2)
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
MOST_LOST = 0.5  # points, by int8
PENALTY = 1e-5  # half of it times the square of each weight is added to the loss

Words = Sequence[tuple[Sequence[str], Sequence[str]]]  # those of a sentence, and their tags
Place = tuple[str, int, Precision]  # in the table


def read_words(folder: Path, part: str) -> Words:
    """Read a text and its tags."""
    paths = [folder / f"ewt-{part}.{kind}" for kind in ("txt", "pos")]
    for path in paths:
        if not path.is_file():
            sys.exit(f"there is no {path}: give the folder that holds it as the argument")
    both = ([line.split() for line in path.read_text("utf-8").split("\n")] for path in paths)
    sentences = [(words, tags) for words, tags in zip(*both, strict=True) if words or tags]
    if any(len(words) != len(tags) for words, tags in sentences):
        sys.exit(f"{paths[0]} and {paths[1]} are not parallel")
    return sentences


def encode(sentences: Words, encoder: LocalEncoder) -> list[EncodedBatch]:
    """Return the vectors of all pieces, those of the layers side by side."""
    numbered = (Sentence(i, words) for i, (words, _) in enumerate(sentences))
    batches = make_batches(map(encoder.prepare, numbered), encoder.batch_limits)
    return list(encoder.encode(batches))


def vectors_of_words(
    encoded: Sequence[EncodedBatch], strategy: str, dimensions: slice
) -> FloatArray:
    """Return ``(c, w)``: a column for each word, in the order in which they were encoded."""
    merge = load_strategy(strategy).merge
    merged = (merge(one.vectors[:, dimensions], one.starts, one.counts) for one in encoded)
    return np.concatenate([vectors.T for vectors in merged], axis=1)


def tags_of_words(
    encoded: Sequence[EncodedBatch], sentences: Words, tags: Sequence[str]
) -> IntArray:
    """Return ``(w,)``: the numbers of their tags, in the same order."""
    number = {tag: i for i, tag in enumerate(tags)}
    lines = (sentence.line for one in encoded for sentence in one.sentences)
    return np.array([number[tag] for line in lines for tag in sentences[line][1]])


class Probe:
    """Multinomial logistic regression.

    The gradient is divided by a bound of the curvature that holds everywhere, half the vectors'
    covariance (Böhning 1992), so that no step is too long; Nesterov's momentum makes them few.

    Args:
        vectors: ``(c, w)``, to learn from.
        tags: ``(w,)``, from 0.
        steps: How many. After 100 the accuracy is within a sixth of a point of its end.
    """

    def __init__(self, vectors: FloatArray, tags: IntArray, steps: int) -> None:
        self._mean = vectors.mean(axis=1, keepdims=True)
        self._deviation = vectors.std(axis=1, keepdims=True)
        self._deviation[self._deviation == 0] = 1  # MiniLM's last layer has such dimensions
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
        """Return the percentage of words whose tag it finds."""
        guessed = (self._weights.T @ self._standardized(vectors)).argmax(axis=0)
        return 100 * float((guessed == tags).mean())

    def _standardized(self, vectors: FloatArray) -> FloatArray:
        x = np.ones((len(vectors) + 1, vectors.shape[1]), np.float32)  # the last is for a bias
        np.subtract(vectors, self._mean, out=x[:-1])
        x[:-1] /= self._deviation
        return x


def softmax(scores: FloatArray) -> FloatArray:
    """Return probabilities, ``(n, w)``, in the place of the scores."""
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=0)
    return scores


def accuracies(
    model: Model, precision: Precision, train: Words, dev: Words, steps: int
) -> Iterator[tuple[Place, float]]:
    """Yield the accuracy of each strategy and layer; each piece is computed once."""
    tags = sorted({tag for _, own in train for tag in own})
    with LocalEncoder(Engine(model, LAYERS, device="cpu", precision=precision)) as encoder:
        sides = [(encode(sentences, encoder), sentences) for sentences in (train, dev)]
    numbers = [tags_of_words(encoded, sentences, tags) for encoded, sentences in sides]
    c = model.config.hidden_size
    for (i, layer), strategy in product(enumerate(LAYERS), STRATEGIES):
        own = slice(i * c, (i + 1) * c)
        probe = Probe(vectors_of_words(sides[0][0], strategy, own), numbers[0], steps)
        unseen = vectors_of_words(sides[1][0], strategy, own)
        yield (strategy, layer, precision), probe.accuracy(unseen, numbers[1])


def without_vectors(train: Words, dev: Words) -> float:
    """Return the accuracy of each word's commonest tag, of the commonest tag for new words."""
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


def table_of(found: Mapping[Place, float]) -> Iterator[tuple[str, ...]]:
    """Yield rows: strategies down, layers and precisions across."""
    across = list(product(LAYERS, PRECISIONS))
    yield "strategy", *(f"layer {layer}, {precision}" for layer, precision in across)
    for strategy in STRATEGIES:
        yield strategy, *(f"{found[(strategy, *column)]:.2f}" for column in across)


def print_markdown(title: str, table: Sequence[Sequence[str]]) -> None:
    """Print a table for a README."""
    lines = [table[0], ["---"] + ["---:"] * (len(table[0]) - 1), *table[1:]]
    print(f"\n{title}\n", *(f"| {' | '.join(line)} |" for line in lines), sep="\n")


def main() -> None:
    """Parse the arguments, probe and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=DATA, help="of the ewt files")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a directory, or an id on the hub")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--markdown", action="store_true", help="print the table for a README")
    options = parser.parse_args()
    train, dev = (read_words(options.folder, part) for part in ("train", "dev"))
    model = load_model(options.model)
    found: dict[Place, float] = {}
    for precision in PRECISIONS:
        found |= accuracies(model, precision, train, dev, options.steps)
    lost = max(found[s, n, "fp32"] - found[s, n, "int8"] for s in STRATEGIES for n in LAYERS)
    print(f"int8 loses {lost:.2f} points at most (target: {MOST_LOST})")
    n, unseen = (sum(len(words) for words, _ in part) for part in (train, dev))
    title = (
        f"accuracy in % on {unseen:,} words of a linear probe trained on "
        f"{n:,} others; {options.model}, {options.steps} steps. The commonest tag of each word, "
        f"without vectors: {without_vectors(train, dev):.2f}"
    )
    (print_markdown if options.markdown else print_table)(title, list(table_of(found)))


if __name__ == "__main__":
    main()
