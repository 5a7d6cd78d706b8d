"""Tokenizers of the ``tokenizers`` library: byte-level BPE, SentencePiece's, other WordPieces.

The pieces of a sentence are those that the model's own ``tokenizer.json`` gives for its words with
one space between them. Special tokens in the text are text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import tokenizers
from tokenizers import pre_tokenizers

from ..errors import ModelError, translate
from .basic import cache_short_words
from .locality import find_locality
from .ownership import Spelling, assign
from .special_tokens import read_special_tokens
from .tokenizer import TokenizedWords

__all__ = ["LibraryTokenizer"]

_NEIGHBOR = "a"
"""A word next to which other words are tokenized."""
_UNKNOWN = "\0"
"""What the unknown piece spells: it stands for any characters."""


class LibraryTokenizer:
    """A tokenizer that the ``tokenizers`` library reads.

    Where :mod:`bert_tokemb.tokenization.locality` proves that words are independent, each distinct
    word is tokenized once. Otherwise whole lines are tokenized, and the pieces are assigned to
    words by :mod:`bert_tokemb.tokenization.ownership`.

    Args:
        path: The ``tokenizer.json``, for error messages.
        content: Its content.
        serialized: The same as JSON.

    Raises:
        ModelError: if it is damaged or not supported.
    """

    def __init__(self, path: Path, content: Mapping[str, Any], serialized: bytes) -> None:
        self._tokenizer = _load(path, serialized)
        self._normalizer = self._tokenizer.normalizer
        model = content["model"]
        self.kind = type(self._tokenizer.model).__name__
        """BPE, Unigram, WordPiece or WordLevel."""
        self.prefix, self.suffix = read_special_tokens(path, content.get("post_processor"))
        self.unknown = _unknown(path, self.kind, model)
        self.size = 1 + max(
            (
                *(model["vocab"].values() if self.kind != "Unigram" else [len(model["vocab"]) - 1]),
                *(token["id"] for token in content.get("added_tokens") or ()),
            ),
            default=-1,
        )
        self._digest = hashlib.blake2b(serialized, digest_size=16).hexdigest()
        # Old files do not name the type of every part; the library does.
        self._locality = find_locality(
            {
                "added_tokens": content.get("added_tokens") or (),
                "normalizer": _state(self._normalizer),
                "pre_tokenizer": _state(self._tokenizer.pre_tokenizer),
                "model": {**model, "type": self.kind},
            },
            self._normalize,
        )
        self._is_byte_level = self._locality.marker == "Ġ"
        self._continuing = model.get("continuing_subword_prefix") or ""
        self._ending = model.get("end_of_word_suffix") or ""
        self._added = {
            token["id"] for token in content.get("added_tokens") or () if not token.get("special")
        }
        self._alone = self._encode(_NEIGHBOR)
        self._after = tuple(self._encode(f"{_NEIGHBOR} {_NEIGHBOR}").ids[len(self._alone.ids) :])
        self._cached_first = cache_short_words(self._first)
        self._cached_later = cache_short_words(self._later)
        self._cached_spelling = cache_short_words(self._spelling)

    @property
    def settings(self) -> Mapping[str, Any]:
        """The kind of the tokenizer, and the version of the library."""
        return {"tokenizer": self.kind, "tokenizers": version("tokenizers")}

    @property
    def fingerprint(self) -> Mapping[str, str]:
        """A digest of the ``tokenizer.json``."""
        return {"tokenizer": self._digest}

    def tokenize(self, words: Sequence[str]) -> TokenizedWords:
        """Return the pieces of the words of a sentence."""
        if self._locality.is_local:
            pieces = [self._cached_first(words[0]), *map(self._cached_later, words[1:])]
            if None not in pieces:
                return TokenizedWords(cast("list[tuple[int, ...]]", pieces))
        return self._tokenize_line(words)

    def piece(self, i: int) -> str:
        """Return the piece with this id."""
        return cast(str, self._tokenizer.id_to_token(i))

    def _first(self, word: str) -> tuple[int, ...] | None:
        """Return the pieces of the first word of a line, or None if they depend on other words."""
        if not self._locality.allows(word, self._normalize(word)):
            return None
        found = self._encode(word)
        followed = self._encode(f"{word} {_NEIGHBOR}").ids
        return self._own(word, found, 0) if followed == [*found.ids, *self._after] else None

    def _later(self, word: str) -> tuple[int, ...] | None:
        """Return the pieces of any later word, or None if they depend on other words."""
        if not self._locality.allows(word, self._normalize(word)):
            return None
        before = self._alone.ids
        found = self._encode(f"{_NEIGHBOR} {word}")
        if self.kind == "Unigram" and self._continues_another_word(found.tokens[len(before) :]):
            return None
        followed = self._encode(f"{_NEIGHBOR} {word} {_NEIGHBOR}").ids
        is_independent = found.ids[: len(before)] == before and followed == [
            *found.ids,
            *self._after,
        ]
        return self._own(word, found, len(before)) if is_independent else None

    def _continues_another_word(self, tokens: Sequence[str]) -> bool:
        """Return whether these pieces do not begin with a space.

        The normalizer can remove the space before a combining mark. Unigram then segments the
        word together with the one before it.
        """
        return bool(tokens) and not tokens[0].startswith(self._locality.marker)

    def _own(self, word: str, found: tokenizers.Encoding, start: int) -> tuple[int, ...] | None:
        """Return the pieces from ``start`` on, or None if they spell only spaces."""
        text = "".join(self._spell(found)[start:])
        if text and len(text) == self._separators(word, text):
            return None
        return tuple(found.ids[start:])

    def _tokenize_line(self, words: Sequence[str]) -> TokenizedWords:
        found = self._encode(" ".join(words))
        return assign(
            [self._cached_spelling(word, j > 0) for j, word in enumerate(words)],
            self._spell(found),
            found.ids,
            self._locality.marker,
        )

    def _spelling(self, word: str, is_later: bool) -> Spelling:
        text = "".join(self._spell(self._encode(f"{_NEIGHBOR} {word}" if is_later else word)))
        if is_later:
            text = text.removeprefix("".join(self._spell(self._alone)))
        return Spelling(text, self._separators(word, text))

    def _separators(self, word: str, text: str) -> int:
        """Return how many characters that a word's pieces spell stand for the space before it.

        Args:
            word: The word, which may itself begin with the character that stands for a space.
            text: What its pieces spell.
        """
        marker = self._locality.marker
        own = 0 if self._is_byte_level else len(word) - len(word.lstrip(marker))
        return max(0, len(text) - len(text.lstrip(marker)) - own)

    def _spell(self, found: tokenizers.Encoding) -> list[str]:
        """Return what each piece spells, in the alphabet of the vocabulary."""
        return list(map(self._spell_piece, found.tokens, found.ids))

    def _spell_piece(self, piece: str, i: int) -> str:
        if i == self.unknown:
            # For Unigram, the library returns the unknown characters instead of the piece.
            return piece if self.kind == "Unigram" else _UNKNOWN
        if i in self._added:
            return self._in_alphabet(self._normalize(piece))
        return piece.removeprefix(self._continuing).removesuffix(self._ending)

    def _in_alphabet(self, text: str) -> str:
        """Return plain text, as that of an added token, in the alphabet of the vocabulary."""
        if self._is_byte_level:
            to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            return "".join(part for part, _ in to_bytes.pre_tokenize_str(text))
        return text.replace(" ", self._locality.marker)

    def _normalize(self, text: str) -> str:
        if self._normalizer is None:
            return text
        normalized: str = self._normalizer.normalize_str(text)
        return normalized

    def _encode(self, text: str) -> tokenizers.Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)


def _load(path: Path, serialized: bytes) -> tokenizers.Tokenizer:
    # The library raises no class of its own.
    with translate(ModelError, f"read {path}", damage=(Exception,), damaged=f"{path} is damaged"):
        tokenizer = tokenizers.Tokenizer.from_buffer(serialized)
    # The special tokens in a text are text. The file does not hold this setting.
    tokenizer.encode_special_tokens = True
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _state(part: Any) -> Mapping[str, Any] | None:
    """Return a part of a tokenizer as JSON values."""
    state: Mapping[str, Any] | None = json.loads(part.__getstate__()) if part is not None else None
    return state


def _unknown(path: Path, kind: str, model: Mapping[str, Any]) -> int | None:
    """Return the id of the unknown piece; only BPE can do without."""
    if kind == "Unigram":
        found: int | None = model.get("unk_id")
    else:
        default = {"WordPiece": "[UNK]", "WordLevel": "<unk>"}.get(kind)
        found = model["vocab"].get(model.get("unk_token") or default)
    if found is None and kind != "BPE":
        raise ModelError(f"{path} is damaged: its vocabulary has no unknown piece")
    return found
