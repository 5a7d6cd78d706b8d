"""Which words own the pieces of a line, given what words and pieces spell."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tokemb.tokenization.ownership import Spelling, assign
from bert_tokemb.tokenization.tokenizer import TokenizedWords
from support.texts import EXAMPLES


def assigned(words: Sequence[str], pieces: Sequence[str]) -> TokenizedWords:
    """Assign pieces to words; a ``▁`` at the beginning of a word is the space before it."""
    spellings = [Spelling(word, int(word.startswith("▁"))) for word in words]
    return assign(spellings, pieces, range(len(pieces)), "▁")


@pytest.mark.parametrize(
    ("words", "pieces", "owned"),
    [
        (["a", "▁b"], ["a", "▁b"], [(0,), (1,)]),
        (["ab", "▁cd"], ["a", "b▁c", "d"], [(0, 1), (1, 2)]),
        (["a", "▁b", "▁c"], ["a▁b▁c"], [(0,), (0,), (0,)]),
        # A word between them that spells nothing has no part in a piece.
        (["a", "▁", "▁c"], ["a▁▁c"], [(0,), (), (0,)]),
        (["a", "", "▁c"], ["a▁c"], [(0,), (), (0,)]),
        # Lone spaces.
        (["a", "▁b"], ["a", "▁", "b"], [(0,), (1, 2)]),
        (["a", "▁b"], ["a▁", "b"], [(0,), (1,)]),
        (["a", "▁", "▁c"], ["a", "▁", "▁", "c"], [(0,), (), (1, 2, 3)]),
        (["a", "▁", "▁"], ["a", "▁", "▁"], [(0,), (), (1, 2)]),
        # Spaces that an added token or a normalizer took, or that are too many.
        (["a", "▁b", "▁c"], ["ab", "▁c"], [(0,), (0,), (1,)]),
        (["a", "▁b"], ["▁", "a", "▁", "▁", "b"], [(0, 1), (2, 3, 4)]),
        (["a", "▁b"], [], [(), ()]),
        # A piece that spells nothing.
        (["a", "▁b"], ["", "a", "", "▁b"], [(0, 1), (2, 3)]),
    ],
)
def test_pieces_belong_to_the_words_that_they_spell(
    words: Sequence[str], pieces: Sequence[str], owned: list[tuple[int, ...]]
) -> None:
    tokens = assigned(words, pieces)
    assert list(tokens.pieces) == owned
    assert not tokens.inexact or not pieces


def test_a_space_in_the_word_is_not_the_space_before_it() -> None:
    tokens = assign([Spelling("a", 0), Spelling("▁▁", 1)], ["a", "▁", "▁"], [0, 1, 2], "▁")
    assert list(tokens.pieces) == [(0,), (1, 2)]


@pytest.mark.parametrize(
    ("words", "pieces", "owned"),
    [
        (["abc", "▁xyz", "▁def"], ["abc", "▁xQz", "▁def"], [(0,), (1,), (2,)]),
        (["abc", "▁def"], ["\0"], [(0,), ()]),
        (["abc", "▁xy", "▁def"], ["abc", "▁", "\0", "▁def"], [(0,), (1, 2), (3,)]),
        (["", ""], ["x", "y"], [(0, 1), ()]),
        (["abc", "▁def"], ["abc", "▁d", "Q", "ef"], [(0,), (1, 2, 3)]),
    ],
)
def test_other_pieces_belong_to_the_nearest_words(
    words: Sequence[str], pieces: Sequence[str], owned: list[tuple[int, ...]]
) -> None:
    tokens = assigned(words, pieces)
    assert list(tokens.pieces) == owned
    assert tokens.inexact


def test_long_guess_takes_linear_time() -> None:
    words = [f"{'' if j == 0 else '▁'}{'ab' * 50}" for j in range(1000)]
    pieces = ["xyz"] * 33_000
    tokens = assigned(words, pieces)
    assert tokens.inexact
    assert all(30 < len(own) < 36 for own in tokens.pieces)


@EXAMPLES
def test_every_piece_is_owned_in_order(examples: int) -> None:
    texts = st.lists(st.text("ab▁\0", max_size=4), min_size=1, max_size=8)

    @settings(max_examples=examples * 4)
    @given(texts, st.lists(st.text("ab▁\0", max_size=3), max_size=12))
    def check(words: list[str], pieces: list[str]) -> None:
        tokens = assigned(words, pieces)
        assert len(tokens.pieces) == len(words)
        assert {i for own in tokens.pieces for i in own} == set(range(len(pieces)))
        runs = [own for own in tokens.pieces if own]
        for own in runs:
            assert list(own) == list(range(own[0], own[-1] + 1))
        assert [own[0] for own in runs] == sorted(own[0] for own in runs)
        assert [own[-1] for own in runs] == sorted(own[-1] for own in runs)
        done = 0
        for j, own in enumerate(tokens.pieces):
            shared = tokens.shared[j] if tokens.shared else 0
            assert list(own[:shared]) == list(range(done - shared, done))
            assert list(own[shared:]) == list(range(done, done + len(own) - shared))
            done += len(own) - shared

    check()
