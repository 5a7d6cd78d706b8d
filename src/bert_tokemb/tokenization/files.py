"""Finds out which tokenizer a model has, and reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import CasedRefusedError, ModelError, UnconvertedModelError
from ..jsonfile import flag, read_json
from .japanese import JapaneseTokenizer, is_japanese
from .library import LibraryTokenizer
from .tokenizer import Tokenizer
from .tokenizer_json import is_bert, read_bert_tokenizer
from .vocabulary import read_vocabulary, token_content
from .wordpiece import PieceTokenizer

__all__ = ["read_tokenizer"]

# The tokenizers that split words as BERT's does. The last two names say nothing about the kind.
_LIKE_BERT = {
    f"{name}Tokenizer{fast}"
    for name in ("Bert", "DistilBert", "Electra", "MPNet")
    for fast in ("", "Fast")
} | {"PreTrainedTokenizerFast", "TokenizersBackend"}

# Tokens that are special by their role, whatever tokenizer.json says.
_ROLES = ("bos", "cls", "eos", "mask", "pad", "sep", "unk")

_SENTENCEPIECE = ("spm.model", "spiece.model", "sentencepiece.bpe.model")
_BYTE_LEVEL = ("vocab.json", "merges.txt")


def read_tokenizer(directory: Path, cased: bool | None = None) -> Tokenizer:
    """Read the tokenizer of a directory in the layout of Hugging Face.

    Args:
        directory: Contains ``tokenizer.json`` or ``vocab.txt``, and possibly
            ``tokenizer_config.json``.
        cased: Whether the model is cased; overrides the files. Only BERT's own tokenizer has this
            choice.

    Raises:
        CasedRefusedError: if ``cased`` is given for another tokenizer.
        ModelError: if there is no tokenizer, or if it is damaged or not supported.
    """
    settings_path, path = directory / "tokenizer_config.json", directory / "tokenizer.json"
    settings = read_json(settings_path) if settings_path.exists() else {}
    if not path.exists():
        return _read_vocabulary_file(directory / "vocab.txt", settings_path, settings, cased)
    original = read_json(path)
    content = _with_settings(original, settings)
    if is_bert(path, content):
        file = read_bert_tokenizer(path, content)
        return PieceTokenizer(read_vocabulary(directory / "vocab.txt", settings, file, cased))
    serialized = path.read_bytes() if content == original else json.dumps(content).encode()
    library = LibraryTokenizer(path, content, serialized)
    if cased is not None:
        raise CasedRefusedError(path, library.kind)
    return library


def _read_vocabulary_file(
    path: Path, settings_path: Path, settings: Mapping[str, Any], cased: bool | None
) -> Tokenizer:
    """Read the tokenizer of a directory that has no ``tokenizer.json``."""
    _require_vocabulary(path)
    if is_japanese(settings):
        if cased is not None:
            raise CasedRefusedError(settings_path, "MeCab")
        vocabulary = read_vocabulary(path, settings, None)
        return JapaneseTokenizer(vocabulary, settings_path, settings)
    _refuse_other_tokenizers(settings_path, settings)
    return PieceTokenizer(read_vocabulary(path, settings, None, cased))


def _with_settings(content: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a ``tokenizer.json`` with the settings that transformers takes from elsewhere.

    Args:
        content: The file.
        settings: The content of ``tokenizer_config.json``.
    """
    overrides = {
        ("pre_tokenizer", "ByteLevel"): {"add_prefix_space": "add_prefix_space"},
        ("normalizer", "BertNormalizer"): {
            "do_lower_case": "lowercase",
            "strip_accents": "strip_accents",
            "tokenize_chinese_chars": "handle_chinese_chars",
        },
    }
    changed = dict(content)
    for (name, kind), settings_of_part in overrides.items():
        part = content.get(name)
        if isinstance(part, dict) and part.get("type") == kind:
            found = {
                inner: settings[outer]
                for outer, inner in settings_of_part.items()
                if isinstance(settings.get(outer), bool)
            }
            changed[name] = {**part, **found}
    special = {token_content(settings.get(f"{role}_token")) for role in _ROLES} - {None}
    if isinstance(added := content.get("added_tokens"), list):
        changed["added_tokens"] = [
            {**token, "special": True} if token_content(token) in special else token
            for token in added
        ]
    return changed


def _require_vocabulary(path: Path) -> None:
    """Raise unless there is a ``vocab.txt``."""
    if path.exists():
        return
    directory = path.parent
    for name in (*_SENTENCEPIECE, *_BYTE_LEVEL):
        if (directory / name).exists():
            raise _unconverted(directory, f"{directory} has {name}, but no tokenizer.json")
    raise ModelError(f"{directory} has no tokenizer: neither tokenizer.json nor vocab.txt")


def _refuse_other_tokenizers(path: Path, settings: Mapping[str, Any]) -> None:
    name = settings.get("tokenizer_class") or "BertTokenizer"
    if not isinstance(name, str) or name not in _LIKE_BERT:
        raise _unconverted(
            path.parent, f"{path} names a {name!s:.40}, but there is no tokenizer.json"
        )
    if flag(path, settings, "tokenize_chinese_chars") is False:
        raise _unconverted(
            path.parent,
            f"{path} has tokenize_chinese_chars false, but there is no tokenizer.json",
        )


def _unconverted(directory: Path, problem: str) -> UnconvertedModelError:
    return UnconvertedModelError(problem, "tokenizer", str(directory))
