"""BERT's basic tokenizer: the first of two steps from a word to its pieces.

It cleans the text, lower-cases it and strips accents for an uncased model, and splits it at white
space, at punctuation and around every CJK ideograph. WordPiece then splits these *basic tokens*
into pieces. The first step does not need the vocabulary, so the client of a server knows what the
server's pieces must spell.

The authority is the original ``tokenization.py`` (google-research/bert, 2018), which is part of
bert-as-service 1.10; the ``tokenizers`` library differs from it in places. Whether a character is
punctuation, a combining mark or unassigned depends on the Unicode version of the running Python: a
server on Python 3.7 has Unicode 11, and deletes characters that were added later.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, wraps
from string import punctuation
from typing import Any, TypeVar, cast

__all__ = ["CLS", "SEP", "UNKNOWN", "basic_tokens", "cache_short_words"]

CLS = "[CLS]"
"""The special token before the pieces of a sentence."""
SEP = "[SEP]"
"""The special token after them."""
UNKNOWN = "[UNK]"
"""The piece that replaces a basic token that the vocabulary cannot spell."""

_F = TypeVar("_F", bound=Callable[..., Any])

_CACHED_WORDS = 1 << 16
_SHORT_WORD = 64  # characters

# BERT treats all ASCII symbols as punctuation, also `$`, `^` and others that Unicode does not.
_ASCII_PUNCTUATION = frozenset(punctuation)
_ASCII_TOKEN = re.compile(f"[{re.escape(punctuation)}]|[^{re.escape(punctuation)}]+")

# First and last code points of the blocks that the original separates. Extensions from F on that
# lie after U+2CEAF, and kana, are not among them.
_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def cache_short_words(function: _F) -> _F:
    """Cache the results of a function of a word, except for long words.

    A text repeats most of its words, but rarely the long ones, and caching these would make the
    size of the cache depend on the text.
    """
    cached = lru_cache(maxsize=_CACHED_WORDS)(function)

    @wraps(function)
    def call(word: str, *args: Any, **kwargs: Any) -> Any:
        return (cached if len(word) <= _SHORT_WORD else function)(word, *args, **kwargs)

    return cast(_F, call)


@cache_short_words
def basic_tokens(
    word: str, do_lower_case: bool, strip_accents: bool | None = None
) -> tuple[str, ...]:
    """Split a word into BERT's basic tokens; none if BERT deletes all of its characters.

    Args:
        word: A word, or several separated by spaces.
        do_lower_case: Whether to lower-case it.
        strip_accents: Whether to strip accents; by default if it is lower-cased, as in the
            original. Some uncased models on Hugging Face keep accents.

    >>> basic_tokens("Don't", do_lower_case=True)
    ('don', "'", 't')
    >>> basic_tokens("Café", do_lower_case=True), basic_tokens("Café", do_lower_case=False)
    (('cafe',), ('Café',))
    >>> basic_tokens("Café", do_lower_case=True, strip_accents=False)
    ('café',)
    >>> basic_tokens("東京2020", do_lower_case=True)
    ('東', '京', '2020')
    >>> basic_tokens("\\u200b", do_lower_case=True)
    ()
    """
    if strip_accents is None:
        strip_accents = do_lower_case
    if word.isascii() and word.isprintable() and " " not in word:
        return tuple(_ASCII_TOKEN.findall(word.lower() if do_lower_case else word))
    tokens: list[str] = []
    for part in _clean(word).split():
        # Lower-casing a final sigma depends on the next letter, so it comes before the split at
        # punctuation, as in the original.
        tokens += _split_at_punctuation(_normalize(part, do_lower_case, strip_accents))
    # Stripping may have left an empty token, and decomposition a space.
    return tuple(" ".join(tokens).split())


def _clean(text: str) -> str:
    """Drop the characters that BERT deletes, and put spaces around ideographs."""
    kept: list[str] = []
    for char in text:
        if char in "\t\n\r":
            kept.append(" ")
        elif char == "\ufffd" or unicodedata.category(char).startswith("C"):
            continue
        elif _is_ideograph(ord(char)):
            kept.append(f" {char} ")
        else:
            kept.append(char)
    return "".join(kept)


def _is_ideograph(code: int) -> bool:
    return code >= 0x3400 and any(first <= code <= last for first, last in _IDEOGRAPHS)


def _normalize(text: str, do_lower_case: bool, strip_accents: bool) -> str:
    """Lower-case the text and strip non-spacing marks."""
    text = text.lower() if do_lower_case else text
    if not strip_accents:
        return text
    return "".join(char for char in _decompose(text) if unicodedata.category(char) != "Mn")


def _decompose(text: str) -> str:
    """Return the canonical decomposition (NFD) in linear time.

    The time of :func:`unicodedata.normalize` grows with the square of the number of consecutive
    combining marks. Here they are sorted by their class (The Unicode Standard, D109).
    """
    if len(text) <= _SHORT_WORD:
        return unicodedata.normalize("NFD", text)
    ordered: list[str] = []
    marks: list[str] = []
    for char in text:
        for part in unicodedata.normalize("NFD", char):
            if unicodedata.combining(part):
                marks.append(part)
            else:
                ordered += sorted(marks, key=unicodedata.combining)
                ordered.append(part)
                marks.clear()
    return "".join([*ordered, *sorted(marks, key=unicodedata.combining)])


def _split_at_punctuation(text: str) -> list[str]:
    """Return the tokens, and possibly empty strings."""
    tokens: list[str] = []
    start = 0
    for i, char in enumerate(text):
        if _is_punctuation(char):
            tokens += (text[start:i], char)
            start = i + 1
    tokens.append(text[start:])
    return tokens


def _is_punctuation(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
