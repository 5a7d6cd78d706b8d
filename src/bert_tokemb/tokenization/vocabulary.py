"""The vocabulary of a model, and how words are normalized before they are looked up."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CasedUnknownError, ModelError, translate
from ..jsonfile import flag
from .basic import CLS, SEP, UNKNOWN
from .tokenizer_json import TokenizerFile

__all__ = ["Vocabulary", "read_google_vocabulary", "read_lines", "read_vocabulary", "token_content"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces of a model, and the normalization of words."""

    ids: Mapping[str, int]
    """By piece."""
    do_lower_case: bool
    strip_accents: bool
    cls: str = CLS
    """The special token before the pieces of a sentence."""
    sep: str = SEP
    """The special token after them."""


def read_vocabulary(
    path: Path,
    settings: Mapping[str, Any],
    tokenizer: TokenizerFile | None,
    cased: bool | None = None,
) -> Vocabulary:
    """Return the vocabulary of a model in the layout of Hugging Face.

    Args:
        path: The ``vocab.txt``. If it does not exist, the vocabulary is that of ``tokenizer``.
        settings: The content of ``tokenizer_config.json``. For ``do_lower_case`` and
            ``strip_accents``, it has precedence over ``tokenizer``.
        tokenizer: The content of ``tokenizer.json``, if it exists.
        cased: Whether the model is cased; overrides the files.

    Raises:
        ModelError: if a file is damaged or lacks BERT's special tokens.
    """
    settings_path = path.with_name("tokenizer_config.json")
    if tokenizer and not path.exists():
        path, ids = path.with_name("tokenizer.json"), tokenizer.ids
    else:
        ids = read_lines(path)
    cls, sep = _special_tokens(settings, tokenizer)
    _require_special_tokens(path, ids, cls, sep)
    lower = flag(settings_path, settings, "do_lower_case")
    strip = flag(settings_path, settings, "strip_accents", nullable=True)
    if lower is None:
        lower = tokenizer.do_lower_case if tokenizer else True
    if strip is None and tokenizer:
        strip = tokenizer.strip_accents
    if cased is not None:
        lower, strip = not cased, False if cased else strip
    return Vocabulary(ids, lower, lower if strip is None else strip, cls, sep)


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
    ids = read_lines(path)
    _require_special_tokens(path, ids, CLS, SEP)
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


def read_lines(path: Path) -> Mapping[str, int]:
    """Return the ids of the pieces in a ``vocab.txt``.

    Raises:
        ModelError: if the file cannot be read, or is not UTF-8.
    """
    damaged = f"{path} is damaged"
    with translate(ModelError, f"read {path}", damage=(UnicodeDecodeError,), damaged=damaged):
        text = path.read_text("utf-8")
    # The id of a piece is its line number. The last of equal lines wins, as in the original.
    return {line.strip(): number for number, line in enumerate(text.rstrip().split("\n"))}


def _special_tokens(
    settings: Mapping[str, Any], tokenizer: TokenizerFile | None
) -> tuple[str, str]:
    """Return the special tokens before and after a sentence."""
    if tokenizer and tokenizer.special:
        pieces = {i: piece for piece, i in tokenizer.ids.items() if i in tokenizer.special}
        first, last = tokenizer.special
        return pieces.get(first, CLS), pieces.get(last, SEP)
    cls, sep = token_content(settings.get("cls_token")), token_content(settings.get("sep_token"))
    return cls or CLS, sep or SEP


def token_content(token: object) -> str | None:
    """Return a special token of ``tokenizer_config.json``, which may have settings of its own."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _require_special_tokens(path: Path, pieces: Iterable[str], cls: str, sep: str) -> None:
    if missing := [token for token in (cls, sep, UNKNOWN) if token not in pieces]:
        raise ModelError(
            f"{path} is not the vocabulary of a BERT model: it lacks {', '.join(missing)}"
        )
