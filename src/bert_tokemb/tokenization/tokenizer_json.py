"""What a ``tokenizer.json`` says, as the ``tokenizers`` library writes it for a BERT.

Only what BERT's own tokenizer does is accepted, since ours does that and nothing else. Its settings
for truncation and padding are those of some other program, and not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..jsonfile import flag, read_json
from .basic import UNKNOWN

__all__ = ["LONGEST_TOKEN", "TokenizerFile", "read_tokenizer"]

LONGEST_TOKEN = 100
"""Characters; a longer token is unknown. So has the tokenizer that bert-as-service ships."""

# Each with the value that goes without saying, which is the one that is supported.
_OF_MODEL = {
    "type": "WordPiece",
    "unk_token": UNKNOWN,
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": LONGEST_TOKEN,
}
_OF_NORMALIZER = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """The vocabulary, and how words are folded."""

    ids: Mapping[str, int]
    do_lower_case: bool
    strip_accents: bool | None
    """None where it is done together with lower-casing."""


def read_tokenizer(path: Path) -> TokenizerFile:
    """Read a ``tokenizer.json``.

    Raises:
        ModelError: it cannot be read, is damaged, or does not do what BERT's tokenizer does.
    """
    found = read_json(path)
    model, normalizer, splitter = (
        _part(path, found, name) for name in ("model", "normalizer", "pre_tokenizer")
    )
    _expect(path, "model", model, _OF_MODEL)
    _expect(path, "normalizer", normalizer, _OF_NORMALIZER)
    _expect(path, "pre_tokenizer", splitter, {"type": "BertPreTokenizer"})
    return TokenizerFile(
        ids=_ids(path, model),
        do_lower_case=flag(path, normalizer, "lowercase") is not False,
        strip_accents=flag(path, normalizer, "strip_accents", nullable=True),
    )


def _part(path: Path, found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = found.get(name)
    if not isinstance(part, dict):
        raise ModelError(f"{path} is not a BERT's: its {name} is {part!r:.40}")
    return part


def _expect(path: Path, what: str, found: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if (there := found.get(name, value)) != value:
            raise ModelError(
                f"{path} has a {what} with {name} {there!r:.40}: only {value!r} is supported, as "
                "in BERT's own tokenizer"
            )


def _ids(path: Path, model: Mapping[str, Any]) -> Mapping[str, int]:
    ids = model.get("vocab")
    if not isinstance(ids, dict) or not all(type(i) is int and i >= 0 for i in ids.values()):
        raise ModelError(f"{path} is damaged: its model has no vocabulary")
    try:
        "".join(ids).encode()
    except UnicodeEncodeError as error:
        raise ModelError(f"{path} is damaged: a piece is no text ({error.reason})") from error
    return ids
