"""From sentences to arrays, with an encoder whose vectors a person can check."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tokemb import Counts, embed
from bert_tokemb.batching import cut_into_batches, read_ahead
from bert_tokemb.errors import OddWordError, StrategyError
from bert_tokemb.types import Budget, Embedded, Encoded, Prepared, Sentence


class ByHand:
    """Words are numbers: `7` gives one piece, `7+8` two, `-` none, `?` an unknown one.

    The vector of a piece is its number and the line's; an unknown one has the number 0.
    """

    width = 2
    dtype = np.dtype(np.float32)

    def __init__(self, budget: Budget = Budget(8, 3), ahead: int = 2) -> None:  # noqa: B008
        self.budget = budget
        self.ahead = ahead
        self.batches: list[list[int]] = []
        """The lines of each batch drawn."""

    def prepare(self, sentence: Sentence) -> Prepared:
        return Prepared(sentence, sum(map(len, map(self._pieces, sentence.words))))

    def encode(self, batches: Iterable[Sequence[Prepared]]) -> Iterator[Encoded]:
        todo = iter(batches)
        window: list[Sequence[Prepared]] = []
        while True:
            window += itertools.islice(todo, self.ahead - len(window))
            if not window:
                return
            batch = window.pop(0)
            self.batches.append([prepared.sentence.line for prepared in batch])
            yield self._encode([prepared.sentence for prepared in batch])

    @staticmethod
    def _pieces(word: str) -> list[int]:
        return [] if word == "-" else [int(n.replace("?", "0")) for n in word.split("+")]

    def _encode(self, sentences: list[Sentence]) -> Encoded:
        words = [(s.line, self._pieces(word), "?" in word) for s in sentences for word in s.words]
        rows = [(n, line) for line, pieces, _ in words for n in pieces]
        counts = np.array([len(pieces) for _, pieces, _ in words], np.intp)
        return Encoded(
            sentences=sentences,
            vectors=np.array([(-1, -1), *rows], np.float32),
            starts=1 + np.cumsum(counts) - counts,
            counts=counts,
            unknown=np.array([unknown for *_, unknown in words], np.bool_),
            inexact=[s.line for s in sentences if "6" in s.words],
        )


TEXT = ["1 2+4 3\n", "\n", "5", "- ?", "  ", "6 6", "7+9 -"]
KEPT = [
    [[1, 1], [3, 1], [3, 1]],
    [],
    [[5, 3]],
    [[0, 0], [0, 4]],
    [],
    [[6, 6], [6, 6]],
    [[8, 7], [0, 0]],
]


def test_by_hand() -> None:
    counts = Counts()
    arrays = list(embed(TEXT, ByHand(), "avg", counts=counts))
    assert [array.tolist() for array in arrays] == KEPT
    assert all(a.shape == (len(line.split()), 2) for a, line in zip(arrays, TEXT, strict=True))
    assert all(a.dtype == np.float32 for a in arrays)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays)
    assert counts == Counts(
        lines=7,
        sentences=7,
        words=10,
        blank_lines=2,
        unknown_words=1,
        empty_words=2,
        inexact_sentences=1,
    )


def test_blank_lines_can_be_skipped() -> None:
    counts = Counts()
    arrays = list(embed(TEXT, ByHand(), "avg", blank_lines="skip", counts=counts))
    assert [array.tolist() for array in arrays] == [array for array in KEPT if array]
    assert (counts.lines, counts.sentences, counts.blank_lines) == (7, 5, 2)


@pytest.mark.parametrize("text", [[], ["\n"], ["\n"] * 5])
def test_texts_without_words(text: list[str]) -> None:
    assert [a.shape for a in embed(text, ByHand())] == [(0, 2)] * len(text)
    assert list(embed(text, ByHand(), blank_lines="skip")) == []


@given(
    lines=st.lists(st.lists(st.sampled_from(["1", "2+3", "-", "?", "4+?"]), max_size=6)),
    look_ahead=st.integers(1, 20_000),
    budget=st.builds(Budget, st.integers(1, 9), st.integers(1, 4)),
    ahead=st.integers(1, 4),
)
def test_neither_batches_nor_the_look_ahead_change_the_result(
    lines: list[list[str]], look_ahead: int, budget: Budget, ahead: int
) -> None:
    text = [" ".join(words) for words in lines]
    counts, expected = Counts(), Counts()
    arrays = list(embed(text, ByHand(budget, ahead), look_ahead=look_ahead, counts=counts))
    one_by_one = [next(embed([line], ByHand(), counts=expected)).tolist() for line in text]
    # The vectors tell the line; one by one it was always the first.
    assert [array[:, :1].tolist() for array in arrays] == [
        [row[:1] for row in array] for array in one_by_one
    ]
    for line, array in enumerate(arrays, 1):
        # Equal sentences may have been computed once.
        equal = {i for i, other in enumerate(text, 1) if other == text[line - 1]}
        assert set(array[:, 1].tolist()) <= {0, *equal}
    assert counts == expected


def test_a_plain_function_is_a_strategy() -> None:
    (array,) = embed(["1+2 3"], ByHand(), lambda pieces: pieces.sum(axis=0))
    assert array.tolist() == [[3, 2], [3, 1]]


@pytest.mark.parametrize(
    "merge",
    [
        lambda vectors, starts, counts: vectors[starts[:1]],
        lambda vectors, starts, counts: vectors[starts, :1],
        lambda vectors, starts, counts: vectors[starts].astype("f8"),
        lambda vectors, starts, counts: None,
    ],
    ids=["rows", "columns", "type", "nothing"],
)
def test_a_strategy_that_merges_wrongly_is_told(merge: object) -> None:
    with pytest.raises(StrategyError, match=r"must return float32 of shape \(3, 2\)"):
        list(embed(["1 2 3"], ByHand(), SimpleNamespace(merge=merge)))


def test_arguments_that_cannot_be_meant() -> None:
    with pytest.raises(TypeError, match="give an iterable of lines"):
        list(embed("1 2", ByHand()))
    with pytest.raises(ValueError, match="give 'keep' or 'skip'"):
        list(embed(["1"], ByHand(), blank_lines="drop"))


@pytest.mark.parametrize(("line", "most"), [("x" * 4000, 40), ("東" * 300, 40), ("x", 1000)])
def test_what_bounds_the_look_ahead_besides_results(line: str, most: int) -> None:
    """Their result is small, but the words or the objects are not."""
    lines = (f"{line}\n" for _ in itertools.count())
    stretches = read_ahead(
        enumerate(lines, 1), lambda s: Prepared(s, 1), bytes_per_word=8, size=1 << 20
    )
    shelf, _ = next(stretches)
    assert shelf.last_line < most


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["1", "2 ? -"], r"line 2: the word '\?' is unknown"),
        (["1", "\n", "2 - ?"], "line 3: the word '-' has no word pieces"),
        (["1 1 1 1 1 1 1 ?", "?"], r"line 1: the word '\?' is unknown"),
        (["-", "1 1 1 1 1 1 1 1 ?"], "line 1: the word '-' has no word pieces"),
    ],
)
def test_strict(text: list[str], message: str) -> None:
    with pytest.raises(OddWordError, match=message):
        list(embed(text, ByHand(), strict=True))
    assert len(list(embed(["1", "", "2"], ByHand(), strict=True))) == 3


def test_arrays_come_while_the_text_is_read() -> None:
    """The look-ahead is bounded: an endless text gives arrays."""
    read = itertools.count()
    endless = (f"{next(read) % 9} 1" for _ in itertools.count())
    arrays = embed(endless, ByHand(), look_ahead=50_000)
    first = [next(arrays) for _ in range(100)]
    assert len(first) == 100
    assert next(read) < 300


def test_blank_lines_take_no_memory() -> None:
    """However many there are, and though they never fill a look-ahead."""
    lines = itertools.chain(["1"], itertools.repeat("\n", 100_000), ["2"])
    tracemalloc.start()
    try:
        assert sum(len(array) for array in embed(lines, ByHand())) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_longest_first_and_never_over_the_budget() -> None:
    prepared = [
        Prepared(Sentence(line, ["x"]), length) for line, length in enumerate([3, 9, 4, 1, 2, 2], 1)
    ]
    batches = list(cut_into_batches(prepared, Budget(pieces=8, sentences=3)))
    assert [[one.length for one in batch] for batch in batches] == [[9], [4, 3], [2, 2, 1]]
    # The same text always falls into the same batches.
    assert [[one.sentence.line for one in batch] for batch in batches] == [[2], [3, 1], [5, 6, 4]]


def test_equal_sentences_are_encoded_once() -> None:
    encoder, counts = ByHand(), Counts()
    text = ["1 ?", "2", " 1\t?", "\n", "1 ?", "2", "- 6"]
    first, two, second, blank, third, again, _ = embed(text, encoder, counts=counts)
    assert sorted(line for batch in encoder.batches for line in batch) == [1, 2, 7]
    assert first.tolist() == second.tolist() == third.tolist() == [[1, 1], [0, 1]]
    assert two.tolist() == again.tolist() == [[2, 2]]
    assert blank.shape == (0, 2)
    assert (counts.words, counts.unknown_words, counts.empty_words) == (10, 3, 1)
    # Each has its own.
    first[:] = 9
    third[:] = 8
    assert second.tolist() == [[1, 1], [0, 1]]


def test_equal_sentences_are_written_to_while_others_wait() -> None:
    arrays = embed(["1", "1", "1"], ByHand())
    next(arrays)[:] = 9
    next(arrays)[:] = 8
    assert next(arrays).tolist() == [[1, 1]]


def test_equal_sentences_have_lines_of_their_own_and_leave_nothing() -> None:
    shelf, _ = next(read_ahead(enumerate(["1", "2", "1", "1"], 1), ByHand().prepare, 8, 10_000))
    for line in (1, 2):
        shelf.done[line] = Embedded(line, [str(line)], np.zeros((1, 2), np.float32))
    assert [shelf.take(line).line for line in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert not shelf.done


def test_equal_sentences_far_apart_are_encoded_again() -> None:
    encoder = ByHand()
    text = ["1"] * 100
    arrays = list(embed(text, encoder, look_ahead=10_000))
    assert len(arrays) == 100
    assert 1 < sum(map(len, encoder.batches)) < 50
