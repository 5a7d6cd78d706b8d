"""The server encoder with a stand-in, whose vectors can be computed by hand, and with recordings
of the genuine server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
import pytest

from bert_tokemb import ServerEncoder, Tally, embed
from bert_tokemb.encoders.server.sentences import as_text
from bert_tokemb.errors import LongSentenceError
from bert_tokemb.types import Sentence
from support.cases import CASES, Case
from support.recording import LONG, NEWER, NEWER_LONG, Recording
from support.standin import StandIn, Text, pieces_of

LINES = [f"{'word ' * (n % 7)}number {n}" for n in range(300)]
"""Distinct, of several lengths, and more than fit into one request."""


def expected(line: str) -> list[list[float]]:
    """Return the vectors of a line with the strategy `first`, by the rule of the stand-in."""
    pieces = ["[CLS]", *pieces_of(line), "[SEP]"]
    rows, j = [], 1
    for word in line.split():
        rows.append([j, len(pieces), len(pieces[j]), ord(pieces[j][-1]), 0, 0, 0, 0])
        j += len(pieces_of(word))
    return rows


def embed_all(server: StandIn, lines: Sequence[str] = LINES, **options: Any) -> list[Any]:
    with ServerEncoder(server.address, **options) as encoder:
        return [array.tolist() for array in embed(lines, encoder, "first")]


# --- Requests ---------------------------------------------------------------------------------


def test_each_line_is_sent_once_and_embedded() -> None:
    with StandIn() as server:
        assert embed_all(server) == [expected(line) for line in LINES]
    batches = server.requests[1:]
    assert len(batches) > 3
    assert max(map(len, batches)) <= 64
    assert sorted(chain.from_iterable(batches)) == sorted(LINES)


def test_float16_replies_give_float16_vectors() -> None:
    """A server started with `-fp16` sends such replies."""
    with StandIn(dtype="float16") as server, ServerEncoder(server.address) as encoder:
        arrays = list(embed(["hello unaffable", ""], encoder))
    assert [(a.dtype, a.shape) for a in arrays] == [(np.float16, (2, 8)), (np.float16, (0, 8))]
    np.testing.assert_array_equal(arrays[0][1, :3], np.float16([4, 7, np.mean([4, 6, 3])]))


def test_requests_are_not_larger_than_max_batch_size() -> None:
    """The server would divide larger requests."""
    with StandIn(config={"max_batch_size": 5}) as server:
        assert embed_all(server) == [expected(line) for line in LINES]
    assert max(map(len, server.requests)) == 5


def test_padding_to_a_fixed_length_counts() -> None:
    with StandIn(config={"max_seq_len": 512}) as server:
        assert embed_all(server) == [expected(line) for line in LINES]
    assert max(map(len, server.requests)) == 4


def test_separator_of_pairs_is_sent_as_three_words() -> None:
    with StandIn() as server:
        arrays = embed_all(server, ["a ||| b", "|||", "|||| a|||b"])
    assert list(map(len, arrays)) == [3, 1, 2]
    sent = set(chain.from_iterable(server.requests))
    assert sent == {".", "a | | | b", "| | |", "|||| a|||b"}


def test_settings_and_fingerprint_identify_the_server() -> None:
    with StandIn(config={"do_lower_case": False}) as server:
        with ServerEncoder(server.address) as encoder:
            assert encoder.source == {"server": str(server.address)}
            assert encoder.settings["encoder"] == "server"
            assert encoder.settings["do_lower_case"] is False
            assert "127.0.0.1" not in str(encoder.settings)
            vectors = [0, 3, 5, 93, 0, 0, 0, 0, 1, 3, 1, 46, 0, 0, 0, 0, 2, 3, 5, 93, 0, 0, 0, 0]
            assert encoder.fingerprint() == {"vectors": vectors}


# --- Alignment, by the stand-in ---------------------------------------------------------------


def _odd_pieces(text: str) -> list[str]:
    """Return pieces as of a tokenizer that is not BERT's: it drops vowels, and one word."""
    return [piece for piece in pieces_of(text.replace("o", "")) if piece != "number"]


def test_other_tokenizer_loses_no_word() -> None:
    tally = Tally()
    with StandIn(pieces=_odd_pieces) as server, ServerEncoder(server.address) as encoder:
        arrays = list(embed(["hello world", "cat", "you too"], encoder, "first", tally=tally))
    assert [a[:, 0].tolist() for a in arrays] == [[1, 2], [1], [1, 2]]
    assert tally.inexact_sentences == 2


@pytest.mark.parametrize("max_seq_len", [None, 512])
def test_questions_about_doubtful_words_respect_the_padded_budget(max_seq_len: int | None) -> None:
    """The server pads all texts of a request to the longest of them, or to its max_seq_len."""
    line = " ".join(f"wörldo{i}" for i in range(60)) + " a" * 240
    with StandIn(pieces=_odd_pieces, config={"max_seq_len": max_seq_len}) as server:
        assert len(embed_all(server, [line])[0]) == 300
    asked = [request for request in server.requests if "wörldo1" in request]
    assert asked
    for texts in server.requests:
        longest = max_seq_len or 2 + max(len(pieces_of(text)) for text in texts)
        assert len(texts) * longest <= 2048 or len(texts) == 1


def test_limit_of_the_model_is_found_when_a_sentence_is_cut() -> None:
    with StandIn(limit=12) as server:
        assert len(embed_all(server, ["a " * 10])[0]) == 10
        with pytest.raises(LongSentenceError) as caught:
            embed_all(server, ["a", "a " * 11], long_sentences="error")
    error = caught.value
    assert (error.line, error.words, error.limit) == (2, 11, 10)
    assert (error.limit_of, error.pieces) == ("server's model", None)


def test_sentence_far_beyond_the_limit_needs_no_further_requests() -> None:
    """Requests that locate the cut would be as many as the words: 10,000."""
    with StandIn(limit=12) as server:
        with pytest.raises(LongSentenceError):
            embed_all(server, ["東京 é " * 5000], long_sentences="error")
    assert len(server.requests) == 2


def test_short_sentence_is_not_suspected_to_be_cut() -> None:
    """A longer sentence came back whole, so the server is not asked with a word appended."""
    with StandIn(pieces=_odd_pieces) as server, ServerEncoder(server.address) as encoder:
        for batch in (["a " * 40], ["hello wörld"]):
            list(embed(batch, encoder))
    assert server.requests[1:] == [[" ".join("a" * 40)], ["hello wörld"], ["wörld"]]


def test_limit_that_is_larger_than_the_first_guess_is_found() -> None:
    with StandIn(limit=3000) as server, ServerEncoder(server.address) as encoder:
        assert encoder.pieces(Sentence(1, ["a"] * 2000)) == [["a"]] * 2000
    texts = [text for batch in server.requests for text in batch if set(text) <= set(". ")]
    assert [text.count(".") for text in texts] == [1, 1024, 2048, 4096]


# --- Alignment, by the replies of the genuine server ------------------------------------------


@cache
def recording(name: str) -> Recording:
    return Recording.load(name)


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[str, ServerEncoder]]:
    """Encoders that use recorded servers, by the name of the recording."""
    with recording("uncased").server() as uncased, recording("cased").server() as cased:
        with ServerEncoder(uncased.address) as one, ServerEncoder(cased.address) as other:
            yield {"uncased": one, "cased": other}


def name_of(case: Case) -> str:
    return "cased" if case.cased else "uncased"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case_has_the_pieces_of_the_genuine_server(case: Case) -> None:
    (pieces,), _ = recording(name_of(case))([as_text(case.words)])
    assert pieces[1:-1] == case.flat


@pytest.mark.parametrize("case", CASES, ids=str)
def test_words_have_the_vectors_of_their_pieces(
    case: Case, recorded: dict[str, ServerEncoder]
) -> None:
    """The other line is the longest of all, so that the vectors of the first are padded."""
    _, vectors = recording(name_of(case))([as_text(case.words)])
    starts = 1 + np.cumsum([0, *case.counts])
    present = np.array(case.counts) > 0
    same = [" ".join(other.words) for other in CASES if other.cased == case.cased]
    lines = [" ".join(case.words), max(same, key=len)]
    for strategy, rows in (("first", starts[:-1]), ("last", starts[1:] - 1)):
        array, *_ = embed(lines, recorded[name_of(case)], strategy)
        np.testing.assert_array_equal(array[present], vectors[0, rows[present]])
        assert not array[~present].any()


@pytest.mark.parametrize("cased", [False, True])
def test_batch_of_all_cases_has_the_pieces_of_the_genuine_server(
    cased: bool, recorded: dict[str, ServerEncoder]
) -> None:
    cases = [case for case in CASES if case.cased == cased]
    encoder = recorded["cased" if cased else "uncased"]
    tally = Tally()
    prepared = [encoder.prepare(Sentence(line, case.words)) for line, case in enumerate(cases, 1)]
    (encoded,) = encoder.encode([prepared])
    assert encoded.counts.tolist() == [n for case in cases for n in case.counts]
    assert not encoded.inexact
    arrays = list(embed([" ".join(case.words) for case in cases], encoder, tally=tally))
    assert [len(array) for array in arrays] == [len(case.words) for case in cases]
    assert tally.empty_words == sum(not own for case in cases for own in case.pieces)
    assert tally.unknown_words == sum("[UNK]" in own for case in cases for own in case.pieces)


def test_pieces_are_listed_for_sentences_of_any_length(recorded: dict[str, ServerEncoder]) -> None:
    """The limit of the model is found before the pieces of a long sentence are requested."""
    for case in CASES:
        if not case.cased:
            words = Sentence(1, case.words)
            assert [*map(list, recorded["uncased"].pieces(words))] == case.pieces
    long = Sentence(1, ["hankcs"] * 100 + ["!" * 90])
    assert recorded["uncased"].pieces(long) == [["hank", "##cs"]] * 100 + [["!"] * 90]


# --- Sentences that are cut, by the replies of the genuine server -----------------------------


def test_sentence_that_fits_exactly_is_not_cut() -> None:
    for name, limit in (("32", 30), ("uncased", 62)):
        with recording(name).server() as server:
            arrays = embed_all(server, ["a " * limit, "!" * limit], long_sentences="error")
        assert list(map(len, arrays)) == [limit, 1]


@pytest.mark.parametrize("line", [*LONG, *NEWER_LONG], ids=lambda line: f"{line[:8]} {len(line)}")
def test_cut_sentence_is_recognized(line: str) -> None:
    lines = ["hello world", line, "hello world"]
    with recording("32").server() as server:
        with pytest.raises(
            LongSentenceError, match=r"^line 2 .* more pieces than the 30 "
        ) as caught:
            embed_all(server, lines, long_sentences="error")
        assert caught.value.limit_of == "server"
        _, array, _ = embed_all(server, lines)
    assert len(array) == len(line.split())


def test_deleted_last_word_is_not_taken_for_a_cut() -> None:
    """The server deletes characters that its Unicode table lacks, but nothing was cut."""
    with recording("32").server() as server:
        for n in (0, 1, 5, 29, 30):
            (rows,) = embed_all(server, ["a " * n + f"{NEWER} \U0001f971"])
            array = np.array(rows)
            assert array.shape == (n + 2, 32)
            assert array[:n].any(axis=1).all()
            assert not array[n:].any()


def test_several_layers_are_concatenated() -> None:
    found = recording("layers")
    with found.server() as server, ServerEncoder(server.address) as encoder:
        assert encoder.width == 96
        (array,) = embed(["Hello World !"], encoder, "last")
    np.testing.assert_array_equal(array, found(["Hello World !"])[1][0, 1:-1])


def test_text_that_was_not_recorded_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="not recorded: 'something else'; add it"):
        with recording("uncased").server() as server:
            embed_all(server, ["something else"])


def test_recorded_replies_are_combined_by_the_longest() -> None:
    texts: list[Text] = ["Hello World !", "I'm hankcs"]
    pieces, vectors = recording("uncased")(texts)
    assert list(map(len, pieces)) == [5, 7]
    assert vectors.shape == (2, 7, 32)
    assert not vectors[0, 5:].any()
    assert recording("32")(["hello world"])[1].shape == (1, 32, 32)
