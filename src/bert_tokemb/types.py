"""The words of this field as small types; imports nothing of the package but its errors.

A *sentence* is one line of the input. A *word* is what ``str.split()`` gives. A *piece* is a
WordPiece (``hank``, ``##cs``, ``[UNK]``); ``[CLS]``, ``[SEP]`` and padding are special and
never part of a word. Shapes in docstrings: ``p`` pieces, ``w`` words, ``c`` the model's width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .errors import OutputError

__all__ = [
    "BoolArray",
    "Budget",
    "Counts",
    "Embedded",
    "Encoded",
    "Encoder",
    "FloatArray",
    "IntArray",
    "LongSentencesAre",
    "P",
    "Prepared",
    "Remarks",
    "Sentence",
    "Strategy",
]

FloatArray = npt.NDArray[np.floating[Any]]
LongSentencesAre = Literal["window", "error"]
"""What becomes of those that are too long for the model."""
IntArray = npt.NDArray[np.intp]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One line that holds at least one word."""

    line: int
    """Number of the line in the input, from 1, blank lines counted."""
    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sentence as an encoder wants it; encoders add fields of their own."""

    sentence: Sentence
    length: int
    """Word pieces, special ones included: exact, or the encoder's best estimate."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much an encoder likes to get in one batch."""

    pieces: int
    """Word pieces, special ones and padding included."""
    sentences: int
    uniform: bool = False
    """Whether the sentences of a batch should all be of the same length, so that none is padded."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder gives for a batch: piece vectors, and where each word's pieces lie.

    The words of all the batch's sentences follow one another; word ``j`` owns the rows
    ``starts[j] : starts[j] + counts[j]``. ``counts[j]`` may be 0, for a word of which BERT
    deletes every character.
    """

    sentences: Sequence[Sentence]
    vectors: FloatArray
    """``(p, c)``, possibly read-only; rows that belong to no word may lie between."""
    starts: IntArray
    """``(w,)``"""
    counts: IntArray
    """``(w,)``"""
    unknown: BoolArray
    """``(w,)``, true where one of the word's pieces is ``[UNK]``."""
    inexact: Collection[int] = ()
    """Lines of the sentences that could be aligned only closely."""
    windowed: bool = False
    """Whether its one sentence was too long for the model, and was encoded in windows."""


@dataclass(frozen=True, slots=True)
class Remarks:
    """What is worth telling of a sentence."""

    unknown: Sequence[int] = ()
    """Which of its words are unknown to the model, from 0: one of their pieces is ``[UNK]``."""
    empty: Sequence[int] = ()
    """Which have no pieces."""
    inexact: bool = False
    windowed: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """A sentence with the vectors of its words."""

    line: int
    """Number of the line in the input, from 1, blank lines counted."""
    words: Sequence[str]
    array: FloatArray
    """``(n, c)`` for ``n`` words."""
    remarks: Remarks | None = None

    def astype(self, dtype: np.dtype[Any]) -> Embedded:
        """Return it with an array of another type, or as it is.

        Raises:
            OutputError: a number is too large for that type; what is infinite already is not.
        """
        if self.array.dtype == dtype:
            return self
        try:
            with np.errstate(over="raise"):
                return replace(self, array=self.array.astype(dtype))
        except FloatingPointError as error:
            raise OutputError(
                f"line {self.line}: a number is too large for {dtype}, which ends at "
                f"{np.finfo(dtype).max:,.0f}: give --dtype {self.array.dtype}, which holds it, and "
                "--restart"
            ) from error


@dataclass(slots=True)
class Counts:
    """What :func:`bert_tokemb.embed` met so far; it counts up what has been yielded."""

    lines: int = 0
    sentences: int = 0
    """Arrays yielded; blank lines are among them unless they are skipped."""
    words: int = 0
    blank_lines: int = 0
    unknown_words: int = 0
    empty_words: int = 0
    """Words without pieces."""
    inexact_sentences: int = 0
    windowed_sentences: int = 0
    """Sentences too long for the model."""

    def see(self, one: Embedded) -> None:
        """Count a sentence, or a blank line that is kept."""
        self.lines += 1
        self.sentences += 1
        self.words += len(one.words)
        self.blank_lines += not one.words
        if one.remarks:
            self.unknown_words += len(one.remarks.unknown)
            self.empty_words += len(one.remarks.empty)
            self.inexact_sentences += one.remarks.inexact
            self.windowed_sentences += one.remarks.windowed


P = TypeVar("P", bound=Prepared)


class Encoder(Protocol[P]):
    """Turns sentences into piece vectors: a running server, or an engine in this process."""

    @property
    def width(self) -> int:
        """``c``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32, or float16."""

    @property
    def budget(self) -> Budget:
        """The batches it likes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides its vectors, in values that JSON has.

        Under ``fingerprint``, what a model is known by. Some numbers of what it gives for a short
        sentence, ``vectors``, may differ a little from one machine to another.
        """

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where they come from, to be told; the same vectors may come from elsewhere too."""

    def prepare(self, sentence: Sentence) -> P:
        """Split the words as far as is possible before encoding, and tell the length."""

    def pieces(self, sentence: Sentence) -> list[Sequence[str]]:
        """Return the pieces of each word, for people to look at."""

    def encode(self, batches: Iterable[Sequence[P]]) -> Iterator[Encoded]:
        """Yield one :class:`Encoded` or more for each batch, in the batches' order.

        A sentence that is too long for the model is encoded in windows
        (:mod:`bert_tokemb.windows`), and has an :class:`Encoded` of its own.

        Draws a small, bounded number of batches ahead of what it has yielded, so that the
        caller can work on one result while the next are computed.
        """


class Strategy(Protocol):
    """Merges the piece vectors of each word into one vector."""

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """Return a new ``(w, c)`` array for ``(p, c)`` vectors, of their type.

        Word ``j`` owns the rows ``starts[j] : starts[j] + counts[j]``; one without pieces
        gives a row of zeros.
        """
