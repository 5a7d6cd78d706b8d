"""What BERT's basic tokenizer makes of a word.

WordPiece works on *basic tokens*: the text cleaned, lower-cased and stripped of accents for an
uncased model, and split at white space, at punctuation and around every CJK ideograph. None of
this needs the vocabulary, so a client can know what a server's pieces must spell.

The authority is the original ``tokenization.py`` (google-research/bert, 2018), which
bert-as-service 1.10 ships unchanged; the ``tokenizers`` library differs from it in places. What
a character *is* (punctuation, a combining mark, unassigned) is a matter of the Unicode table of
the Python that runs: a server on Python 3.7 knows Unicode 11, and deletes what came later.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["UNKNOWN", "basic_tokens"]

UNKNOWN = "[UNK]"
"""The piece that stands for a basic token the vocabulary cannot spell."""

# Words repeat (Zipf), so remembering what was made of them makes splitting nearly free. Long
# ones repeat rarely and would make the memory's size depend on the text.
_REMEMBERED_WORDS = 1 << 16
_LONGEST_REMEMBERED = 64

# Every ASCII character that is no letter or digit is punctuation to BERT, also `$`, `^`, ...,
# which Unicode calls symbols.
_ASCII_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ASCII_TOKENS = re.compile(r"[!-/:-@\[-`{-~]|[^!-/:-@\[-`{-~]+")

# The blocks that BERT spaces out, first and last code point. They are what the original lists:
# extensions F and later beyond U+2CEAF, and kana, are not among them.
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


def basic_tokens(
    word: str, do_lower_case: bool, strip_accents: bool | None = None
) -> tuple[str, ...]:
    """Split a word into BERT's basic tokens; empty when BERT deletes all its characters.

    Accents are stripped together with capitals, as in the original, unless ``strip_accents``
    says otherwise; some uncased models of Hugging Face's keep them.

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
    strip = do_lower_case if strip_accents is None else strip_accents
    if len(word) > _LONGEST_REMEMBERED:
        return _split(word, do_lower_case, strip)
    return _split_and_remember(word, do_lower_case, strip)


def _split(word: str, do_lower_case: bool, strip_accents: bool) -> tuple[str, ...]:
    if word.isascii() and word.isprintable() and " " not in word:
        return tuple(_ASCII_TOKENS.findall(word.lower() if do_lower_case else word))
    tokens: list[str] = []
    for part in _clean(word).split():
        # Lower-casing looks at a letter's neighbours (final sigma), so it comes before the
        # split at punctuation, as in the original.
        tokens += _split_at_punctuation(_fold(part, do_lower_case, strip_accents))
    # Stripping marks may have left an empty token, decomposition a space.
    return tuple(" ".join(tokens).split())


_split_and_remember = lru_cache(maxsize=_REMEMBERED_WORDS)(_split)


def _clean(text: str) -> str:
    """Delete what BERT deletes, and put spaces around ideographs."""
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


def _fold(text: str, do_lower_case: bool, strip_accents: bool) -> str:
    """Lower-case and strip non-spacing marks, as an uncased model wants it."""
    text = text.lower() if do_lower_case else text
    if not strip_accents:
        return text
    return "".join(char for char in _decompose(text) if unicodedata.category(char) != "Mn")


def _decompose(text: str) -> str:
    """Return the canonical decomposition (NFD), in a time that grows with the length only.

    That of :mod:`unicodedata` grows with the square of a row of combining marks. A row is put
    into order by their classes (The Unicode Standard, D109).
    """
    if len(text) <= _LONGEST_REMEMBERED:
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
    tokens: list[str] = []
    start = 0
    for i, char in enumerate(text):
        if _is_punctuation(char):
            tokens += (text[start:i], char)
            start = i + 1
    tokens.append(text[start:])
    return tokens  # empty ones too: the caller drops them


def _is_punctuation(char: str) -> bool:
    return char in _ASCII_PUNCTUATION or unicodedata.category(char).startswith("P")
