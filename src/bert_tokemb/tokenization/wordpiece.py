"""WordPiece: from words to the ids of pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers.models import WordPiece

from .basic import UNKNOWN, basic_tokens, cache_short_words
from .tokenizer import TokenizedWords
from .tokenizer_json import MAX_TOKEN_LENGTH
from .vocabulary import Vocabulary

__all__ = ["PieceTokenizer", "VocabularyTokenizer"]


class VocabularyTokenizer:
    """What the tokenizers with a vocabulary of BERT's kind have in common."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.cls: int = vocabulary.ids[vocabulary.cls]
        self.sep: int = vocabulary.ids[vocabulary.sep]
        self.unknown: int = vocabulary.ids[UNKNOWN]
        self.prefix, self.suffix = (self.cls,), (self.sep,)
        self.size = 1 + max(vocabulary.ids.values())

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """A digest of the vocabulary."""
        pieces = "\n".join(self.vocabulary.ids).encode()
        return {"vocabulary": hashlib.blake2b(pieces, digest_size=16).hexdigest()}

    def spell(self, token: str) -> list[int]:
        """Return the ids of the longest pieces that spell a token, or of one ``[UNK]``."""
        return [piece.id for piece in self._model.tokenize(token)]

    def id(self, piece: str) -> int:
        """Return the id of a piece, or that of ``[UNK]`` if the vocabulary lacks the piece."""
        return self.vocabulary.ids.get(piece, self.unknown)

    def piece(self, i: int) -> str:
        """Return the piece with this id."""
        return self._pieces[i]

    @cached_property
    def _model(self) -> WordPiece:
        return WordPiece(
            dict(self.vocabulary.ids), unk_token=UNKNOWN, max_input_chars_per_word=MAX_TOKEN_LENGTH
        )

    @cached_property
    def _pieces(self) -> Mapping[int, str]:
        return {i: piece for piece, i in self.vocabulary.ids.items()}


class PieceTokenizer(VocabularyTokenizer):
    """BERT's own tokenizer: splits words into the pieces of a vocabulary.

    A word is first split into the same basic tokens by which the replies of a server are aligned.
    Each token is then spelled from left to right by the longest pieces that fit, or replaced by
    one ``[UNK]``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._cached_split = cache_short_words(self._split)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The normalization of words."""
        return {
            "do_lower_case": self.vocabulary.do_lower_case,
            "strip_accents": self.vocabulary.strip_accents,
        }

    def split(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word's pieces; none if BERT deletes all of its characters."""
        return self._cached_split(word)

    def tokenize(self, words: Sequence[str]) -> TokenizedWords:
        """Return the pieces of the words of a sentence."""
        return TokenizedWords(list(map(self._cached_split, words)))

    def _split(self, word: str) -> tuple[int, ...]:
        tokens = basic_tokens(word, self.vocabulary.do_lower_case, self.vocabulary.strip_accents)
        return tuple(i for token in tokens for i in self.spell(token))
