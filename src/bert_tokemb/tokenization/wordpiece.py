"""From words to the ids of word pieces."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

from tokenizers.models import WordPiece

from .basic import UNKNOWN, basic_tokens
from .tokenizer_json import LONGEST_TOKEN
from .vocabulary import Vocabulary

__all__ = ["PieceTokenizer"]

# Words repeat (Zipf): most are found here. Long ones repeat rarely and would make the memory's
# size depend on the text.
_REMEMBERED_WORDS = 1 << 16
_LONGEST_REMEMBERED = 64


class PieceTokenizer:
    """Splits words into the pieces of a vocabulary.

    A word's basic tokens are those by which replies of a server are aligned, so that a word is
    the same to both encoders. Each token then gives the longest pieces that spell it, from
    left to right, or one ``[UNK]``.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._model = WordPiece(
            dict(vocabulary.ids), unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_TOKEN
        )
        self.cls: int = vocabulary.ids["[CLS]"]
        self.sep: int = vocabulary.ids["[SEP]"]
        self.unknown: int = vocabulary.ids[UNKNOWN]
        self._remembered = lru_cache(maxsize=_REMEMBERED_WORDS)(self._split)

    def split(self, word: str) -> tuple[int, ...]:
        """Return the ids of a word's pieces, none when BERT deletes all its characters."""
        return self._split(word) if len(word) > _LONGEST_REMEMBERED else self._remembered(word)

    def id(self, piece: str) -> int:
        """Return a piece's id, or that of ``[UNK]`` where there is no such piece."""
        return self._vocabulary.ids.get(piece, self.unknown)

    def piece(self, i: int) -> str:
        """Return the piece that has this id."""
        return self._pieces[i]

    @cached_property
    def _pieces(self) -> Mapping[int, str]:
        return {i: piece for piece, i in self._vocabulary.ids.items()}

    def _split(self, word: str) -> tuple[int, ...]:
        tokens = basic_tokens(word, self._vocabulary.do_lower_case, self._vocabulary.strip_accents)
        return tuple(piece.id for token in tokens for piece in self._model.tokenize(token))
