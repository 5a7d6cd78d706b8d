"""The vocabulary of a model, and how words are normalized before they are looked up."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CasedUnknownError, ModelError, translate
from ..jsonfile import flag, read_json
from .basic import CLS, SEP, UNKNOWN
from .tokenizer_json import read_tokenizer

__all__ = ["Vocabulary", "read_google_vocabulary", "read_vocabulary"]

_log = logging.getLogger(__name__)

# The last two do not name a kind of vocabulary: tokenizer.json does.
_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces of a model, and the normalization of words."""

    ids: Mapping[str, int]
    """By piece."""
    do_lower_case: bool
    strip_accents: bool


def read_vocabulary(directory: Path, cased: bool | None = None) -> Vocabulary:
    """Read the ``vocab.txt`` of a Hugging Face directory, or else its ``tokenizer.json``.

    Args:
        directory: Contains one of them and possibly ``tokenizer_config.json``. For
            ``do_lower_case`` and ``strip_accents``, the latter has precedence over
            ``tokenizer.json``.
        cased: Whether the model is cased; overrides the files.

    Raises:
        ModelError: if there is no vocabulary, if a file is damaged, or if the tokenizer is not
            BERT's.
    """
    settings_path = directory / "tokenizer_config.json"
    settings = read_json(settings_path) if settings_path.exists() else {}
    _refuse_other_tokenizers(settings_path, settings)
    tokenizer_path = directory / "tokenizer.json"
    tokenizer = read_tokenizer(tokenizer_path) if tokenizer_path.exists() else None
    if (path := directory / "vocab.txt").exists():
        ids = _read_lines(path)
    elif tokenizer:
        path, ids = tokenizer_path, tokenizer.ids
    else:
        raise ModelError(
            f"{directory} has neither vocab.txt nor tokenizer.json: only WordPiece models (BERT) "
            "are supported"
        )
    _require_special_tokens(path, ids)
    lower = flag(settings_path, settings, "do_lower_case")
    strip = flag(settings_path, settings, "strip_accents", nullable=True)
    if lower is None:
        lower = tokenizer.do_lower_case if tokenizer else True
    if strip is None and tokenizer:
        strip = tokenizer.strip_accents
    if cased is not None:
        lower, strip = not cased, False if cased else strip
    return Vocabulary(ids, lower, lower if strip is None else strip)


def read_google_vocabulary(path: Path, cased: bool | None = None) -> Vocabulary:
    """Read the ``vocab.txt`` of a model in the layout of Google's releases.

    These do not record whether the model is cased. Like ``bert-serving-start``, this function
    assumes that it is not, unless its pieces contain capital letters.

    Args:
        path: The file.
        cased: Whether the model is cased, if known.

    Raises:
        CasedUnknownError: if ``cased`` is None and a piece contains a capital letter.
        ModelError: if the file cannot be read or is damaged.
    """
    ids = _read_lines(path)
    _require_special_tokens(path, ids)
    if cased is None:
        capital = next((piece for piece in ids if _has_capital(piece)), None)
        if capital is not None:
            raise CasedUnknownError(
                f"{path} has pieces with capital letters ({capital!r}), so the model seems to be "
                "cased, but nothing in its directory says so"
            )
        _log.warning(
            "%s does not say whether the model is cased; lower-casing words on the assumption that "
            "it is not",
            path.parent,
            extra={"assumed": "uncased"},
        )
    return Vocabulary(ids, not cased, not cased)


def _has_capital(piece: str) -> bool:
    is_special = piece.startswith("[") and piece.endswith("]")
    return not is_special and piece != piece.lower()


def _read_lines(path: Path) -> Mapping[str, int]:
    damaged = f"{path} is damaged"
    with translate(ModelError, f"read {path}", damage=(UnicodeDecodeError,), damaged=damaged):
        text = path.read_text("utf-8")
    # The id of a piece is its line number. The last of equal lines wins, as in the original.
    return {line.strip(): number for number, line in enumerate(text.rstrip().split("\n"))}


def _refuse_other_tokenizers(path: Path, settings: Mapping[str, Any]) -> None:
    name = settings.get("tokenizer_class") or "BertTokenizer"
    if name not in _TOKENIZERS:
        raise ModelError(f"{path} names a {name}, but only WordPiece models (BERT) are supported")
    if flag(path, settings, "tokenize_chinese_chars") is False:
        raise ModelError(
            f"{path} has tokenize_chinese_chars false, but only tokenizers that separate CJK "
            "ideographs are supported"
        )


def _require_special_tokens(path: Path, pieces: Iterable[str]) -> None:
    if missing := [token for token in (CLS, SEP, UNKNOWN) if token not in pieces]:
        raise ModelError(
            f"{path} is not the vocabulary of a BERT model: it lacks {', '.join(missing)}"
        )
