"""From the texts of a request to the inputs of the model.

The rules are those of ``convert_lst_to_features`` in
``bert_serving/server/bert/extract_features.py``, version 1.10.0: which texts are sentence pairs,
where they are cut, which pieces are masked, and to which length they are padded.

Clients know the special tokens as ``[CLS]`` and ``[SEP]``. Requests and replies use these names
also for a model such as MPNet, whose vocabulary has ``<s>`` and ``</s>``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..tokenization.basic import CLS, SEP
from ..tokenization.wordpiece import PieceTokenizer
from ..types import IntArray
from .pooling import Pooling
from .protocol import Text
from .settings import Settings

__all__ = ["FeatureMaker", "Features", "RequestError"]

_PAIR = re.compile(r"(.*) \|\|\| (.*)")
_SEPARATOR = "|||"
# Words end at what BERT takes for white space: ASCII white space, the category Zs, and the two
# separators at which `str.split` splits and which BERT does not delete.
_WORD = re.compile("[^\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


class RequestError(Exception):
    """A request cannot be answered; the message is sent to the client."""


@dataclass(frozen=True, slots=True)
class Features:
    """The inputs of the model for one sentence, or one pair, in general without padding."""

    ids: array[int]
    """Of the pieces, special tokens included."""
    first_length: int
    """How many of them belong to the first sentence of a pair."""
    masked: Sequence[int]
    """Indices of the pieces that may not be attended to."""
    pieces: int
    """The number of pieces without padding."""

    @property
    def mask(self) -> IntArray:
        """``(p,)``, the attention mask."""
        mask = np.ones(len(self.ids), np.intp)
        mask[list(self.masked)] = 0
        return mask


class FeatureMaker:
    """Makes features with the vocabulary of a model; safe to use from several threads.

    Args:
        tokenizer: Splits words into pieces.
        settings: Where to cut, what to mask.
        max_length: The most pieces that the model accepts (``max_position_embeddings``).
        token_types: The number of token types of the model; pairs need two.
    """

    def __init__(
        self, tokenizer: PieceTokenizer, settings: Settings, max_length: int, token_types: int
    ) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._max_length = max_length
        self._token_types = token_types
        self._special_ids = {CLS: tokenizer.cls, SEP: tokenizer.sep}
        self._special_names = {i: name for name, i in self._special_ids.items()}

    def make(self, texts: Sequence[Text]) -> tuple[list[Features], int]:
        """Return the features of a part of a request, and the length to which it is padded.

        Raises:
            RequestError: if one of the texts cannot be encoded.
        """
        pairs = [self._split(text) for text in texts]
        length = self._settings.max_seq_len
        if length is None:
            special = 3 if any(second for _, second in pairs) else 2
            longest = max(len(first) + len(second) for first, second in pairs)
            length = min(longest + special, self._max_length)
        return [
            self._make_one(first, second, length, is_tokenized=isinstance(text, list))
            for text, (first, second) in zip(texts, pairs, strict=True)
        ], length

    def tokens(self, features: Features) -> list[str]:
        """Return the pieces of a sentence, special tokens included."""
        names = self._special_names
        return [
            names[i] if i in names else self._tokenizer.piece(i)
            for i in features.ids[: features.pieces]
        ]

    def _split(self, text: Text) -> tuple[list[int], list[int]]:
        """Return the piece ids of a sentence, and those of the second sentence of a pair."""
        if isinstance(text, list):
            end = text.index(_SEPARATOR) if _SEPARATOR in text else len(text)
            special = self._special_ids
            ids = [special[p] if p in special else self._tokenizer.id(p) for p in text]
            return ids[:end], ids[end + 1 :]
        stripped = text.strip()
        if _SEPARATOR in stripped and (match := _PAIR.fullmatch(stripped)):
            return self._tokenize(match[1]), self._tokenize(match[2])
        return self._tokenize(stripped), []

    def _tokenize(self, text: str) -> list[int]:
        """Return the piece ids of a text, or of its beginning if the model does not accept more."""
        ids: list[int] = []
        for word in _WORD.finditer(text):
            ids += self._tokenizer.split(word[0])
            if len(ids) >= self._max_length:
                break
        return ids

    def _make_one(
        self, first: list[int], second: list[int], length: int, *, is_tokenized: bool
    ) -> Features:
        # The flag applies to tokenized requests only, as in the original.
        bare = self._settings.no_special_token and is_tokenized
        if second:
            first, second = _cut_pair(first, second, length - 3)  # may leave nothing of the second
        else:
            first = first[: length if bare else length - 2]
        if bare and not second:
            return self._features(first, len(first), (), length)
        ids = [self._tokenizer.cls, *first, self._tokenizer.sep]
        n = len(ids)
        if second:
            if self._token_types < 2:
                raise RequestError("this model does not support sentence pairs")
            ids += [*second, self._tokenizer.sep]
        special = (0, n - 1, len(ids) - 1) if second else (0, n - 1)
        return self._features(ids, n, special if self._settings.mask_cls_sep else (), length)

    def _features(
        self, ids: list[int], first_length: int, masked: Sequence[int], length: int
    ) -> Features:
        pieces = len(ids)
        if len(masked) == pieces:
            if self._settings.pooling_strategy is Pooling.LAST_TOKEN:
                # The worker of the original dies of it.
                raise RequestError("all pieces of a sentence are masked, so there is no last one")
            # With everything masked, attention is uniform: the padding counts as much as the rest.
            ids, first_length, masked = ids + [0] * (length - pieces), length, range(length)
        return Features(array("i", ids), first_length, masked, pieces)


def _cut_pair(first: list[int], second: list[int], length: int) -> tuple[list[int], list[int]]:
    """Remove pieces from the end of the longer sentence until the pair fits.

    >>> _cut_pair([1, 2, 3, 4], [5, 6], 4)
    ([1, 2], [5, 6])
    >>> _cut_pair([1, 2], [5, 6], 3)
    ([1, 2], [5])
    """
    a, b = len(first), len(second)
    while a + b > length:
        if a > b:
            a -= 1
        else:
            b -= 1
    return first[:a], second[:b]
