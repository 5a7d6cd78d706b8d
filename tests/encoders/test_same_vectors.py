"""The engine returns the vectors of the genuine bert-serving-server for the same checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import pytest

from bert_tokemb import LocalEncoder, ServerEncoder, Tally, embed, open_local
from bert_tokemb.serve.settings import Settings
from bert_tokemb.types import Encoder
from support.cases import CASES
from support.genuine import NONE, GenuineServer, known_to_the_server, make_model
from support.models import TINY, minilm_directory, toy_vocabulary, write_hugging_face
from support.ours import serving
from support.recording import SCENARIOS, Recording
from support.texts import random_words
from support.tiny import start

STRATEGIES = ("avg", "last", "first", "max")


def arrays_of(encoder: Encoder, lines: list[str], strategy: str) -> list[np.ndarray]:
    return list(embed(lines, encoder, strategy))


def largest_difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    assert [array.shape for array in ours] == [array.shape for array in theirs]
    return max(float(np.abs(a - b).max(initial=0)) for a, b in zip(ours, theirs, strict=True))


# --- Fast: recorded replies, and a model with the same weights --------------------------------


@pytest.mark.parametrize("name", ["uncased", "cased", "layers"])
def test_engine_equals_the_recorded_server(name: str, tmp_path: Path) -> None:
    newer = {" ".join(case.words) for case in CASES if case.newer}
    lines = [line for line in SCENARIOS[name].lines if line not in newer]
    vocabulary = toy_vocabulary(cased=SCENARIOS[name].cased)
    settings = {"do_lower_case": not SCENARIOS[name].cased}
    model = write_hugging_face(tmp_path / "model", TINY, vocabulary, settings=settings)
    found = Recording.load(name)
    with (
        found.server() as server,
        ServerEncoder(server.address) as server_encoder,
        LocalEncoder(start(model, found.config["pooling_layer"])) as local_encoder,
    ):
        for strategy in STRATEGIES:
            theirs = arrays_of(server_encoder, lines, strategy)
            ours = arrays_of(local_encoder, lines, strategy)
            assert largest_difference(ours, theirs) <= 2e-5


def test_our_server_equals_the_engine_with_other_special_tokens(tmp_path: Path) -> None:
    """The special tokens of MPNet, also around the windows of a long sentence."""
    pieces = ["<s>", "<pad>", "</s>", *toy_vocabulary(cased=False)]
    special = {"cls_token": "<s>", "sep_token": "</s>"}
    model = write_hugging_face(tmp_path / "model", TINY, pieces, settings=special)
    engine = start(model, (-2,))
    lines = ["hello hank !", "", "the cafe </s> [SEP] \N{SNOWMAN}", "hello playing " * 60]
    with (
        serving(engine, Settings(show_tokens_to_client=True)) as address,
        ServerEncoder(address) as server,
        LocalEncoder(engine) as local,
    ):
        theirs = arrays_of(server, lines, "avg")
        assert largest_difference(arrays_of(local, lines, "avg"), theirs) <= 2e-5


# --- Slow: genuine servers, five layers and a real model --------------------------------------

TOLERANCE = 1e-4
FOUR = ("-pooling_layer", "-4", "-3", "-2", "-1")
slow = pytest.mark.slow
genuine = pytest.mark.xdist_group("genuine")


class Pair(NamedTuple):
    """A checkpoint, and the genuine server that returns its last four layers."""

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
    """Return every case that the server treats as we do, and words of any characters."""
    lines = [" ".join(case.words) for case in CASES if case.cased == cased and not case.newer]
    assert len(lines) > 5
    words = known_to_the_server(random_words(Random(11), 3000))
    assert len(words) > 1500
    # Of many lengths, but not too long for the tiny model.
    lines += [" ".join(words[i : i + 3 + i % 6]) for i in range(0, len(words), 8)]
    return [*lines, "", "hello " * 60, "a"]


@slow
@genuine
def test_last_four_layers_equal_those_of_the_server(pair: Pair) -> None:
    lines = odd_text(pair.cased)
    options = {"cased": pair.cased, "threads": 2}
    with (
        ServerEncoder(pair.server.address) as server,
        open_local(str(pair.model), layers=[-4, -3, -2, -1], **options) as engine,
    ):
        for strategy in STRATEGIES:
            theirs = arrays_of(server, lines, strategy)
            ours = arrays_of(engine, lines, strategy)
            assert [len(a) for a in ours] == [len(line.split()) for line in lines]
            assert largest_difference(ours, theirs) <= TOLERANCE
        # A layer is the same when it is computed alone, or in another order.
        for layers, columns in (((-1,), [3]), ((-2,), [2]), ((1,), [0]), ((-1, -3), [3, 1])):
            with open_local(str(pair.model), layers=layers, **options) as other:
                ours = arrays_of(other, lines, "max")
            kept = [np.hstack([np.hsplit(array, 4)[i] for i in columns]) for array in theirs]
            assert largest_difference(ours, kept) <= TOLERANCE


@slow
@genuine
def test_unknown_and_empty_words_are_counted_alike(pair: Pair) -> None:
    lines = odd_text(pair.cased)
    tallies = [Tally(), Tally()]
    with (
        ServerEncoder(pair.server.address) as server,
        open_local(str(pair.model), cased=pair.cased) as engine,
    ):
        for encoder, tally in zip((server, engine), tallies, strict=True):
            list(embed(lines, encoder, "first", tally=tally))
    assert tallies[0] == tallies[1]
    assert tallies[0].unknown_words > 100
    assert tallies[0].empty_words > 10


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


@slow
@genuine
def test_vectors_of_a_real_model_equal_those_of_the_server(real_model: Path) -> None:
    """The model is loaded from its TensorFlow checkpoint and from its safetensors file."""
    license_text = (Path(__file__).parents[2] / "LICENSE").read_text("ascii")
    lines = [*REAL_TEXT, *license_text.splitlines()]
    options = ("-model_dir", real_model, *NONE, "-max_seq_len", "NONE", *FOUR)
    with GenuineServer(*options) as server, ServerEncoder(server.address) as encoder:
        theirs = {strategy: arrays_of(encoder, lines, strategy) for strategy in STRATEGIES}
    for model in (real_model, minilm_directory()):
        with open_local(str(model), layers=[-4, -3, -2, -1]) as engine:
            for strategy, expected in theirs.items():
                assert largest_difference(arrays_of(engine, lines, strategy), expected) <= TOLERANCE
        with open_local(str(model)) as engine:
            middle = [np.hsplit(array, 4)[2] for array in theirs["avg"]]
            assert largest_difference(arrays_of(engine, lines, "avg"), middle) <= TOLERANCE
