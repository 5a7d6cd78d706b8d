"""WordPiece: from words to the ids of pieces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from tokenizers.models import WordPiece

from .basic import CLS, SEP, UNKNOWN, basic_tokens, cache_short_words
from .tokenizer_json import MAX_TOKEN_LENGTH
from .vocabulary import Vocabulary

__all__ = ["PieceTokenizer"]


class PieceTokenizer:
    """Splits words into the pieces of a vocabulary.

    A word is first split into the same basic tokens by which the replies of a server are aligned.
    Each token is then spelled from left to right by the longest pieces that fit, or replaced by
    one ``[UNK]``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._model = WordPiece(
            dict(vocabulary.ids), unk_token=UNKNOWN, max_input_chars_per_word=MAX_TOKEN_LENGTH
        )
        self.cls: int = vocabulary.ids[CLS]
        self.sep: int = vocabulary.ids[SEP]
        self.unknown: int = vocabulary.ids[UNKNOWN]
        self._cached_split = cache_short_words(self._split)

    def split(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word's pieces; none if BERT deletes all of its characters."""
        return self._cached_split(word)

    def id(self, piece: str) -> int:
        """Return the id of a piece, or that of ``[UNK]`` if the vocabulary lacks the piece."""
        return self._vocabulary.ids.get(piece, self.unknown)

    def piece(self, i: int) -> str:
        """Return the piece with this id."""
        return self._pieces[i]

    @cached_property
    def _pieces(self) -> Mapping[int, str]:
        return {i: piece for piece, i in self._vocabulary.ids.items()}

    def _split(self, word: str) -> tuple[int, ...]:
        tokens = basic_tokens(word, self._vocabulary.do_lower_case, self._vocabulary.strip_accents)
        return tuple(piece.id for token in tokens for piece in self._model.tokenize(token))
