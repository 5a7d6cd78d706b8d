"""The special tokens around a sentence, as the post-processor of a ``tokenizer.json`` adds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PARSER_ERRORS, ModelError, translate

__all__ = ["SpecialTokens", "read_special_tokens"]


class SpecialTokens(NamedTuple):
    """The ids of the special tokens before and after the pieces of a sentence."""

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()


def read_special_tokens(path: Path, post_processor: Mapping[str, Any] | None) -> SpecialTokens:
    """Return the special tokens of a post-processor.

    Args:
        path: The ``tokenizer.json``, for error messages.
        post_processor: The part of that name, or None if the tokenizer adds no special tokens.

    Raises:
        ModelError: if the post-processor is damaged, or of a type that is not supported.
    """
    with translate(
        ModelError,
        f"read {path}",
        damage=PARSER_ERRORS,
        damaged=f"{path} is damaged: invalid post_processor",
    ):
        return _read(path, post_processor) if post_processor is not None else SpecialTokens()


def _read(path: Path, post_processor: Mapping[str, Any]) -> SpecialTokens:
    match post_processor["type"]:
        case "BertProcessing" | "RobertaProcessing":
            return SpecialTokens((int(post_processor["cls"][1]),), (int(post_processor["sep"][1]),))
        case "TemplateProcessing":
            return _of_template(post_processor)
        case "ByteLevel":  # changes offsets only
            return SpecialTokens()
        case "Sequence":
            found = SpecialTokens()
            for part in post_processor["processors"]:
                outer = _read(path, part)
                found = SpecialTokens(outer.prefix + found.prefix, found.suffix + outer.suffix)
            return found
        case other:
            raise ModelError(f"{path} has a post_processor {other!r:.40}, which is not supported")


def _of_template(template: Mapping[str, Any]) -> SpecialTokens:
    """Return the special tokens of a template such as ``<s> $A </s>``."""
    ids: list[list[int]] = [[]]
    for item in template["single"]:
        if "Sequence" in item:
            ids.append([])
        else:
            name = item["SpecialToken"]["id"]
            ids[-1] += map(int, template["special_tokens"][name]["ids"])
    prefix, suffix = ids  # a sentence occurs once
    return SpecialTokens(tuple(prefix), tuple(suffix))
