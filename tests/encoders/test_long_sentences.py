"""Sentences that are too long for the model, with both encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bert_tokemb import LocalEncoder, ServerEncoder, Tally, embed, open_local
from bert_tokemb.errors import PiecesRefusedError, ServerGoneError
from bert_tokemb.models.engine import Engine
from bert_tokemb.tokenization.windows import windows_of
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support import recording
from support.cases import CASES
from support.genuine import GenuineServer
from support.ours import OurServer
from support.recording import NEWER, Recording
from support.standin import Frames, StandIn, Text
from support.texts import differs, random_words
from support.tiny import run as run_engine
from support.tiny import start

LONG = [
    " ".join(word for case in CASES if not case.cased and not case.newer for word in case.words),
    "a b " * 300 + "東京 日本語 Café hankcs",
    # Words that no window holds, of many tokens or of one, known or not.
    "a " + "!" * 150 + " b",
    "hello " + "ab" * 49 + " world",
    "x" * 101 + " y" * 90,
    "(" + "ab" * 40 + "-" + "é" * 90 + ") " + "the " * 40,
]


def old_words(seed: int, n: int) -> list[str]:
    """Return words of any characters that Python 3.7 treats as this Python does."""
    words: list[str] = []
    random = Random(seed)
    while len(words) < n:
        words += [w for w in random_words(random, n) if not any(map(differs, w))]
    return words[:n]


def assert_same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> None:
    assert [array.shape for array in ours] == [array.shape for array in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-5)


# --- The local encoder ------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [64, 23, 6])
def test_pieces_have_the_vectors_of_their_windows(limit: int, engine: Engine) -> None:
    """Each window is computed alone."""
    tokenizer = PieceTokenizer(engine.model.tokenizer.vocabulary)
    lines = [*LONG, *(" ".join(random_words(Random(n), 80)) for n in range(3))]
    with LocalEncoder(engine, max_seq_len=limit) as encoder:
        arrays = list(embed(lines, encoder, "last"))
    for line, array in zip(lines, arrays, strict=True):
        pieces = [tokenizer.split(word) for word in line.split()]
        ids = list(chain.from_iterable(pieces))
        ends = np.cumsum([len(own) for own in pieces])
        expected = np.zeros_like(array)
        for window in windows_of([len(own) for own in pieces], limit - 2):
            row = [tokenizer.cls, *ids[window.start : window.end], tokenizer.sep]
            vectors = run_engine(engine, np.array([row], np.int32))[0]
            for j, end in enumerate(ends):
                if pieces[j] and window.kept_start < end <= window.kept_end:
                    expected[j] = vectors[end - window.start]
        assert_same([array], [expected])


def test_short_sentences_do_not_depend_on_long_ones(engine: Engine) -> None:
    short = [" ".join(random_words(Random(n), 1 + n % 20)) for n in range(50)]
    mixed = [line for pair in zip(short, LONG * 9, strict=False) for line in pair]
    with LocalEncoder(engine) as encoder:
        alone = list(embed(short, encoder))
        tally = Tally()
        together = list(embed(mixed, encoder, tally=tally))
    assert all(np.array_equal(a, b) for a, b in zip(together[::2], alone, strict=True))
    assert tally.windowed_sentences == len(short)


# --- Both encoders ----------------------------------------------------------------------------


def test_windows_equal_those_of_the_recorded_server(shared_tiny: Path) -> None:
    lines = ["hello world", *recording.LONG]
    counts, other_counts = Tally(), Tally()
    with (
        Recording.load("32").server() as server,
        ServerEncoder(server.address) as server_encoder,
        LocalEncoder(start(shared_tiny, (-2,)), max_seq_len=32) as local_encoder,
    ):
        served = list(embed(lines, server_encoder, tally=counts))
        computed = list(embed(lines, local_encoder, tally=other_counts))
    assert_same(served, computed)
    assert counts == other_counts
    assert counts.windowed_sentences == len(recording.LONG)


def test_deleted_characters_do_not_change_windows() -> None:
    """The server deletes a newer character; its pieces are found by asking."""
    *_, odd = recording.NEWER_LONG
    tally = Tally()
    with Recording.load("32").server() as server, ServerEncoder(server.address) as encoder:
        arrays = list(embed([odd, odd.replace(NEWER, "")], encoder, tally=tally))
    assert_same(arrays[:1], arrays[1:])
    assert tally.windowed_sentences == 2


@pytest.fixture
def encoders(
    uncased_model: Path, server_32: GenuineServer, server_none: GenuineServer
) -> Iterator[list[tuple[ServerEncoder, LocalEncoder]]]:
    """The genuine server and the engine with the same model, with two limits."""
    with (
        ServerEncoder(server_32.address) as server_of_32,
        ServerEncoder(server_none.address) as server_of_64,
        open_local(str(uncased_model), cased=False, max_seq_len=32) as engine_of_32,
        open_local(str(uncased_model), cased=False) as engine_of_64,
    ):
        yield [(server_of_32, engine_of_32), (server_of_64, engine_of_64)]


@pytest.mark.slow
@pytest.mark.xdist_group("genuine")
def test_both_encoders_return_the_same_vectors(
    encoders: list[tuple[ServerEncoder, LocalEncoder]],
) -> None:
    lines = ["hello world", *LONG, "a b", *(" ".join(old_words(n, 90)) for n in range(9))]
    for server, engine in encoders:
        counts, other_counts = Tally(), Tally()
        served = list(embed(lines, server, tally=counts))
        computed = list(embed(lines, engine, tally=other_counts))
        assert_same(served, computed)
        assert [len(array) for array in served] == [len(line.split()) for line in lines]
        assert counts == other_counts
        assert counts.windowed_sentences >= len(LONG)


@pytest.mark.slow
@pytest.mark.xdist_group("genuine")
def test_lines_of_ten_thousand_words_have_equal_vectors(
    encoders: list[tuple[ServerEncoder, LocalEncoder]],
) -> None:
    lines = [" ".join(old_words(n, 10_000)) for n in range(2)]
    for server, engine in encoders:
        served, computed = list(embed(lines, server)), list(embed(lines, engine))
        assert [len(array) for array in served] == [10_000] * 2
        assert_same(served, computed)


@pytest.mark.xdist_group("genuine")  # for the model, which TensorFlow writes
@pytest.mark.parametrize(
    "options",
    [
        ("-no_special_token",),
        pytest.param((), marks=pytest.mark.slow),
        pytest.param(("-cased_tokenization",), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_our_server_returns_the_same_vectors(options: tuple[str, ...], uncased_model: Path) -> None:
    flags = ("-model_dir", uncased_model, "-pooling_strategy", "NONE", "-show_tokens_to_client")
    cased = "-cased_tokenization" in options
    with (
        OurServer(*flags, "-max_seq_len", "NONE", *options) as server,
        ServerEncoder(server.address) as encoder,
        open_local(str(uncased_model), cased=cased) as engine,
    ):
        assert_same(list(embed(LONG, encoder)), list(embed(LONG, engine)))


# --- Requests to the server -------------------------------------------------------------------


def test_pieces_of_long_sentence_need_few_requests() -> None:
    with StandIn(limit=66) as server, ServerEncoder(server.address) as encoder:
        (array,) = embed(["東京 é " * 5000], encoder)
    assert len(array) == 10_000
    asked = [text for batch in server.requests for text in batch if isinstance(text, str)]
    # The sentence itself, and every word in a text of about half the limit.
    assert sum(len(text.split()) for text in asked) < 3 * 10_000
    assert len(asked) < 4 * 15_000 / 64
    windows = [text for batch in server.requests for text in batch if not isinstance(text, str)]
    assert sum(map(len, windows)) < 2.1 * 15_000
    assert max(map(len, windows)) == 64


def test_sentence_with_more_words_than_the_limit_is_not_sent() -> None:
    with StandIn(config={"max_seq_len": 12}) as server, ServerEncoder(server.address) as encoder:
        assert [len(array) for array in embed(["a " * 11, "b"], encoder)] == [11, 1]
    assert "a " * 10 + "a" not in [text for batch in server.requests for text in batch]


def test_server_that_replaces_pieces_is_refused() -> None:
    with StandIn(limit=12, known=lambda pieces: ["x"] * len(pieces)) as server:
        with ServerEncoder(server.address) as encoder:
            with pytest.raises(PiecesRefusedError, match="line 2: the server was sent pieces, but"):
                list(embed(["a", "a " * 11], encoder))


def test_line_of_several_windows_is_named_once() -> None:
    def die(server: StandIn, frames: Frames, texts: list[Text]) -> list[Frames] | None:
        if len(texts) < 2 or isinstance(texts[0], str):
            return None
        server.stop()
        return []

    with StandIn(limit=12, fault=die) as server:
        with ServerEncoder(server.address, retries=0, timeout=2) as encoder:
            with pytest.raises(ServerGoneError, match="is gone; it was last sent line 2: check"):
                list(embed(["a", "a " * 40], encoder))
