"""Tokenizers of the ``tokenizers`` library: the pieces of a line, and which word owns which."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bert_tokemb.tokenization.library import LibraryTokenizer
from bert_tokemb.tokenization.locality import find_locality
from bert_tokemb.tokenization.tokenizer import TokenizedWords
from support.texts import EXAMPLES
from support.toys import ADDED, TOYS, toy


@cache
def load(name: str) -> LibraryTokenizer:
    return LibraryTokenizer(Path("tokenizer.json"), json.loads(toy(name)), toy(name))


@cache
def reference(name: str) -> Tokenizer:
    tokenizer = Tokenizer.from_buffer(toy(name))
    tokenizer.encode_special_tokens = True
    return tokenizer


def split(name: str, line: str) -> list[list[str]]:
    tokenizer = load(name)
    return [[tokenizer.piece(i) for i in own] for own in tokenizer.tokenize(line.split()).pieces]


def runs(tokens: TokenizedWords) -> list[range]:
    """Return the positions of the pieces of each word in the sentence."""
    found: list[range] = []
    end = 0
    for j, own in enumerate(tokens.pieces):
        start = end - (tokens.shared[j] if tokens.shared else 0)
        found.append(range(start, start + len(own)))
        end = max(end, start + len(own))
    return found


def ids(tokens: TokenizedWords) -> list[int]:
    """Return the ids of the pieces of a sentence, each once."""
    found = {
        k: i
        for run, own in zip(runs(tokens), tokens.pieces, strict=True)
        for k, i in zip(run, own, strict=True)
    }
    return [found[k] for k in range(len(found))]


# --- Any text -----------------------------------------------------------------------------------

# What normalizers change, delete or turn into spaces; marks and joiners; and what looks like pieces
# or special tokens.
ODD_LINES = (
    "´ ﷺ ½ ﬁn Ａ ﾞ ͺ ¨ İ ς ▁ ▁▁ a▁ ▁b Ġ ## ##a a## </w> a</w> <s> </s> <pad> <unk> <mask> [SEP]",
    "New York NewYork xNew Yorker new york École Été fox foxes xfox fox, ew ``a'' don't 's 1a2",
    "👩\u200d👩\u200d👧 👍🏽 🇩🇪 ☃ 𠀀 한국어 हूँ ประเทศไทย คำ السلام 東京 [UNK]",
    "\u200b a\u200b \u200ba \ufeff \xad a\xad \x01 \u0600 x\u0600 x\u06dd x_ _x ___",
    "\u0301 \u0301x e\u0301 cafe\u0301s \u0345 \u0e33 " + "ab" * 60,
)
ODD = [word for line in ODD_LINES for word in line.split()]
CHARACTERS = st.characters(exclude_categories=["Cs"]).filter(lambda char: not char.isspace())
WORDS = st.sampled_from(ODD) | st.text(CHARACTERS, min_size=1, max_size=6) | st.text("aeNwor")


@EXAMPLES
@pytest.mark.parametrize("name", TOYS)
def test_pieces_are_those_of_the_whole_line(name: str, examples: int) -> None:
    """The same pieces in the same order, all owned, by a run of pieces for each word."""
    tokenizer = load(name)

    @settings(max_examples=examples // 2, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(WORDS, max_size=8))
    @example(["\u00b4", "\u0301"])  # the space between them is removed
    def check(texts: list[str]) -> None:
        words = " ".join(["x", *texts][-8:]).split()
        expected = reference(name).encode(" ".join(words), add_special_tokens=False)
        tokens = tokenizer.tokenize(words)
        assert ids(tokens) == expected.ids
        assert len(tokens.pieces) == len(words)
        borders = [(run.start, run.stop) for run in runs(tokens) if run]
        assert borders == sorted(borders, key=lambda border: border[0])
        assert borders == sorted(borders, key=lambda border: border[1])

    check()


@pytest.mark.parametrize("name", TOYS)
def test_long_words_are_tokenized_within_their_line(name: str) -> None:
    for word in ("ab" * 2500, "´" * 5000, "東" * 5000, "a\u0301" * 2500, "▁" * 5000):
        words = ["the", word, "fox"]
        expected = reference(name).encode(" ".join(words), add_special_tokens=False)
        tokens = load(name).tokenize(words)
        assert len(tokens.pieces) == 3
        assert max(run.stop for run in runs(tokens)) == len(expected.ids)
        if not tokens.shared:
            assert [i for own in tokens.pieces for i in own] == expected.ids


@EXAMPLES
@pytest.mark.parametrize("name", [name for name in TOYS if "WordPiece" not in name])
def test_pieces_spell_their_words(name: str, examples: int) -> None:
    tokenizer = load(name)
    letters = st.text("abcdefghilmnoprstu", min_size=1, max_size=9)

    @settings(max_examples=examples // 4, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(letters, min_size=1, max_size=6))
    def check(words: list[str]) -> None:
        tokens = tokenizer.tokenize(words)
        assert not tokens.inexact
        spelled = [
            "".join(tokenizer.piece(i) for i in own).replace("</w>", "") for own in tokens.pieces
        ]
        for word, text, run in zip(words, spelled, runs(tokens), strict=True):
            others = [other for other in runs(tokens) if other != run]
            if any(set(run) & set(other) for other in others):
                assert word in text  # and parts of its neighbors
            else:
                assert word == text.strip("▁Ġ ")

    check()


# --- Which tokenizers are local -----------------------------------------------------------------

WHOLE_LINES = {
    "byte-level BPE with an added phrase",
    "byte-level BPE with a lower-cased added phrase",
    "BPE with another regular expression",
    "Unigram with an added word",
    "Unigram on whole lines",
    "BPE on whole lines",
    "BPE without pre-tokenizer",
}


@pytest.mark.parametrize("name", TOYS)
def test_words_are_tokenized_alone_only_where_they_are_independent(name: str) -> None:
    normalizer = reference(name).normalizer
    locality = find_locality(
        json.loads(toy(name)),
        lambda text: normalizer.normalize_str(text) if normalizer else text,
    )
    assert locality.is_local == (name not in WHOLE_LINES)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        # A space and an accent are replaced as one grapheme cluster, but not after some characters.
        ("Unigram like XLM-R", "x\u06dd", "\u0301x"),
        # Spaces of two words are merged.
        ("byte-level BPE with underscores", "x_", "_x"),
        ("BPE like Llama", "x▁", "the"),
    ],
)
def test_words_that_depend_on_each_other(name: str, first: str, second: str) -> None:
    alone: list[int] = []
    for words in (["the", first, "fox"], ["the", second], ["the", first, second]):
        expected = reference(name).encode(" ".join(words), add_special_tokens=False)
        tokens = load(name).tokenize(words)
        assert ids(tokens) == expected.ids
        alone += tokens.pieces[1]
    assert alone[: -len(tokens.pieces[1])] != ids(tokens)[len(tokens.pieces[0]) :]


DEPENDENT = {
    "byte-level BPE with NFKC": "x ´",
    "Unigram like XLM-R": "x\u06dd",
    "Unigram like DeBERTa": "x\u06dd",
    "Unigram like ALBERT": "x\u0600",
    "byte-level BPE with underscores": "x_",
    "BPE like Llama": "x▁",
    "BPE like Gemma": "▁x",
    "BPE without unknown piece": "x ☃",
}
"""Words because of which their whole line is tokenized."""


@EXAMPLES
@pytest.mark.parametrize("name", DEPENDENT)
def test_words_own_the_same_pieces_in_a_line_that_is_tokenized_whole(
    name: str, examples: int
) -> None:
    tokenizer = load(name)

    @settings(max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(WORDS, min_size=1, max_size=6))
    def check(texts: list[str]) -> None:
        words = " ".join(texts).split()
        alone = [*words, "the"]
        whole = [*words, "the", *DEPENDENT[name].split()]
        assert tokenizer.tokenize(whole).pieces[: len(alone)] == tokenizer.tokenize(alone).pieces

    check()


# --- Ownership ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "line", "pieces"),
    [
        # The first word has no space before it.
        ("byte-level BPE", "the the", [["the"], ["Ġthe"]]),
        ("byte-level BPE with prefix space", "the the", [["Ġthe"], ["Ġthe"]]),
        ("BPE with Metaspace first", "the the", [["▁the"], ["▁the"]]),
        ("BPE with Metaspace never", "the the", [["the"], ["▁the"]]),
        # A lone space belongs to the next word with other pieces.
        ("BPE with Metaspace always", "a zz", [["▁a"], ["▁", "z", "z"]]),
        ("BPE without unknown piece", "a ☃ zz", [["▁a"], [], ["▁", "▁", "z", "z"]]),
        # At the end of the line, to the last word.
        ("BPE without unknown piece", "a ☃", [["▁a"], ["▁"]]),
        ("BPE without unknown piece", "☃ ☃", [[], ["▁", "▁"]]),
        # A word that looks like a space.
        ("BPE with Metaspace always", "a ▁ a", [["▁a"], ["▁", "▁"], ["▁a"]]),
        ("BPE without unknown piece", "▁ ☃ a", [["▁"], [], ["▁", "▁a"]]),
        # Special tokens in the text are text.
        ("byte-level BPE", "a <s> a", [["a"], ["Ġ", "<", "s", ">"], ["Ġa"]]),
        # An added phrase belongs to both of its words; so may what BPE merges.
        (
            "byte-level BPE with an added phrase",
            f"a {ADDED} a",
            [["a"], ["Ġ", ADDED], [ADDED], ["Ġa"]],
        ),
        (
            "byte-level BPE with an added phrase",
            f"x{ADDED}er",
            [["x", ADDED], [ADDED, "er"]],
        ),
        (
            "byte-level BPE with a lower-cased added phrase",
            "a new york École Été a",
            [["Ġa"], ["Ġ", "new york"], ["new york"], ["Ġ", "École Été"], ["École Été"], ["Ġa"]],
        ),
    ],
)
def test_words_own_their_pieces(name: str, line: str, pieces: list[list[str]]) -> None:
    assert split(name, line) == pieces
    assert not load(name).tokenize(line.split()).inexact


def test_unigram_finds_special_tokens_as_pieces() -> None:
    words = split("Unigram with Metaspace always", "the <pad> </s> x")
    assert [own[-1] for own in words[1:3]] == ["<pad>", "</s>"]


def test_shared_pieces_are_marked() -> None:
    tokenizer = load("byte-level BPE with an added phrase")
    tokens = tokenizer.tokenize(f"a {ADDED} a".split())
    assert tokens.shared == [0, 0, 1, 0]
    assert tokenizer.tokenize(["a", "New"]).shared == ()


def test_guessed_alignment_is_marked() -> None:
    """The normalizer takes the space for a part of the character before it."""
    tokenizer = load("Unigram like XLM-R")
    tokens = tokenizer.tokenize(["the", "\u0600", "\u0301x", "fox"])
    assert tokens.inexact
    assert len(tokens.pieces) == 4
    assert tokens.pieces[0] == tokenizer.tokenize(["the"]).pieces[0]


# --- The rest of the interface ------------------------------------------------------------------


@pytest.mark.parametrize("name", TOYS)
def test_special_tokens_are_those_of_the_library(name: str) -> None:
    tokenizer = load(name)
    own = reference(name).encode("the fox", add_special_tokens=False).ids
    whole = reference(name).encode("the fox").ids
    assert [*tokenizer.prefix, *own, *tokenizer.suffix] == whole


@pytest.mark.parametrize("name", TOYS)
def test_size_is_one_more_than_the_largest_id(name: str) -> None:
    assert load(name).size == 1 + max(reference(name).get_vocab().values())


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("byte-level BPE", None),
        ("Unigram like XLM-R", "<unk>"),
        ("BPE with word ends", "<unk>"),
        ("WordPiece with NFKC", "[UNK]"),
    ],
)
def test_unknown_piece_is_that_of_the_model(name: str, piece: str | None) -> None:
    tokenizer = load(name)
    assert tokenizer.unknown == (None if piece is None else reference(name).token_to_id(piece))
    if piece:
        assert split(name, "☃")[0][-1] == piece


def test_truncation_and_padding_are_ignored() -> None:
    library = Tokenizer.from_buffer(toy("byte-level BPE"))
    library.enable_truncation(3)
    library.enable_padding(length=9)
    serialized = library.to_str().encode()
    tokenizer = LibraryTokenizer(Path("x"), json.loads(serialized), serialized)
    words = ["the", "quick", "brown", "fox"] * 3
    assert tokenizer.tokenize(words) == load("byte-level BPE").tokenize(words)
    assert tokenizer.tokenize(["the"]) == load("byte-level BPE").tokenize(["the"])


def test_fingerprint_covers_the_whole_file() -> None:
    content = json.loads(toy("Unigram like XLM-R"))
    changed = {**content, "normalizer": None}
    digests = {
        LibraryTokenizer(Path("x"), one, json.dumps(one).encode()).fingerprint["tokenizer"]
        for one in (content, changed)
    }
    assert len(digests) == 2


# --- Pieces over the border of two words --------------------------------------------------------


def without_pre_tokenizer(model: dict[str, object]) -> LibraryTokenizer:
    content = json.loads(toy("BPE without pre-tokenizer"))
    content = {**content, "added_tokens": [], "post_processor": None, "model": model}
    return LibraryTokenizer(Path("x"), content, json.dumps(content).encode())


def numbered(*pieces: str) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces)}


def test_prefix_of_continuing_pieces_is_not_a_part_of_words() -> None:
    pieces = ("[UNK]", "a", "## ", "##a", "th", "##e", "##e fo", "##f", "##o", "##x")
    tokenizer = without_pre_tokenizer(
        {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": numbered(*pieces),
        }
    )
    tokens = tokenizer.tokenize(["the", "fox"])
    assert not tokens.inexact
    assert [[tokenizer.piece(i) for i in own] for own in tokens.pieces] == [
        ["th", "##e fo"],
        ["##e fo", "##x"],
    ]


def test_suffix_of_last_pieces_is_not_a_part_of_words() -> None:
    pieces = ("<unk>", "t", "o", " ", "x", "x</w>", "o</w>", "a", "a</w>", "o x</w>", "o ")
    tokenizer = without_pre_tokenizer(
        {
            "type": "BPE",
            "unk_token": "<unk>",
            "end_of_word_suffix": "</w>",
            "vocab": numbered(*pieces),
            "merges": [["o", " "], ["o ", "x</w>"]],
        }
    )
    tokens = tokenizer.tokenize(["to", "x"])
    assert not tokens.inexact
    assert [[tokenizer.piece(i) for i in own] for own in tokens.pieces] == [
        ["t", "o x</w>"],
        ["o x</w>"],
    ]


def test_unknown_piece_of_unigram_spells_the_characters_that_it_replaces() -> None:
    vocabulary = [["<unk>", 0.0], ["a", -1.0], ["b", -1.0]]
    tokenizer = without_pre_tokenizer({"type": "Unigram", "unk_id": 0, "vocab": vocabulary})
    tokens = tokenizer.tokenize(["a☃", "☃", "b"])
    assert not tokens.inexact
    assert tokens.pieces == [(1, 0), (0,), (2,)]
    assert tokens.shared == [0, 1, 0]


def test_unknown_piece_of_others_does_not_spell_its_name() -> None:
    tokenizer = without_pre_tokenizer(
        {
            "type": "BPE",
            "unk_token": "<unk>",
            "fuse_unk": True,
            "vocab": numbered("<unk>", "a", "<", "x"),
            "merges": [],
        }
    )
    tokens = tokenizer.tokenize(["☃", "☃", "<x"])
    assert tokens.inexact
    assert tokens.pieces == [(0,), (), (2, 3)]
