"""Reading the ``tokenizer.json`` of a BERT model, a file of the ``tokenizers`` library.

Only tokenizers equal to BERT's own are accepted, since that is the one implemented here. Settings
for truncation and padding are ignored: they are meant for other programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, translate
from ..jsonfile import flag, read_json
from .basic import UNKNOWN

__all__ = ["MAX_TOKEN_LENGTH", "TokenizerFile", "read_tokenizer"]

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


def read_tokenizer(path: Path) -> TokenizerFile:
    """Read a ``tokenizer.json``.

    Raises:
        ModelError: if it cannot be read, is damaged, or differs from BERT's tokenizer.
    """
    content = read_json(path)
    model = _part(path, content, "model", _MODEL)
    normalizer = _part(path, content, "normalizer", _NORMALIZER)
    _part(path, content, "pre_tokenizer", _PRE_TOKENIZER)
    return TokenizerFile(
        ids=_ids(path, model),
        do_lower_case=flag(path, normalizer, "lowercase") is not False,
        strip_accents=flag(path, normalizer, "strip_accents", nullable=True),
    )


def _part(
    path: Path, content: Mapping[str, Any], name: str, supported: Mapping[str, Any]
) -> Mapping[str, Any]:
    part = content.get(name)
    if not isinstance(part, dict):
        raise ModelError(f"{path} is not the tokenizer of a BERT model: its {name} is {part!r:.40}")
    for key, value in supported.items():
        if (found := part.get(key, value)) != value:
            raise ModelError(
                f"{path} is not supported: the {key} of its {name} is {found!r:.40}, but must be "
                f"{value!r} as in BERT's own tokenizer"
            )
    return part


def _ids(path: Path, model: Mapping[str, Any]) -> Mapping[str, int]:
    ids = model.get("vocab")
    if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
        raise ModelError(f"{path} is damaged: its model has no valid vocabulary")
    damaged = f"{path} is damaged: a piece is not valid text"
    with translate(ModelError, f"read {path}", damage=(UnicodeEncodeError,), damaged=damaged):
        "".join(ids).encode()  # JSON allows lone surrogates
    return ids
