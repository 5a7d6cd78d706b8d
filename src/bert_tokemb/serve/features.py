"""From the texts of a request to what the engine takes, as bert-as-service does it.

The rules are those of ``convert_lst_to_features`` in ``bert_serving/server/bert/
extract_features.py``, version 1.10.0: which texts are pairs, what is cut off, which pieces are
hidden, and how long the sentences of a part are when they are padded.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenization.wordpiece import PieceTokenizer
from ..types import IntArray
from .pooling import Pooling
from .protocol import Text
from .settings import Settings

__all__ = ["FeatureMaker", "Features", "UnfitError"]

_PAIR = re.compile(r"(.*) \|\|\| (.*)")
_BETWEEN = "|||"
# What ends a word for BERT: ASCII white space, other spaces (Zs), and what `str.split` adds to
# them and BERT does not delete.
_WORD = re.compile("[^\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


class UnfitError(Exception):
    """A sentence of a request cannot be computed; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Features:
    """One sentence, or pair of them, as the engine takes it; mostly without padding."""

    ids: array[int]
    """Of its pieces, special ones included."""
    first: int
    """How many of them belong to the first sentence."""
    hidden: Sequence[int]
    """The places of those that are to be hidden."""
    pieces: int
    """How many there are without padding."""

    @property
    def mask(self) -> IntArray:
        """``(n,)``, 0 for pieces that are to be hidden, and else 1."""
        mask = np.ones(len(self.ids), np.intp)
        mask[list(self.hidden)] = 0
        return mask


class FeatureMaker:
    """Makes features with a model's vocabulary; may be called by several threads at a time.

    Args:
        tokenizer: Splits words.
        settings: How sentences are cut and hidden.
        positions: The most pieces that the model takes.
        token_types: How many kinds of sentences the model knows.
    """

    def __init__(
        self, tokenizer: PieceTokenizer, settings: Settings, positions: int, token_types: int
    ) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._positions = positions
        self._token_types = token_types

    def make(self, texts: Sequence[Text]) -> tuple[list[Features], int]:
        """Return the features of a part of a request, and its length when padded.

        Raises:
            UnfitError: one of the texts cannot be computed.
        """
        pairs = [self._split(text) for text in texts]
        t = self._settings.max_seq_len
        if t is None:
            special = 3 if any(second for _, second in pairs) else 2
            longest = max(len(first) + len(second) for first, second in pairs)
            t = min(longest + special, self._positions)
        return [
            self._features(first, second, t, is_tokenized=isinstance(text, list))
            for text, (first, second) in zip(texts, pairs, strict=True)
        ], t

    def tokens(self, features: Features) -> list[str]:
        """Return the pieces of a sentence, special ones included."""
        return [self._tokenizer.piece(i) for i in features.ids[: features.pieces]]

    def _split(self, text: Text) -> tuple[list[int], list[int]]:
        """Return the ids of the pieces of a sentence, and of a second one if there is."""
        if isinstance(text, list):
            at = text.index(_BETWEEN) if _BETWEEN in text else len(text)
            ids = [self._tokenizer.id(piece) for piece in text]
            return ids[:at], ids[at + 1 :]
        stripped = text.strip()
        if _BETWEEN in stripped and (match := _PAIR.fullmatch(stripped)):
            return self._pieces(match[1]), self._pieces(match[2])
        return self._pieces(stripped), []

    def _pieces(self, text: str) -> list[int]:
        """Return the ids of a text's pieces, as far as the model can take them."""
        ids: list[int] = []
        for word in _WORD.finditer(text):
            ids += self._tokenizer.split(word[0])
            if len(ids) >= self._positions:
                break
        return ids

    def _features(
        self, first: list[int], second: list[int], t: int, *, is_tokenized: bool
    ) -> Features:
        bare = self._settings.no_special_token and is_tokenized
        if second:
            first, second = _cut_pair(first, second, t - 3)  # perhaps to nothing
        else:
            first = first[: t if bare else t - 2]
        if bare and not second:
            return self._features_of(first, len(first), (), t)
        ids = [self._tokenizer.cls, *first, self._tokenizer.sep]
        n = len(ids)
        if second:
            if self._token_types < 2:
                raise UnfitError("this model knows no pairs of sentences")
            ids += [*second, self._tokenizer.sep]
        special = (0, n - 1, len(ids) - 1) if second else (0, n - 1)
        return self._features_of(ids, n, special if self._settings.mask_cls_sep else (), t)

    def _features_of(self, ids: list[int], first: int, hidden: Sequence[int], t: int) -> Features:
        pieces = len(ids)
        if len(hidden) == pieces:
            if self._settings.pooling_strategy is Pooling.LAST_TOKEN:
                # Nor does the original go on here.
                raise UnfitError("every piece of a sentence is masked, so that none is the last")
            # All hidden are as good as none: what is looked at is the padding too.
            ids, first, hidden = ids + [0] * (t - pieces), t, range(t)
        return Features(array("i", ids), first, hidden, pieces)


def _cut_pair(first: list[int], second: list[int], most: int) -> tuple[list[int], list[int]]:
    """Take pieces off the end of the longer sentence until there are at most ``most``.

    >>> _cut_pair([1, 2, 3, 4], [5, 6], 4)
    ([1, 2], [5, 6])
    >>> _cut_pair([1, 2], [5, 6], 3)
    ([1, 2], [5])
    """
    a, b = len(first), len(second)
    while a + b > most:
        if a > b:
            a -= 1
        else:
            b -= 1
    return first[:a], second[:b]
