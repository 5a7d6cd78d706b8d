"""The command with the engine in its own process, and the choice between it and a server."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb import Tally, embed
from bert_tokemb.encoders.local import LocalEncoder, open_local
from bert_tokemb.errors import UsageError
from bert_tokemb.models.engine import Engine
from bert_tokemb.types import Sentence
from support.command import Command, load
from support.memory import MAIN, run_and_measure
from support.models import TINY, minilm_directory, toy_vocabulary, write_hugging_face

WIDTH = TINY["hidden_size"]
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hugging_face(tmp_path_factory.mktemp("model"), TINY, toy_vocabulary(cased=False))


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("Hello World !\n\nhank \u200b\n日本\N{SNOWMAN} a\n")
    return path


# --- The command ------------------------------------------------------------------------------


def test_embed(model: Path, run: Command, text: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    done = run("embed", text, "-o", output, "--model", model, "--strategy", "last")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("4 sentences, 7 words -> ")
    assert done.stderr.endswith("; 1 blank line, 1 unknown word, 1 word without pieces\n")
    arrays = load(output)
    assert [a.shape for a in arrays] == [(3, WIDTH), (0, WIDTH), (2, WIDTH), (2, WIDTH)]
    assert not arrays[2][1].any()
    assert all(array.dtype == np.float32 for array in arrays)


def test_options_of_the_engine(model: Path, run: Command, text: Path, tmp_path: Path) -> None:
    output, more = tmp_path / "out", ("--threads", "1", "--device", "cpu", "--precision", "int8")
    variables = {"BERT_TOKEMB_CACHE": str(tmp_path), "BERT_TOKEMB_LAYERS": "-1,0"}
    assert run("embed", text, "-o", output, "--model", model, *more, env=variables).returncode == 0
    rough = load(output)
    variables["BERT_TOKEMB_MODEL"] = str(model)
    assert run("embed", text, "-o", output, env=variables).returncode == 0
    exact = load(output)
    assert rough[0].shape == exact[0].shape == (3, 2 * WIDTH)
    a, b = (np.concatenate(arrays) for arrays in (rough, exact))
    a, b = a[b.any(axis=1)], b[b.any(axis=1)]
    alike = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert 0.98 < alike.mean() < 0.999999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "-4"], "there is no layer -4: "),
        (["--layers", "3"], "has 3, from -3 or 0 (the first) to -1 or 2 (the last)"),
        (["--layers", "-1,2"], "give each layer once"),
        (["--max-seq-len", "65"], "must be from 3 to the 64 that the model takes, not 65"),
        (["--device", "cuda"], "--device cuda needs onnxruntime-gpu"),
        (["--precision", "fp16"], "--precision fp16 is for GPUs"),
    ],
)
def test_options_that_cannot_be_meant(
    options: list[str], message: str, model: Path, run: Command, text: Path, tmp_path: Path
) -> None:
    done = run("embed", text, "-o", tmp_path / "out", "--model", model, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_too_long_a_line(model: Path, run: Command, text: Path, tmp_path: Path) -> None:
    text.write_text("a b\n" + "a " * 62 + "\n" + "a " * 63 + "\n")
    options = ("embed", text, "-o", tmp_path / "out", "--model", model, "--long-sentences", "error")
    done = run(*options)
    assert done.returncode == 1
    assert done.stderr == (
        "bert-tokemb: error: line 3 (63 words) has 63 pieces, more than the 62 that the "
        "model accepts in addition to [CLS] and [SEP]; split the line, or give --long-sentences "
        "window\n"
    )
    done = run(*options, "--max-seq-len", "10")
    assert "line 2 (62 words) has 62 pieces, more than the 8 that" in done.stderr
    assert done.stderr.endswith("split the line, or give a larger --max-seq-len (up to 64)\n")


def test_no_more_threads(model: Path, text: Path, tmp_path: Path) -> None:
    """A thread needs memory for its stack."""
    script = 'ulimit -s 4000000; ulimit -v 7000000; exec "$@"'
    command = ["sh", "-c", script, "-", sys.executable, "-m", "bert_tokemb", "embed", text]
    text.write_text("".join("a " * n + "\n" for n in range(1, 30)))
    done = subprocess.run(
        [*command, "-o", tmp_path / "out", "--model", model, "--threads", "8"],
        capture_output=True,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.returncode == 4, done.stderr
    # Before it, tqdm warns that it cannot start a thread of its own.
    assert done.stderr.splitlines()[-1].startswith(
        "bert-tokemb: error: the system does not allow another thread"
    )
    assert "Traceback" not in done.stderr


# --- What the encoder promises ----------------------------------------------------------------

WORDS = ["hank", "plays", "zz", "unaffable", "the", "!"]
LINES = [" ".join(WORDS[: 1 + i % 6] * (1 + i % 5)) for i in range(300)]


def test_exact_vectors_do_not_depend_on_the_other_sentences(model: Path) -> None:
    """Nor on threads, or on how far the text is read ahead: not in a single bit."""
    with open_local(str(model), threads=3) as several, open_local(str(model), threads=1) as one:
        together = list(embed(LINES, several, "avg"))
        for others in (
            [next(embed([line], one, "avg")) for line in LINES],
            list(embed(LINES[::-1], one, "avg", look_ahead=10_000))[::-1],
        ):
            for a, b in zip(together, others, strict=True):
                np.testing.assert_array_equal(a, b)


def test_no_batch_is_padded_on_a_processor(model: Path) -> None:
    with open_local(str(model), threads=1, device="cpu") as encoder:
        engine, masks = encoder._engine, []

        def run(ids: np.ndarray, types: np.ndarray, mask: np.ndarray) -> np.ndarray:
            masks.append(mask)
            return Engine.run(engine, ids, types, mask)

        engine.run = run  # type: ignore[method-assign]
        list(embed(LINES, encoder))
    assert all(mask.all() for mask in masks)
    assert 1 < len(masks) < len(LINES) / 2  # and yet there are batches


def test_batches_may_be_padded(model: Path) -> None:
    """On a GPU they are; here too the mask must hide the padding."""
    with open_local(str(model)) as encoder:
        alone = [next(embed([line], encoder, "avg")) for line in LINES[:40]]
        prepared = [encoder.prepare(Sentence(i, line.split())) for i, line in enumerate(LINES[:40])]
        assert len({one.length for one in prepared}) > 10
        (encoded,) = encoder.encode([prepared])
    rows = iter(zip(encoded.starts, encoded.counts, strict=True))
    for array in alone:
        for vector in array:
            start, count = next(rows)
            mean = encoded.vectors[start : start + count].mean(axis=0)
            np.testing.assert_allclose(mean, vector, rtol=0, atol=1e-5)


def test_results_come_in_order_and_few_are_drawn_ahead(model: Path) -> None:
    drawn = 0

    def batches(encoder: LocalEncoder) -> Iterator[list]:
        nonlocal drawn
        for i in range(200):
            drawn += 1
            yield [encoder.prepare(Sentence(i, ["a"] * (1 + i % 50)))]

    with open_local(str(model), threads=2) as encoder:
        for i, encoded in enumerate(encoder.encode(batches(encoder))):
            assert [sentence.line for sentence in encoded.sentences] == [i]
            assert drawn - i <= 2 * 2 + 9
    assert drawn == 200


def test_what_was_computed_is_not_kept(model: Path) -> None:
    """Also what the vectors are a view of, if they are one."""
    computed: list[weakref.ref[np.ndarray]] = []
    with open_local(str(model), threads=2) as encoder:
        engine = encoder._engine

        def run(*arrays: np.ndarray) -> np.ndarray:
            vectors = Engine.run(engine, *arrays)
            computed.append(weakref.ref(vectors))
            return vectors

        engine.run = run  # type: ignore[method-assign]
        batches = ([encoder.prepare(Sentence(i, ["a"]))] for i in range(200))
        for _ in encoder.encode(batches):
            assert sum(one() is not None for one in list(computed)) <= 2 * 2 + 12
    assert len(computed) == 200


def test_windows_that_were_joined_are_not_kept(model: Path) -> None:
    computed: list[weakref.ref[np.ndarray]] = []
    most = 0
    with open_local(str(model), threads=1, max_seq_len=8) as encoder:
        engine = encoder._engine

        def run(*arrays: np.ndarray) -> np.ndarray:
            nonlocal most
            vectors = Engine.run(engine, *arrays)
            computed.append(weakref.ref(vectors))
            most = max(most, sum(one() is not None for one in computed))
            return vectors

        engine.run = run  # type: ignore[method-assign]
        list(encoder.encode([[encoder.prepare(Sentence(1, ["a"] * 20_000))]]))
    assert len(computed) > 50
    assert most < len(computed) / 2


def test_an_encoder_that_is_left_early_stops(model: Path) -> None:
    """What waits for the thread is forgotten; only the batch that is being computed is finished."""
    with open_local(str(model), threads=1) as encoder:
        engine = encoder._engine
        go, calls = threading.Event(), 0

        def run(*arrays: np.ndarray) -> np.ndarray:
            nonlocal calls
            calls += 1
            assert calls == 1 or go.wait(60)
            return Engine.run(engine, *arrays)

        engine.run = run  # type: ignore[method-assign]
        results = encoder.encode([encoder.prepare(Sentence(i, ["a"]))] for i in range(100))
        next(results)
        deadline = time.monotonic() + 60
        while calls < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        results.close()
        go.set()
        encoder._pool.submit(int).result()  # whatever waited is through now
    assert calls == 2


def test_counts_are_those_of_the_text(model: Path) -> None:
    counts = Tally()
    with open_local(str(model)) as encoder:
        list(embed(["hello \N{SNOWMAN}", "", "\u200b"], encoder, tally=counts))
    assert counts == Tally(3, 3, 3, 1, unknown_words=1, empty_words=1)


def test_limits_of_a_sentence(model: Path) -> None:
    with pytest.raises(UsageError, match="must be from 3 to the 64"):
        open_local(str(model), max_seq_len=65)
    with open_local(str(model), max_seq_len=3) as encoder:
        assert next(embed(["a"], encoder)).shape == (1, WIDTH)


# --- Memory -----------------------------------------------------------------------------------


def test_memory_is_bounded_by_the_weights(tmp_path: Path) -> None:
    """Twice the weights and 400 MB, with a real model, and lines of all lengths."""
    text = tmp_path / "text"
    words = (Path(__file__).parents[2] / "LICENSE").read_text("ascii").split()
    with text.open("w") as file:
        for n in (300, 3, 17, 40, 120):
            for i in range(0, len(words) - n, 4 * n):
                file.write(" ".join(words[i : i + n]) + "\n")
    weights = (minilm_directory() / "model.safetensors").stat().st_size
    for precision, most in (("fp32", 2 * weights + 400e6), ("int8", 3.5 * weights + 300e6)):
        options = ["embed", text, "-o", os.devnull, "--quiet", "--precision", precision]
        env = os.environ | {"BERT_TOKEMB_CACHE": str(tmp_path)}
        peak = 1024 * run_and_measure(MAIN, *options, env=env)[1]
        assert peak < most
        print(f"{precision}: {peak / 1e6:.0f} MB, {most / 1e6:.0f} MB allowed")
