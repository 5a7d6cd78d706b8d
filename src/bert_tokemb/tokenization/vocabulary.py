"""The pieces that a model knows, and how its words are folded before they are looked up."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..jsonfile import flag, read_json
from .basic import UNKNOWN
from .tokenizer_json import read_tokenizer

__all__ = ["Vocabulary", "read_google_vocabulary", "read_vocabulary"]

_log = logging.getLogger(__name__)

_SPECIAL = ("[CLS]", "[SEP]", UNKNOWN)
"""Those that every sentence may need."""

_SETTINGS = ("tokenizer_config.json", "tokenizer.json")

# The last two name no vocabulary: what they stand for is in tokenizer.json.
_TOKENIZERS = ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces with their ids, and what is done to a word before."""

    ids: Mapping[str, int]
    do_lower_case: bool
    strip_accents: bool


def read_vocabulary(directory: Path, cased: bool | None = None) -> Vocabulary:
    """Read a Hugging Face directory's ``vocab.txt``, or else its ``tokenizer.json``.

    Args:
        directory: Holds one of them, and perhaps ``tokenizer_config.json``, which tells
            ``do_lower_case`` and ``strip_accents``.
        cased: What the user says, which counts more than any file.

    Raises:
        ModelError: there is none, it is damaged, or its tokenizer is not BERT's.
    """
    settings_path, tokenizer_path = (directory / name for name in _SETTINGS)
    settings = read_json(settings_path) if settings_path.exists() else {}
    _refuse_other_tokenizers(settings_path, settings)
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
    _check_specials(path, ids)
    lower = flag(settings_path, settings, "do_lower_case")
    strip = flag(settings_path, settings, "strip_accents", nullable=True)
    # What the one file leaves open, the other may tell.
    if lower is None:
        lower = tokenizer.do_lower_case if tokenizer else True
    if strip is None and tokenizer:
        strip = tokenizer.strip_accents
    if cased is not None:
        lower, strip = not cased, False if cased else strip
    return Vocabulary(ids, lower, lower if strip is None else strip)


def read_google_vocabulary(path: Path, cased: bool | None = None) -> Vocabulary:
    """Read the ``vocab.txt`` of a model as Google released it.

    Nothing there says whether the model is cased. Unless the user does, it is taken for
    lower-cased, as ``bert-serving-start`` takes it, where no piece says otherwise.

    Raises:
        ModelError: it cannot be read, is damaged, or may be cased and nobody says so.
    """
    ids = _read_lines(path)
    _check_specials(path, ids)
    capital = next((piece for piece in ids if _has_capital(piece)), None)
    if cased is None and capital is not None:
        raise ModelError(
            f"{path} holds pieces with capitals ({capital!r}), so the model seems to be cased, "
            "but nothing in its directory says so: give --cased, or --uncased"
        )
    if cased is None:
        _log.warning(
            "%s does not tell whether the model is cased; words are lower-cased (--cased "
            "would keep them)",
            path.parent,
        )
    return Vocabulary(ids, not cased, not cased)


def _has_capital(piece: str) -> bool:
    # Special pieces are written in capitals, between brackets.
    return not (piece.startswith("[") and piece.endswith("]")) and piece != piece.lower()


def _read_lines(path: Path) -> Mapping[str, int]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is damaged: it is not UTF-8 ({error.reason})") from error
    # A line's number is the piece's id. Of two alike the later counts, as in the original.
    return {line.strip(): number for number, line in enumerate(text.rstrip().split("\n"))}


def _refuse_other_tokenizers(path: Path, settings: Mapping[str, Any]) -> None:
    kind = settings.get("tokenizer_class") or "BertTokenizer"
    if kind not in _TOKENIZERS:
        raise ModelError(f"{path} names a {kind}: only WordPiece models (BERT) are supported")
    if flag(path, settings, "tokenize_chinese_chars") is False:
        raise ModelError(
            f"{path} says tokenize_chinese_chars: false, but only tokenizers that part ideographs "
            "are supported"
        )


def _check_specials(path: Path, pieces: Iterable[str]) -> None:
    missing = [piece for piece in _SPECIAL if piece not in pieces]
    if missing:
        raise ModelError(f"{path} is no vocabulary of a BERT: it has no {', '.join(missing)}")
