"""Sentences that are too long for the model, by both encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from random import Random

import numpy as np
import pytest

from bert_tokemb import ServingEncoder, Tally, embed, open_local
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.errors import ServerError
from bert_tokemb.models.engine import Engine
from bert_tokemb.tokenization.windows import windows_of
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.cases import CASES
from support.command import Command, load
from support.genuine import GenuineServer
from support.ours import OurServer
from support.standin import StandIn
from support.texts import differs, random_words
from support.tiny import run as run_engine

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
    """Return words of whatever characters, which Python 3.7 knows as well as this one."""
    words: list[str] = []
    random = Random(seed)
    while len(words) < n:
        words += [w for w in random_words(random, n) if not any(map(differs, w))]
    return words[:n]


def assert_same(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], atol: float) -> None:
    assert [array.shape for array in ours] == [array.shape for array in theirs]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("limit", [64, 23, 6])
def test_every_piece_has_the_vector_of_its_window(limit: int, engine: Engine) -> None:
    """What a window gives, computed by hand."""
    tokenizer = PieceTokenizer(engine.model.vocabulary)
    lines = [*LONG, *(" ".join(random_words(Random(n), 80)) for n in range(20))]
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
        assert_same([array], [expected], 2e-5)


def test_what_fits_is_as_it_was(engine: Engine) -> None:
    short = [" ".join(random_words(Random(n), 1 + n % 20)) for n in range(50)]
    mixed = [line for pair in zip(short, LONG * 9, strict=False) for line in pair]
    with LocalEncoder(engine) as encoder:
        alone = list(embed(short, encoder))
        counts = Tally()
        together = list(embed(mixed, encoder, tally=counts))
    assert all(np.array_equal(a, b) for a, b in zip(together[::2], alone, strict=True))
    assert counts.windowed_sentences == len(short)


@pytest.fixture
def encoders(
    uncased_model: Path, server_32: GenuineServer, server_none: GenuineServer
) -> Iterator[list[tuple[ServingEncoder, LocalEncoder]]]:
    """The genuine server and the engine, with two limits, and the same model."""
    with (
        ServingEncoder(server_32.address) as server_of_32,
        ServingEncoder(server_none.address) as server_of_64,
        open_local(str(uncased_model), cased=False, max_seq_len=32) as engine_of_32,
        open_local(str(uncased_model), cased=False) as engine_of_64,
    ):
        yield [(server_of_32, engine_of_32), (server_of_64, engine_of_64)]


def test_both_encoders_give_the_same(
    encoders: list[tuple[ServingEncoder, LocalEncoder]],
) -> None:
    lines = [
        "hello world",
        *LONG,
        "a b",
        *(" ".join(old_words(n, 90)) for n in range(9)),
    ]
    for server, engine in encoders:
        counts, told = Tally(), Tally()
        served = list(embed(lines, server, tally=counts))
        computed = list(embed(lines, engine, tally=told))
        assert_same(served, computed, 2e-5)
        assert [len(array) for array in served] == [len(line.split()) for line in lines]
        assert counts == told
        assert counts.windowed_sentences >= len(LONG)


def test_ten_thousand_words_a_line(encoders: list[tuple[ServingEncoder, LocalEncoder]]) -> None:
    lines = [" ".join(old_words(n, 10_000)) for n in range(2)]
    for server, engine in encoders:
        served, computed = list(embed(lines, server)), list(embed(lines, engine))
        assert [len(array) for array in served] == [10_000] * 2
        assert_same(served, computed, 2e-5)


def test_characters_that_the_server_does_not_know(server_none: GenuineServer) -> None:
    """It deletes them, and what it makes of their words is known when it has been asked."""
    line = "a b " * 40 + "hank\U0001fac2cs hello " * 3
    counts = Tally()
    with ServingEncoder(server_none.address) as encoder:
        odd, plain = embed([line, line.replace("\U0001fac2", "")], encoder, tally=counts)
    assert_same([odd], [plain], 2e-5)
    assert counts.windowed_sentences == 2


@pytest.mark.parametrize("options", [(), ("-no_special_token",), ("-cased_tokenization",)])
def test_our_server_gives_the_same(options: tuple[str, ...], uncased_model: Path) -> None:
    flags = ("-model_dir", uncased_model, "-pooling_strategy", "NONE", "-show_tokens_to_client")
    cased = "-cased_tokenization" in options
    with (
        OurServer(*flags, "-max_seq_len", "NONE", *options) as server,
        ServingEncoder(server.address) as encoder,
        open_local(str(uncased_model), cased=cased) as engine,
    ):
        assert_same(list(embed(LONG, encoder)), list(embed(LONG, engine)), 2e-5)


def test_pieces_are_learnt_with_few_questions() -> None:
    with StandIn(limit=66) as server, ServingEncoder(server.address) as encoder:
        (array,) = embed(["東京 é " * 5000], encoder)
    assert len(array) == 10_000
    asked = [text for batch in server.requests for text in batch if isinstance(text, str)]
    # The sentence as it stands, and twice what no half window would hold.
    assert sum(len(text.split()) for text in asked) < 3 * 10_000
    assert len(asked) < 4 * 15_000 / 64
    windows = [text for batch in server.requests for text in batch if not isinstance(text, str)]
    assert sum(map(len, windows)) < 2.1 * 15_000
    assert max(map(len, windows)) == 64


def test_a_sentence_that_is_surely_too_long_is_not_sent() -> None:
    with StandIn(config={"max_seq_len": 12}) as server, ServingEncoder(server.address) as encoder:
        assert [len(array) for array in embed(["a " * 11, "b"], encoder)] == [11, 1]
    assert "a " * 10 + "a" not in [text for batch in server.requests for text in batch]


def test_a_server_that_takes_pieces_for_others() -> None:
    with StandIn(limit=12, known=lambda pieces: ["x"] * len(pieces)) as server:
        with ServingEncoder(server.address) as encoder:
            with pytest.raises(ServerError, match="line 2: the server was asked for pieces"):
                list(embed(["a", "a " * 11], encoder))


def test_a_server_that_dies_at_windows() -> None:
    """Their line is told once, though they are several."""

    def die(server: StandIn, frames: object, texts: Sequence[object]) -> list[list[bytes]] | None:
        if len(texts) < 2 or isinstance(texts[0], str):
            return None
        server.stop()
        return []

    with StandIn(limit=12, fault=die) as server:
        with ServingEncoder(server.address, retries=0, timeout=0.3) as encoder:
            with pytest.raises(ServerError, match="is gone; it was last sent line 2: see"):
                list(embed(["a", "a " * 40], encoder))


def test_it_is_told(shared_tiny: Path, run: Command, tmp_path: Path) -> None:
    text, output = tmp_path / "text", tmp_path / "out.pkl"
    text.write_text("a b\n" + "a " * 63 + "\n" + "a " * 62 + "\n")
    done = run("embed", text, "-o", output, "--model", shared_tiny)
    assert done.returncode == 0
    assert done.stderr.endswith(" words/s; 1 sentence in windows\n")
    assert [len(array) for array in load(output)] == [2, 63, 62]
