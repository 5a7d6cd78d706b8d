"""Tokenizers of Japanese BERTs, whose words are those of the morphological analyzer MeCab.

The input of this package consists of words, so they count as MeCab's words, and MeCab is not
needed. What follows is what transformers' ``BertJapaneseTokenizer`` does with the words of MeCab:
it normalizes them (NFKC), lower-cases them if the model is uncased, and splits them by WordPiece or
into characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelError
from ..jsonfile import flag
from .basic import cache_short_words
from .tokenizer import TokenizedWords
from .vocabulary import Vocabulary
from .wordpiece import VocabularyTokenizer

__all__ = ["JapaneseTokenizer", "is_japanese"]

Subwords = Literal["wordpiece", "character"]


def is_japanese(settings: Mapping[str, Any]) -> bool:
    """Return whether ``tokenizer_config.json`` names MeCab as the tool that finds words."""
    return settings.get("word_tokenizer_type") == "mecab"


class JapaneseTokenizer(VocabularyTokenizer):
    """Splits words of MeCab into pieces.

    Args:
        vocabulary: The vocabulary; its settings for accents are not used.
        path: The ``tokenizer_config.json``, for error messages.
        settings: Its content.

    Raises:
        ModelError: if the settings are damaged or not supported.
    """

    def __init__(self, vocabulary: Vocabulary, path: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(vocabulary)
        self._subwords = settings.get("subword_tokenizer_type", "wordpiece")
        if self._subwords not in ("wordpiece", "character"):
            raise ModelError(
                f"{path} has subword_tokenizer_type {self._subwords!r:.40}, which is not supported "
                "(supported: wordpiece, character)"
            )
        mecab = settings.get("mecab_kwargs")
        mecab = mecab if isinstance(mecab, dict) else {}
        self._normalizes = flag(path, mecab, "normalize_text") is not False
        self._lowers = flag(path, settings, "do_lower_case") is True
        self._cached_split = cache_short_words(self._split)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that determine the pieces."""
        return {"tokenizer": f"MeCab, {self._subwords}", "do_lower_case": self._lowers}

    def tokenize(self, words: Sequence[str]) -> TokenizedWords:
        """Return the pieces of the words of a sentence."""
        return TokenizedWords(list(map(self._cached_split, words)))

    def _split(self, word: str) -> tuple[int, ...]:
        if self._normalizes:
            word = unicodedata.normalize("NFKC", word)
        if self._lowers:
            word = word.lower()
        # Normalization may have made spaces, at which MeCab splits.
        parts = word.split()
        if self._subwords == "wordpiece":
            return tuple(i for part in parts for i in self.spell(part))
        return tuple(
            self.id(char) for part in parts for char in unicodedata.normalize("NFKC", part)
        )
