"""Reading the ``tokenizer.json`` of a BERT model, a file of the ``tokenizers`` library.

A tokenizer equal to BERT's own is implemented in this package; :func:`is_bert` recognizes it.
Settings for truncation and padding are ignored: they are meant for other programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, translate
from ..jsonfile import flag
from .basic import UNKNOWN
from .special_tokens import read_special_tokens

__all__ = ["MAX_TOKEN_LENGTH", "TokenizerFile", "is_bert", "read_bert_tokenizer"]

MAX_TOKEN_LENGTH = 100
"""Characters; a longer basic token is unknown, as in the tokenizer of bert-as-service."""

# The supported values, which are also the defaults.
_MODEL = {
    "type": "WordPiece",
    "unk_token": UNKNOWN,
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": MAX_TOKEN_LENGTH,
}
_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
_PRE_TOKENIZER = {"type": "BertPreTokenizer"}


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The vocabulary and the normalization of a ``tokenizer.json``."""

    ids: Mapping[str, int]
    """By piece."""
    do_lower_case: bool
    strip_accents: bool | None
    """None means: if words are lower-cased."""
    special: tuple[int, int] | None
    """The ids of the special tokens before and after a sentence, if the file has them."""


def is_bert(path: Path, content: Mapping[str, Any]) -> bool:
    """Return whether a ``tokenizer.json`` describes BERT's own tokenizer.

    Args:
        path: The file, for error messages.
        content: Its content.

    Raises:
        ModelError: if its special tokens are damaged.
    """
    added = content.get("added_tokens")
    return (
        _agrees(content.get("model"), _MODEL)
        and _agrees(content.get("normalizer"), _NORMALIZER)
        and _agrees(content.get("pre_tokenizer"), _PRE_TOKENIZER)
        # BERT knows no words that are searched for before anything else.
        and not (isinstance(added, list) and not all(map(_is_special, added)))
        and (content.get("post_processor") is None or _special(path, content) is not None)
    )


def read_bert_tokenizer(path: Path, content: Mapping[str, Any]) -> TokenizerFile:
    """Return the vocabulary and the settings of a tokenizer for which :func:`is_bert` is true.

    Raises:
        ModelError: if the file is damaged.
    """
    normalizer = content["normalizer"]
    return TokenizerFile(
        ids=_ids(path, content["model"]),
        do_lower_case=flag(path, normalizer, "lowercase") is not False,
        strip_accents=flag(path, normalizer, "strip_accents", nullable=True),
        special=_special(path, content),
    )


def _is_special(token: object) -> bool:
    return isinstance(token, dict) and token.get("special") is True


def _agrees(part: object, supported: Mapping[str, Any]) -> bool:
    return isinstance(part, dict) and all(
        part.get(key, value) == value for key, value in supported.items()
    )


def _special(path: Path, content: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the special tokens if there is one on each side of a sentence."""
    prefix, suffix = read_special_tokens(path, content.get("post_processor"))
    return (prefix[0], suffix[0]) if len(prefix) == len(suffix) == 1 else None


def _ids(path: Path, model: Mapping[str, Any]) -> Mapping[str, int]:
    ids = model.get("vocab")
    if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
        raise ModelError(f"{path} is damaged: its model has no valid vocabulary")
    damaged = f"{path} is damaged: a piece is not valid text"
    with translate(ModelError, f"read {path}", damage=(UnicodeEncodeError,), damaged=damaged):
        "".join(ids).encode()  # JSON allows lone surrogates
    return ids
