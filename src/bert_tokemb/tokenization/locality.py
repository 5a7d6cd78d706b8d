"""Whether the words of a line can be tokenized one by one.

The pieces of a line are those of the model's tokenizer for the whole line. Most tokenizers split a
line at white space before anything else, so that the pieces of a word depend on the word alone and
on whether it starts the line; then each distinct word has to be tokenized only once. This module
reads from a ``tokenizer.json`` whether that is so. Its rules follow the four steps of a tokenizer:

1. *Added tokens* are searched first. One that contains white space, or takes the white space next
   to it, may reach over the border of a word.
2. The *normalizer* must treat the characters on both sides of a space separately. Unicode
   normalization and replacing single characters do; an unknown regular expression may not.
3. The *pre-tokenizer* must split at every space. What it does afterwards is done to each part.
4. If it does not, words are still separate where the normalizer turns spaces into ``▁`` and BPE
   never merges a ``▁`` with a character before it: that is so if no piece has a ``▁`` after another
   character. (Unigram compares sums of scores over the whole line, whose rounding depends on all
   words.)

Where one of the rules is not met, nothing is proved, and whole lines are tokenized.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Locality", "find_locality"]

Part = Mapping[str, Any]

_LOCAL_NORMALIZERS = {
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Strip",
    "StripAccents",
}
_AT_LINE_ENDS = {"Prepend", "Strip"}
# These drop white space, so that it does not matter how much of it is between two words.
_DROPPING = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
# These may come before the split at white space, and leave the white space as it is.
_HARMLESS = {"Digits", "Punctuation"}
_REPEATED_SPACES = (" {2,}", "\\s{2,}", "\\s+", "\\s{2,}|[\\n\\r\\t]")

# Letters that form a grapheme cluster with a space after them (Unicode Standard Annex #29): one of
# Malayalam, and some of the scripts in this range.
_MALAYALAM_REPH, _BRAHMIC = "\u0d4e", range(0x11000, 0x12000)


@dataclass(frozen=True, slots=True)
class Locality:
    """How far the tokenization of a word depends on the rest of its line."""

    is_local: bool
    """Whether the words that :meth:`allows` can be tokenized one by one."""
    marker: str
    """The character that stands for a space in pieces: ``Ġ``, ``▁`` or the space itself."""
    drops_space: bool = False
    """Whether white space only separates pieces, even if the normalizer has made it."""
    has_graphemes: bool = False
    """Whether the normalizer replaces grapheme clusters. The space before a word always forms one
    with a mark at the start of that word, but with the word before it only if that ends in one of
    some characters."""
    splits_at_marker: bool = True
    """Whether a ``▁`` in the text cannot be merged with the space next to it."""

    def allows(self, word: str, normalized: str) -> bool:
        """Return whether a word is independent of the words next to it.

        Args:
            word: The word.
            normalized: What the normalizer makes of it.
        """
        if self.has_graphemes and _joins_after(word[-1]):
            return False
        if not self.splits_at_marker and self.marker in word + normalized.lstrip(self.marker):
            return False
        return self.drops_space or (
            bool(normalized) and not any(char.isspace() for char in normalized)
        )


def find_locality(tokenizer: Part, normalize: Callable[[str], str]) -> Locality:
    """Return how local a tokenizer is.

    Args:
        tokenizer: Its ``added_tokens``, ``normalizer``, ``pre_tokenizer`` and ``model``, as in a
            ``tokenizer.json``.
        normalize: Its normalizer.
    """
    normalizers = list(_flat(tokenizer.get("normalizer"), "normalizers"))
    steps = list(_flat(tokenizer.get("pre_tokenizer"), "pretokenizers"))
    in_text = _replacement_of_spaces(normalizers)
    marker = _marker(steps, in_text)
    split = _first_at_spaces(steps) if in_text is None else None
    drops_space = split is not None and split["type"] in _DROPPING
    # Special tokens are not searched for in text.
    added = [token for token in tokenizer["added_tokens"] if not token.get("special")]
    return Locality(
        is_local=all(map(_is_local, normalizers))
        and not any(_crosses(token, normalize, drops_space) for token in added)
        # The text after an added token counts as the start of a line.
        and not (added and any(one["type"] in _AT_LINE_ENDS for one in normalizers))
        and (split is not None or _never_merges_over(marker, in_text, steps, tokenizer["model"])),
        marker=marker,
        drops_space=drops_space,
        has_graphemes=any(one["type"] == "Precompiled" for one in normalizers),
        splits_at_marker=split is not None,
    )


def _flat(part: Part | None, name: str) -> Iterator[Part]:
    """Yield the parts of a ``Sequence``, or the part itself."""
    if part is None:
        return
    if part["type"] == "Sequence":
        for one in part[name]:
            yield from _flat(one, name)
    else:
        yield part


def _crosses(token: Part, normalize: Callable[[str], str], drops_space: bool) -> bool:
    """Return whether an added token may match over the border of a word."""
    if token.get("lstrip") or token.get("rstrip"):
        return True
    content: str = token["content"]
    texts = {content, normalize(content)} if token.get("normalized") else {content}
    if len(texts) == 2 and "▁" in normalize(content):  # perhaps a space
        return True
    # Words are separated by one space. A run of spaces, as models of code have it, cannot occur
    # between words that keep their white space, since these have none.
    return any(
        any(map(str.isspace, text)) and (drops_space or not _has_run_of_spaces(text))
        for text in texts
    )


def _has_run_of_spaces(text: str) -> bool:
    return any(a.isspace() and b.isspace() for a, b in pairwise(text))


def _is_local(normalizer: Part) -> bool:
    kind = normalizer["type"]
    if kind != "Replace":
        return kind in _LOCAL_NORMALIZERS
    pattern = normalizer["pattern"]
    if "String" in pattern:
        return pattern["String"] == " " or not any(map(str.isspace, pattern["String"]))
    return pattern.get("Regex") in _REPEATED_SPACES


def _replacement_of_spaces(normalizers: Sequence[Part]) -> str | None:
    """Return what a normalizer replaces single spaces by, if it does."""
    for one in normalizers:
        if one["type"] == "Replace":
            single = one["pattern"].get("String") == " " or one["pattern"].get("Regex") == "\\s+"
            if single and one["content"] != " ":
                return str(one["content"])
    return None


def _marker(steps: Sequence[Part], in_text: str | None) -> str:
    for step in steps:
        if step["type"] == "ByteLevel":
            return "Ġ"
        if step["type"] == "Metaspace":
            return str(step.get("replacement", "▁"))
    return in_text if in_text and len(in_text) == 1 else " "


def _first_at_spaces(steps: Sequence[Part]) -> Part | None:
    """Return the step that splits at every space, if there is one before spaces disappear."""
    for step in steps:
        if _splits_at_spaces(step):
            return step
        if step["type"] not in _HARMLESS:
            return None
    return None


def _splits_at_spaces(step: Part) -> bool:
    match step["type"]:
        case "Metaspace":
            return bool(step.get("split", True))
        case "ByteLevel":
            return bool(step.get("use_regex", True))
        case "Split":
            return (
                step["pattern"].get("String") == " "
                and step.get("behavior") in ("Removed", "Isolated", "MergedWithNext")
                and not step.get("invert")
            )
        case kind:
            return kind in _DROPPING


def _never_merges_over(
    marker: str, in_text: str | None, steps: Sequence[Part], model: Part
) -> bool:
    """Return whether BPE on whole lines merges nothing over the border of two words."""
    if in_text is None:  # then Metaspace may replace spaces
        is_marked = len(steps) == 1 and steps[0]["type"] == "Metaspace"
    else:
        # A split at spaces finds none, since all have been replaced.
        is_marked = in_text == marker and all(
            step["type"] == "Split" and step["pattern"].get("String") == " " for step in steps
        )
    if not is_marked or model["type"] != "BPE" or model.get("ignore_merges"):
        return False
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    pieces = model["vocab"]
    return marker in pieces and not any(marker in piece.lstrip(marker) for piece in pieces)


def _joins_after(char: str) -> bool:
    """Return whether a character may form a grapheme cluster with a space after it."""
    category = unicodedata.category(char)
    return (
        category[0] == "C"
        or char == _MALAYALAM_REPH
        or (category == "Lo" and ord(char) in _BRAHMIC)
    )
