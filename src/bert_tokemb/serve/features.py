"""From the texts of a request to what the engine takes, as bert-as-service does it.

The rules are those of ``convert_lst_to_features`` in ``bert_serving/server/bert/
extract_features.py``, version 1.10.0: which texts are pairs, what is cut off, which pieces are
hidden, and how long the sentences of a part are when they are padded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..model.pieces import PieceTokenizer
from .pooling import Pooling
from .protocol import Text
from .settings import Settings

__all__ = ["FeatureMaker", "Features", "UnfitError"]

_PAIR = re.compile(r"(.*) \|\|\| (.*)")
_BETWEEN = "|||"
# What ends a word for BERT: ASCII white space, other spaces (Zs), and what `str.split` adds to
# them and BERT does not delete.
_SPACE = re.compile("[\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


class UnfitError(Exception):
    """A sentence of a request cannot be computed; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Features:
    """One sentence, or pair of them, as the engine takes it; without padding."""

    ids: Sequence[int]
    """Of its pieces, special ones included."""
    types: Sequence[int]
    """0 for pieces of the first sentence, 1 for those of the second."""
    mask: Sequence[int]
    """0 for pieces that are to be hidden."""


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
            self._features(first, second, t, whole=self._stays_whole(text, second))
            for text, (first, second) in zip(texts, pairs, strict=True)
        ], t

    def tokens(self, features: Features) -> list[str]:
        """Return the pieces of a sentence, special ones included."""
        return [self._tokenizer.piece(i) for i in features.ids]

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
        split = self._tokenizer.split
        return [i for word in _SPACE.split(text) if word for i in split(word)]

    def _stays_whole(self, text: Text, second: Sequence[int]) -> bool:
        """Whether a sentence goes without ``[CLS]`` and ``[SEP]``."""
        return self._settings.no_special_token and isinstance(text, list) and not second

    def _features(self, first: list[int], second: list[int], t: int, *, whole: bool) -> Features:
        if whole:
            ids = first[:t]
            if not ids:
                raise UnfitError("a sentence without pieces, and without [CLS] and [SEP]")
            return Features(ids, [0] * len(ids), [1] * len(ids))
        cls, sep = self._tokenizer.cls, self._tokenizer.sep
        special = 1 - self._settings.mask_cls_sep
        if not second:
            first = first[: t - 2]
            mask = [special, *[1] * len(first), special]
            if not any(mask) and self._settings.pooling_strategy is Pooling.LAST_TOKEN:
                # Nor does the original go on here.
                raise UnfitError("a sentence without pieces has no last one when [SEP] is masked")
            return Features([cls, *first, sep], [0] * len(mask), mask)
        if self._token_types < 2:
            raise UnfitError("this model knows no pairs of sentences")
        first, second = _cut_pair(first, second, t - 3)
        types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        mask = [special, *[1] * len(first), special, *[1] * len(second), special]
        return Features([cls, *first, sep, *second, sep], types, mask)


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
