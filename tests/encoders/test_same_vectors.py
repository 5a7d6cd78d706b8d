"""The engine gives what the genuine bert-serving-server gives for the same checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest

from bert_tokemb import ServingEncoder, embed
from bert_tokemb.encoders.local import open_local
from bert_tokemb.types import Encoder
from support.cases import CASES
from support.genuine import NONE, GenuineServer, known_to_the_server, make_model
from support.models import TINY, minilm_directory, toy_vocabulary
from support.texts import random_words

TOLERANCE = 1e-4
FOUR = ("-pooling_layer", "-4", "-3", "-2", "-1")
STRATEGIES = ("avg", "last", "first", "max")


class Pair(NamedTuple):
    """A checkpoint, and the four last layers that the genuine server computes of it."""

    model: Path
    server: GenuineServer
    cased: bool


@pytest.fixture(scope="module", params=[False, True], ids=["uncased", "cased"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    cased = request.param
    config = TINY | {"num_hidden_layers": 5}
    model = make_model(tmp_path_factory.mktemp("five"), config, toy_vocabulary(cased=cased))
    options = ["-model_dir", model, *NONE, "-max_seq_len", "NONE", *FOUR]
    with GenuineServer(*options, *(["-cased_tokenization"] * cased)) as server:
        yield Pair(model, server, cased)


def odd_text(cased: bool) -> list[str]:
    """Every case that the server knows as we do, and words of any characters at all."""
    lines = [" ".join(case.words) for case in CASES if case.cased == cased and not case.newer]
    assert len(lines) > 5
    words = known_to_the_server(random_words(Random(11), 3000))
    assert len(words) > 1500
    # No longer than what the tiny model takes, and of many lengths.
    lines += [" ".join(words[i : i + 3 + i % 6]) for i in range(0, len(words), 8)]
    return [*lines, "", "hello " * 60, "a"]


def arrays_of(encoder: Encoder, lines: list[str], strategy: str) -> list[np.ndarray]:
    return list(embed(lines, encoder, strategy))


def worst(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    assert [array.shape for array in ours] == [array.shape for array in theirs]
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(ours, theirs, strict=True))


def test_the_four_last_layers(pair: Pair) -> None:
    lines = odd_text(pair.cased)
    options = {"cased": pair.cased, "threads": 2}
    with (
        ServingEncoder(pair.server.address) as server,
        open_local(str(pair.model), layers=[-4, -3, -2, -1], **options) as engine,
    ):
        for strategy in STRATEGIES:
            theirs = arrays_of(server, lines, strategy)
            ours = arrays_of(engine, lines, strategy)
            assert [len(a) for a in ours] == [len(line.split()) for line in lines]
            assert worst(ours, theirs) <= TOLERANCE
        # Each of them, by itself and elsewhere than in its place, is the same.
        for layers, columns in (((-1,), [3]), ((-2,), [2]), ((1,), [0]), ((-1, -3), [3, 1])):
            with open_local(str(pair.model), layers=layers, **options) as other:
                ours = arrays_of(other, lines, "max")
            kept = [np.hstack([np.hsplit(array, 4)[i] for i in columns]) for array in theirs]
            assert worst(ours, kept) <= TOLERANCE


def test_unknown_words_and_words_without_pieces_are_the_same(pair: Pair) -> None:
    from bert_tokemb import Tally

    lines = odd_text(pair.cased)
    counted = [Tally(), Tally()]
    with (
        ServingEncoder(pair.server.address) as server,
        open_local(str(pair.model), cased=pair.cased) as engine,
    ):
        for encoder, counts in zip((server, engine), counted, strict=True):
            list(embed(lines, encoder, "first", tally=counts))
    assert counted[0] == counted[1]
    assert counted[0].unknown_words > 100
    assert counted[0].empty_words > 10


REAL_TEXT = [
    "Hello World !",
    "I'm hankcs",
    "Les élèves français étudient à l'école .",
    "自然 言語 処理 は 楽しい 。",
    "Ἐν ἀρχῇ ἦν ὁ λόγος , καὶ ὁ λόγος ἦν πρὸς τὸν θεόν",
    "Москва — столица России",
    "https://example.org/a?b=c don't e-mail me @ 10:30 , o.k. ?",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "the " * 120,
    "| ||| |||| [SEP] [CLS] [UNK] [MASK] ##ing",
]


def test_a_real_model(real_model: Path) -> None:
    """Out of the checkpoint that TensorFlow wrote, and out of its safetensors."""
    license_text = (Path(__file__).parents[2] / "LICENSE").read_text("ascii")
    lines = [*REAL_TEXT, *license_text.splitlines()]
    options = ("-model_dir", real_model, *NONE, "-max_seq_len", "NONE", *FOUR)
    with GenuineServer(*options) as server, ServingEncoder(server.address) as encoder:
        theirs = {strategy: arrays_of(encoder, lines, strategy) for strategy in STRATEGIES}
    for model in (real_model, minilm_directory()):
        with open_local(str(model), layers=[-4, -3, -2, -1]) as engine:
            for strategy, expected in theirs.items():
                assert worst(arrays_of(engine, lines, strategy), expected) <= TOLERANCE
        with open_local(str(model)) as engine:
            middle = [np.hsplit(array, 4)[2] for array in theirs["avg"]]
            assert worst(arrays_of(engine, lines, "avg"), middle) <= TOLERANCE
