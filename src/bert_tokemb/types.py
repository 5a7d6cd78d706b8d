"""The terms of this package as small types.

* A *sentence* is one line of the input, a *word* what ``str.split()`` returns.
* A *piece* (subword) is one unit of the model's tokenizer: ``hank``, ``##cs``, ``[UNK]``. The
  *special tokens* ``[CLS]`` and ``[SEP]`` and padding are never part of a word.
* Shapes in docstrings: ``p`` pieces, ``w`` words, ``c`` the width of the output (hidden_size ×
  number of layers).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import FloatOverflowError

__all__ = [
    "BatchLimits",
    "BoolArray",
    "Diagnostics",
    "EmbeddedSentence",
    "EncodedBatch",
    "Encoder",
    "FloatArray",
    "IntArray",
    "Layer",
    "LayerPooling",
    "Layers",
    "LongSentences",
    "P",
    "PreparedSentence",
    "Sentence",
    "Strategy",
    "Tally",
]

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]

Layer = int | Literal["embeddings"]
"""A hidden layer, 0 for the first and -1 for the last, or the output of the embedding layer."""

Layers = Sequence[Layer] | Literal["all"]
"""Layers; ``"all"`` are the embeddings and all hidden layers, from the first to the last."""

LayerPooling = Literal["concat", "mean", "sum"]
"""How the vectors of several layers become one."""

LongSentences = Literal["window", "error"]
"""What to do with a sentence that is too long for the model: embed it in windows, or raise."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A line that contains at least one word."""

    line: int
    """Line number in the input, from 1; blank lines count."""
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class PreparedSentence:
    """A sentence, tokenized as far as its encoder can; encoders add fields."""

    sentence: Sentence
    length: int
    """Pieces, special tokens included: exact, or the encoder's estimate."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The batches that suit an encoder."""

    pieces: int
    """Maximum number of pieces, special tokens and padding included."""
    sentences: int
    uniform: bool = False
    """Whether all sentences of a batch must have the same length, so that none is padded."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The piece vectors of a batch, and where the pieces of each word are.

    ``starts``, ``counts`` and ``unknown`` list the words of all sentences in order. Word ``j`` owns
    the rows ``starts[j] : starts[j] + counts[j]`` of ``vectors``; ``counts[j]`` is 0 for a word
    without pieces. A row may belong to several words.
    """

    sentences: Sequence[Sentence]
    vectors: FloatArray
    """``(p, c)``, possibly read-only; rows that belong to no word may lie in between."""
    starts: IntArray
    """``(w,)``"""
    counts: IntArray
    """``(w,)``"""
    unknown: BoolArray
    """``(w,)``, true if one of the word's pieces is the unknown piece, such as ``[UNK]``."""
    inexact: Collection[int] = ()
    """Line numbers of the sentences whose alignment is a guess."""
    shared: Collection[int] = ()
    """Line numbers of the sentences in which a piece belongs to several words."""
    windowed: bool = False
    """Whether the batch is one sentence that was encoded in windows."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Findings about one sentence."""

    unknown: Sequence[int] = ()
    """Indices of the words that have the unknown piece, such as ``[UNK]``, among their pieces."""
    empty: Sequence[int] = ()
    """Indices of the words without pieces."""
    nonfinite: Sequence[int] = ()
    """Indices of the words whose vector contains NaN or infinity."""
    inexact: bool = False
    """Whether its alignment is a guess."""
    shared: bool = False
    """Whether one of its pieces belongs to several words."""
    windowed: bool = False
    """Whether it was encoded in windows."""


@dataclass(frozen=True, slots=True)
class EmbeddedSentence:
    """A sentence, or a blank line, with its word vectors."""

    line: int
    """Line number in the input, from 1; blank lines count."""
    words: Sequence[str]
    array: FloatArray
    """``(n, c)`` for ``n`` words."""
    diagnostics: Diagnostics = Diagnostics()

    def astype(self, dtype: np.dtype[Any]) -> EmbeddedSentence:
        """Return the sentence with an array of another data type, or itself if it has that type.

        Raises:
            FloatOverflowError: if a finite value is too large for that type.
        """
        if self.array.dtype == dtype:
            return self
        try:
            with np.errstate(over="raise"):
                return replace(self, array=self.array.astype(dtype))
        except FloatingPointError as error:
            maximum = float(np.finfo(dtype).max)
            raise FloatOverflowError(
                self.line, dtype.name, maximum, self.array.dtype.name
            ) from error


MAX_EXAMPLES = 100
"""Examples of each kind that a :class:`Tally` keeps, so that its size is bounded."""

_MAX_WORD = 100  # characters, for the same reason: a line of a binary file can be one word


@dataclass(slots=True)
class Tally:
    """What :func:`bert_tokemb.embed` has yielded so far: counts, and the first examples."""

    lines: int = 0
    sentences: int = 0
    """Arrays yielded; blank lines are among them unless they are skipped."""
    words: int = 0
    blank_lines: int = 0
    unknown_words: int = 0
    empty_words: int = 0
    """Words without pieces."""
    nonfinite_words: int = 0
    """Words whose vector contains NaN or infinity."""
    inexact_sentences: int = 0
    """Sentences whose alignment is a guess."""
    shared_sentences: int = 0
    """Sentences in which a piece spells parts of several words, and belongs to each of them."""
    windowed_sentences: int = 0
    """Sentences that were too long for the model and were embedded in windows."""
    examples: dict[str, list[Any]] = field(default_factory=dict)
    """Maps the name of a count to its first line numbers, or ``[line, word]`` lists."""

    def add(self, sentence: EmbeddedSentence) -> None:
        """Count a sentence or a blank line that was yielded."""
        self.lines += 1
        self.sentences += 1
        self.words += len(sentence.words)
        self.blank_lines += not sentence.words
        found = sentence.diagnostics
        self.unknown_words += self._add_words("unknown_words", sentence, found.unknown)
        self.empty_words += self._add_words("empty_words", sentence, found.empty)
        self.nonfinite_words += self._add_words("nonfinite_words", sentence, found.nonfinite)
        self.inexact_sentences += self._add_line("inexact_sentences", sentence, found.inexact)
        self.shared_sentences += self._add_line("shared_sentences", sentence, found.shared)
        self.windowed_sentences += self._add_line("windowed_sentences", sentence, found.windowed)

    def skip_blank_line(self) -> None:
        """Count a blank line that was not yielded."""
        self.lines += 1
        self.blank_lines += 1

    def _add_words(self, kind: str, sentence: EmbeddedSentence, indices: Sequence[int]) -> int:
        if indices:
            kept = self.examples.setdefault(kind, [])
            for j in indices[: MAX_EXAMPLES - len(kept)]:
                kept.append([sentence.line, _shortened(sentence.words[j])])
        return len(indices)

    def _add_line(self, kind: str, sentence: EmbeddedSentence, is_so: bool) -> int:
        if is_so and len(kept := self.examples.setdefault(kind, [])) < MAX_EXAMPLES:
            kept.append(sentence.line)
        return int(is_so)


def _shortened(word: str) -> str:
    return word if len(word) <= _MAX_WORD else f"{word[:_MAX_WORD]}\u2026"


P = TypeVar("P", bound=PreparedSentence)


class Encoder(Protocol[P]):
    """Turns sentences into piece vectors."""

    @property
    def width(self) -> int:
        """``c``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float16."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that make up its vectors; a hidden layer by its number, -1 for the last."""

    @property
    def batch_limits(self) -> BatchLimits:
        """The batches that suit it."""

    @property
    def source(self) -> Mapping[str, Any]:
        """Human-readable origin of the vectors; JSON values."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that determine the vectors, with a name under ``encoder``; JSON values."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Compute what identifies the model; JSON values.

        Some components of the vectors of a fixed sentence, under ``vectors``, may differ slightly
        between machines.
        """

    def prepare(self, sentence: Sentence) -> P:
        """Tokenize a sentence as far as possible before encoding, and determine its length."""

    @property
    def unknown_piece(self) -> str | None:
        """The piece that replaces what the vocabulary cannot spell, such as ``[UNK]``."""

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Return the pieces of each word."""

    def encode(self, batches: Iterable[Sequence[P]]) -> Iterator[EncodedBatch]:
        """Yield one or more :class:`EncodedBatch` for each batch, in order.

        A sentence that is too long for the model is encoded in windows
        (:mod:`bert_tokemb.tokenization.windows`) and has an :class:`EncodedBatch` of its own.

        An encoder draws a small, bounded number of batches ahead of those it has yielded, so that
        it computes while the caller handles a result.
        """


class Strategy(Protocol):
    """Merges the piece vectors of each word into one vector."""

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """Return a new ``(w, c)`` array of the data type of ``vectors``, ``(p, c)``.

        Word ``j`` owns the rows ``starts[j] : starts[j] + counts[j]``. A word without pieces gets
        a row of zeros.
        """
