"""The local encoder: batches, threads, windows, memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb import LocalEncoder, Tally, embed, open_local
from bert_tokemb.errors import LongSentenceError, UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.types import Sentence
from support.memory import MAIN, run_and_measure
from support.models import TINY, minilm_directory
from support.tiny import start

WIDTH = TINY["hidden_size"]

WORDS = ["hank", "plays", "zz", "unaffable", "the", "!"]
LINES = [" ".join(WORDS[: 1 + i % 6] * (1 + i % 5)) for i in range(300)]


class Spy:
    """An engine that calls a function with the arguments and the result of each run."""

    def __init__(self, engine: Engine, observe: Callable[..., object]) -> None:
        self._engine = engine
        self._observe = observe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> np.ndarray:
        vectors = self._engine.run(ids, types, mask)
        self._observe(mask, vectors)
        return vectors


def spying(model: Path, observe: Callable[..., object], **options: Any) -> LocalEncoder:
    threads = options.pop("threads", 1)
    engine = start(model, (-2,), threads=threads, device="cpu")
    return LocalEncoder(Spy(engine, observe), **options)


def test_vectors_do_not_depend_on_other_sentences(shared_tiny: Path) -> None:
    """Vectors are equal bit for bit with any number of threads and any look-ahead."""
    model = str(shared_tiny)
    with open_local(model, threads=3) as several, open_local(model, threads=1) as single:
        together = list(embed(LINES, several, "avg"))
        for others in (
            [next(embed([line], single, "avg")) for line in LINES],
            list(embed(LINES[::-1], single, "avg", look_ahead=10_000))[::-1],
        ):
            for a, b in zip(together, others, strict=True):
                np.testing.assert_array_equal(a, b)


def test_batches_are_not_padded_on_a_cpu(shared_tiny: Path) -> None:
    masks: list[np.ndarray] = []
    with spying(shared_tiny, lambda mask, vectors: masks.append(mask)) as encoder:
        list(embed(LINES, encoder))
    assert all(mask.all() for mask in masks)
    assert 1 < len(masks) < len(LINES) / 2  # several sentences to a batch nevertheless


def test_padding_does_not_change_vectors(shared_tiny: Path) -> None:
    """Batches for GPUs are padded."""
    with open_local(str(shared_tiny)) as encoder:
        alone = [next(embed([line], encoder, "avg")) for line in LINES[:40]]
        prepared = [encoder.prepare(Sentence(i, line.split())) for i, line in enumerate(LINES[:40])]
        assert len({one.length for one in prepared}) > 10
        (encoded,) = encoder.encode([prepared])
    rows = iter(zip(encoded.starts, encoded.counts, strict=True))
    for array in alone:
        for vector in array:
            first, count = next(rows)
            mean = encoded.vectors[first : first + count].mean(axis=0)
            np.testing.assert_allclose(mean, vector, rtol=0, atol=1e-5)


def test_results_are_in_order_and_few_batches_are_drawn_ahead(shared_tiny: Path) -> None:
    drawn = 0

    def batches(encoder: LocalEncoder) -> Iterator[list]:
        nonlocal drawn
        for i in range(200):
            drawn += 1
            yield [encoder.prepare(Sentence(i, ["a"] * (1 + i % 50)))]

    with open_local(str(shared_tiny), threads=2) as encoder:
        for i, encoded in enumerate(encoder.encode(batches(encoder))):
            assert [sentence.line for sentence in encoded.sentences] == [i]
            assert drawn - i <= 2 * 2 + 9
    assert drawn == 200


def test_results_are_not_kept(shared_tiny: Path) -> None:
    """Neither the results nor the arrays that they are views of are kept."""
    computed: list[weakref.ref[np.ndarray]] = []

    def observe(mask: np.ndarray, vectors: np.ndarray) -> None:
        computed.append(weakref.ref(vectors))

    with spying(shared_tiny, observe, threads=2) as encoder:
        batches = ([encoder.prepare(Sentence(i, ["a"]))] for i in range(200))
        for _ in encoder.encode(batches):
            assert sum(one() is not None for one in list(computed)) <= 2 * 2 + 12
    assert len(computed) == 200


def test_windows_are_not_kept_after_joining(shared_tiny: Path) -> None:
    computed: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    def observe(mask: np.ndarray, vectors: np.ndarray) -> None:
        computed.append(weakref.ref(vectors))
        alive.append(sum(one() is not None for one in computed))

    with spying(shared_tiny, observe, max_seq_len=8) as encoder:
        list(encoder.encode([[encoder.prepare(Sentence(1, ["a"] * 20_000))]]))
    assert len(computed) > 50
    assert max(alive) < len(computed) / 2


def test_closed_generator_cancels_waiting_batches(shared_tiny: Path) -> None:
    """Only the batch that is being computed is finished."""
    released, second = threading.Event(), threading.Event()
    calls = 0

    def observe(mask: np.ndarray, vectors: np.ndarray) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            second.set()
            assert released.wait(60)

    with spying(shared_tiny, observe) as encoder:
        batches = [[encoder.prepare(Sentence(i, ["a"]))] for i in range(100)]
        results = encoder.encode(batches)
        next(results)
        assert second.wait(60)
        results.close()
        released.set()
        list(encoder.encode(batches[:1]))  # computed after all that waits
    assert calls == 3


def test_tally_counts_unknown_and_empty_words(shared_tiny: Path) -> None:
    tally = Tally()
    with open_local(str(shared_tiny)) as encoder:
        list(embed(["hello \N{SNOWMAN}", "", "\u200b"], encoder, tally=tally))
    assert (tally.lines, tally.sentences, tally.words, tally.blank_lines) == (3, 3, 3, 1)
    assert (tally.unknown_words, tally.empty_words) == (1, 1)


def test_pieces_are_listed_for_each_word(shared_tiny: Path) -> None:
    with open_local(str(shared_tiny)) as encoder:
        sentence = Sentence(1, ["Hankcs", "\u200b", "\N{SNOWMAN}", "don't"])
        assert encoder.pieces(sentence) == [
            ["hank", "##cs"],
            [],
            ["[UNK]"],
            ["d", "##o", "##n", "'", "t"],
        ]


def test_settings_and_fingerprint_identify_the_model(shared_tiny: Path) -> None:
    with open_local(str(shared_tiny), threads=1) as encoder:
        assert encoder.source == {"model": str(shared_tiny), "model_from": str(shared_tiny)}
        assert encoder.settings == {
            "encoder": "local",
            "layers": [-2],
            "max_seq_len": 64,
            "device": "cpu",
            "precision": "fp32",
            "do_lower_case": True,
            "strip_accents": True,
        }
        fingerprint = encoder.fingerprint()
        assert fingerprint == encoder.fingerprint()
        assert fingerprint.keys() == {"vocabulary", "weights", "vectors"}
        assert 16 <= len(fingerprint["vectors"]) < 32
        assert str(encoder) == (f"{shared_tiny} (from {shared_tiny}), layer -2, fp32, 1 thread")
    with open_local(str(shared_tiny), layers=[-1]) as other:
        assert other.fingerprint()["vectors"] != fingerprint["vectors"]
        assert other.fingerprint()["vocabulary"] == fingerprint["vocabulary"]


def test_max_seq_len_outside_the_limits_is_refused(shared_tiny: Path) -> None:
    for max_seq_len in (2, 65):
        with pytest.raises(UsageError, match=f"must be from 3 to 64, .* not {max_seq_len}"):
            open_local(str(shared_tiny), max_seq_len=max_seq_len)
    with open_local(str(shared_tiny), max_seq_len=3) as encoder:
        assert next(embed(["a"], encoder)).shape == (1, WIDTH)


@pytest.mark.parametrize(("max_seq_len", "limit_of"), [(None, "model"), (10, "max_seq_len")])
def test_long_sentence_is_refused(
    max_seq_len: int | None, limit_of: str, shared_tiny: Path
) -> None:
    limit = (max_seq_len or 64) - 2
    options = {"max_seq_len": max_seq_len, "long_sentences": "error"}
    with open_local(str(shared_tiny), **options) as encoder:
        assert encoder.prepare(Sentence(2, ["a"] * limit)).length == limit + 2
        with pytest.raises(LongSentenceError) as caught:
            encoder.prepare(Sentence(3, ["a"] * (limit + 1)))
    error = caught.value
    assert (error.line, error.words, error.pieces) == (3, limit + 1, limit + 1)
    assert (error.limit, error.limit_of, error.model_limit) == (limit, limit_of, 64)


def test_layers_must_be_distinct(shared_tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"give each layer once, not \[-1, 2\]"):
        open_local(str(shared_tiny), layers=[-1, 2])


@pytest.mark.slow
def test_memory_is_bounded_by_the_weights(tmp_path: Path) -> None:
    """The peak of a real model is bounded for both precisions, with lines of all lengths."""
    text = tmp_path / "text"
    words = (Path(__file__).parents[2] / "LICENSE").read_text("ascii").split()
    with text.open("w") as file:
        for n in (300, 3, 17, 40, 120):
            for i in range(0, len(words) - n, 4 * n):
                file.write(" ".join(words[i : i + n]) + "\n")
    weights = (minilm_directory() / "model.safetensors").stat().st_size
    for precision, most in (("fp32", 2 * weights + 400e6), ("int8", 3.5 * weights + 300e6)):
        options = ["embed", text, "-o", os.devnull, "--quiet", "--precision", precision]
        peak = 1024 * run_and_measure(MAIN, *options)[1]
        assert peak < most
