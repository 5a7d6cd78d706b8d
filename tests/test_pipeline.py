"""From sentences to arrays, with an encoder whose vectors a person can check."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tokemb import Tally, embed
from bert_tokemb.batching import make_batches, read_chunks
from bert_tokemb.errors import NonFiniteError, RefusedWordError, StrategyError
from bert_tokemb.types import (
    BatchLimits,
    EmbeddedSentence,
    EncodedBatch,
    PreparedSentence,
    Sentence,
)


class ByHand:
    """Words are numbers: `7` gives one piece, `7+8` two, `-` none, `?` an unknown one.

    The vector of a piece is its number and the line's; an unknown one has the number 0.
    """

    width = 2
    dtype = np.dtype(np.float32)

    def __init__(self, budget: BatchLimits = BatchLimits(8, 3), ahead: int = 2) -> None:  # noqa: B008
        self.batch_limits = budget
        self.ahead = ahead
        self.batches: list[list[int]] = []
        """The lines of each batch drawn."""

    def prepare(self, sentence: Sentence) -> PreparedSentence:
        return PreparedSentence(sentence, sum(map(len, map(self._pieces, sentence.words))))

    def encode(self, batches: Iterable[Sequence[PreparedSentence]]) -> Iterator[EncodedBatch]:
        todo = iter(batches)
        window: list[Sequence[PreparedSentence]] = []
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

    def _encode(self, sentences: list[Sentence]) -> EncodedBatch:
        words = [(s.line, self._pieces(word), "?" in word) for s in sentences for word in s.words]
        rows = [(n, line) for line, pieces, _ in words for n in pieces]
        counts = np.array([len(pieces) for _, pieces, _ in words], np.intp)
        return EncodedBatch(
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


def test_embed_yields_one_row_per_word() -> None:
    counts = Tally()
    arrays = list(embed(TEXT, ByHand(), "avg", tally=counts))
    assert [array.tolist() for array in arrays] == KEPT
    assert all(a.shape == (len(line.split()), 2) for a, line in zip(arrays, TEXT, strict=True))
    assert all(a.dtype == np.float32 for a in arrays)
    assert all(a.flags.writeable and a.flags.c_contiguous for a in arrays)
    assert counts == Tally(
        lines=7,
        sentences=7,
        words=10,
        blank_lines=2,
        unknown_words=1,
        empty_words=2,
        inexact_sentences=1,
        examples={
            "unknown_words": [[4, "?"]],
            "empty_words": [[4, "-"], [7, "-"]],
            "inexact_sentences": [6],
        },
    )


def test_blank_lines_can_be_skipped() -> None:
    counts = Tally()
    arrays = list(embed(TEXT, ByHand(), "avg", blank_lines="skip", tally=counts))
    assert [array.tolist() for array in arrays] == [array for array in KEPT if array]
    assert (counts.lines, counts.sentences, counts.blank_lines) == (7, 5, 2)


@pytest.mark.parametrize("text", [[], ["\n"], ["\n"] * 5])
def test_text_without_words_yields_empty_arrays(text: list[str]) -> None:
    assert [a.shape for a in embed(text, ByHand())] == [(0, 2)] * len(text)
    assert list(embed(text, ByHand(), blank_lines="skip")) == []


@given(
    lines=st.lists(st.lists(st.sampled_from(["1", "2+3", "-", "?", "4+?"]), max_size=6)),
    look_ahead=st.integers(1, 20_000),
    budget=st.builds(BatchLimits, st.integers(1, 9), st.integers(1, 4)),
    ahead=st.integers(1, 4),
)
def test_result_does_not_depend_on_batches_or_look_ahead(
    lines: list[list[str]], look_ahead: int, budget: BatchLimits, ahead: int
) -> None:
    text = [" ".join(words) for words in lines]
    counts, expected = Tally(), Tally()
    arrays = list(embed(text, ByHand(budget, ahead), look_ahead=look_ahead, tally=counts))
    one_by_one = [next(embed([line], ByHand(), tally=expected)).tolist() for line in text]
    # Vectors contain the line number; one by one it is always 1.
    assert [array[:, :1].tolist() for array in arrays] == [
        [row[:1] for row in array] for array in one_by_one
    ]
    for line, array in enumerate(arrays, 1):
        # Equal sentences may have been computed once.
        equal = {i for i, other in enumerate(text, 1) if other == text[line - 1]}
        assert set(array[:, 1].tolist()) <= {0, *equal}
    # One by one, the line number is always 1.
    assert replace(counts, examples={}) == replace(expected, examples={})


def test_plain_function_is_a_strategy() -> None:
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
def test_strategy_with_wrong_shape_or_dtype_is_refused(merge: object) -> None:
    with pytest.raises(StrategyError, match=r"must return float32 of shape \(3, 2\)"):
        list(embed(["1 2 3"], ByHand(), SimpleNamespace(merge=merge)))


def test_embed_refuses_invalid_arguments() -> None:
    with pytest.raises(TypeError, match="pass an iterable of lines"):
        list(embed("1 2", ByHand()))
    with pytest.raises(ValueError, match="must be 'keep' or 'skip'"):
        list(embed(["1"], ByHand(), blank_lines="drop"))


@pytest.mark.parametrize(("line", "most"), [("x" * 4000, 40), ("東" * 300, 40), ("x", 1000)])
def test_look_ahead_counts_words_and_characters(line: str, most: int) -> None:
    """The results are small, but the text or its objects are not."""
    lines = (f"{line}\n" for _ in itertools.count())
    chunks = read_chunks(
        enumerate(lines, 1), lambda s: PreparedSentence(s, 1), bytes_per_word=8, look_ahead=1 << 20
    )
    buffer, _ = next(chunks)
    assert buffer.last_line < most


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["1", "2 ? -"], r"line 2: the word '\?' is unknown"),
        (["1", "\n", "2 - ?"], "line 3: the word '-' has no pieces"),
        (["1 1 1 1 1 1 1 ?", "?"], r"line 1: the word '\?' is unknown"),
        (["-", "1 1 1 1 1 1 1 1 ?"], "line 1: the word '-' has no pieces"),
    ],
)
def test_strict_refuses_unknown_and_empty_words(text: list[str], message: str) -> None:
    with pytest.raises(RefusedWordError, match=message):
        list(embed(text, ByHand(), strict=True))
    assert len(list(embed(["1", "", "2"], ByHand(), strict=True))) == 3


def test_nonfinite_vectors_are_refused() -> None:
    text, encoder = ["1 2", "3 4 5"], ByHand()
    strategy = lambda pieces: pieces.mean(axis=0) / (pieces[0, 0] != 4)  # noqa: E731
    with np.errstate(all="ignore"):
        with pytest.raises(NonFiniteError, match="line 2: the vector of the word '4' contains NaN"):
            list(embed(text, encoder, strategy))
        tally = Tally()
        arrays = list(embed(text, encoder, strategy, allow_nonfinite=True, tally=tally))
    assert np.isfinite(arrays[1]).all(axis=1).tolist() == [True, False, True]
    assert tally.nonfinite_words == 1
    assert tally.examples["nonfinite_words"] == [[2, "4"]]


def test_arrays_are_yielded_while_the_text_is_read() -> None:
    """The look-ahead is bounded, so an endless text yields arrays."""
    read = itertools.count()
    endless = (f"{next(read) % 9} 1" for _ in itertools.count())
    arrays = embed(endless, ByHand(), look_ahead=50_000)
    first = [next(arrays) for _ in range(100)]
    assert len(first) == 100
    assert next(read) < 300


def test_blank_lines_take_no_memory() -> None:
    """Blank lines never fill a look-ahead, however many there are."""
    lines = itertools.chain(["1"], itertools.repeat("\n", 100_000), ["2"])
    tracemalloc.start()
    try:
        assert sum(len(array) for array in embed(lines, ByHand())) == 2
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_batches_are_sorted_and_within_limits() -> None:
    prepared = [
        PreparedSentence(Sentence(line, ["x"]), length)
        for line, length in enumerate([3, 9, 4, 1, 2, 2], 1)
    ]
    batches = list(make_batches(prepared, BatchLimits(pieces=8, sentences=3)))
    assert [[one.length for one in batch] for batch in batches] == [[9], [4, 3], [2, 2, 1]]
    # The same text always gives the same batches.
    assert [[one.sentence.line for one in batch] for batch in batches] == [[2], [3, 1], [5, 6, 4]]


def test_equal_sentences_are_encoded_once() -> None:
    encoder, counts = ByHand(), Tally()
    text = ["1 ?", "2", " 1\t?", "\n", "1 ?", "2", "- 6"]
    first, two, second, blank, third, again, _ = embed(text, encoder, tally=counts)
    assert sorted(line for batch in encoder.batches for line in batch) == [1, 2, 7]
    assert first.tolist() == second.tolist() == third.tolist() == [[1, 1], [0, 1]]
    assert two.tolist() == again.tolist() == [[2, 2]]
    assert blank.shape == (0, 2)
    assert (counts.words, counts.unknown_words, counts.empty_words) == (10, 3, 1)
    # Each line has an array of its own.
    first[:] = 9
    third[:] = 8
    assert second.tolist() == [[1, 1], [0, 1]]


def test_equal_sentences_can_be_written_to_independently() -> None:
    arrays = embed(["1", "1", "1"], ByHand())
    next(arrays)[:] = 9
    next(arrays)[:] = 8
    assert next(arrays).tolist() == [[1, 1]]


def test_reorder_buffer_is_empty_after_all_lines_are_taken() -> None:
    buffer, _ = next(read_chunks(enumerate(["1", "2", "1", "1"], 1), ByHand().prepare, 8, 10_000))
    for line in (1, 2):
        buffer.done[line] = EmbeddedSentence(line, [str(line)], np.zeros((1, 2), np.float32))
    assert [buffer.take(line).line for line in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert not buffer.done


def test_equal_sentences_far_apart_are_encoded_again() -> None:
    encoder = ByHand()
    text = ["1"] * 100
    arrays = list(embed(text, encoder, look_ahead=10_000))
    assert len(arrays) == 100
    assert 1 < sum(map(len, encoder.batches)) < 50
