"""The engine: all layouts give the same vectors, and they are those of NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tokemb.models import engine as engine_module
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.loading import load_model
from support.checkpoints import write_google
from support.models import (
    TINY,
    join_safetensors,
    minilm_config,
    minilm_directory,
    minilm_vocabulary,
    minilm_weights,
    random_weights,
    split_safetensors,
    tokenizer_json,
    write_hugging_face,
    write_safetensors,
)
from support.numpy_bert import hidden_layers
from support.tiny import PIECES, VOCABULARY, WEIGHTS, refusal, run, some_ids, start, write_tiny

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

# --- Every layout gives the same vectors ------------------------------------------------------

LAYOUTS: dict[str, Json] = {
    "with a prefix": {"prefix": "bert."},
    "gamma and beta": {"gamma_beta": True},
    "gamma, beta and a prefix": {"prefix": "bert.", "gamma_beta": True},
    "two shards": {"shards": 2},
    "many shards with a prefix": {"shards": 7, "prefix": "bert."},
    "tokenizer.json": {"tokenizer": tokenizer_json(VOCABULARY)},
    "settings": {"settings": {"do_lower_case": True}},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, shared_tiny: Path, tmp_path: Path) -> None:
    expected = run(start(shared_tiny), some_ids())
    vectors = run(start(write_tiny(tmp_path / "other", **LAYOUTS[name])), some_ids())
    np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("dtype", "rounded"), [("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
def test_half_precision(dtype: str, rounded: Any, shards: int, tmp_path: Path) -> None:
    """Bit by bit what the rounded weights give."""
    weights = {name: w.astype(rounded).astype(np.float32) for name, w in WEIGHTS.items()}
    exact = write_hugging_face(tmp_path / "exact", TINY, VOCABULARY, weights)
    half = write_tiny(tmp_path / "half", dtype=dtype, shards=shards)
    np.testing.assert_array_equal(run(start(half), some_ids()), run(start(exact), some_ids()))


@pytest.mark.parametrize("name", ["bert_model.ckpt", "model.ckpt-1000"])
def test_a_release_of_google(name: str, shared_tiny: Path, tmp_path: Path) -> None:
    google = start(write_google(tmp_path / "google", name=name), cased=False)
    np.testing.assert_allclose(
        run(google, some_ids()), run(start(shared_tiny), some_ids()), rtol=0, atol=1e-6
    )
    assert google.model.vocabulary.ids == start(shared_tiny).model.vocabulary.ids


def test_several_checkpoints_of_which_one_is_released(tmp_path: Path) -> None:
    directory = write_google(tmp_path / "google")
    for i in range(20):
        (directory / f"model.ckpt-{i}.index").touch()
    start(directory, cased=False)


def test_what_is_no_part_of_a_bert_is_passed_over(shared_tiny: Path, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", prefix="bert.")
    more = {f"bert.{name}": value for name, value in WEIGHTS.items()}
    more["cls.predictions.transform.LayerNorm.weight"] = np.full(32, np.nan)
    more["cls.seq_relationship.weight"] = np.zeros((2, 32))
    more["bert.embeddings.position_ids"] = np.zeros((1, 64))
    write_safetensors(directory / "model.safetensors", more)
    np.testing.assert_array_equal(
        run(start(directory), some_ids()), run(start(shared_tiny), some_ids())
    )


def test_position_ids_are_whole_numbers(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    path = directory / "model.safetensors"
    header, data = split_safetensors(path)
    header["embeddings.position_ids"] = {
        "dtype": "I64",
        "shape": [1, 2],
        "data_offsets": [len(data), len(data) + 16],
    }
    path.write_bytes(join_safetensors(header, data + bytes(16)))
    start(directory)


def test_what_a_model_tells(shared_tiny: Path) -> None:
    model = load_model(str(shared_tiny))
    assert model.name == model.origin == str(shared_tiny)
    assert (model.config.width, model.config.positions, model.config.epsilon) == (32, 64, 1e-12)
    assert len(model.vocabulary.ids) == PIECES


# --- What is computed, beside NumPy -----------------------------------------------------------

TOLERANCE = 1e-5


def compare(
    config: Mapping[str, Any], directory: Path, layers: Sequence[int], *feeds: Array
) -> None:
    weights = random_weights(config, PIECES)
    model = write_hugging_face(directory, config, VOCABULARY, weights)
    vectors = run(start(model, layers), *feeds)
    expected = hidden_layers(weights, config, *feeds)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors, np.concatenate([expected[i] for i in layers], -1), rtol=0, atol=TOLERANCE
    )


def some_feeds(b: int, t: int) -> tuple[Array, Array, Array]:
    """Return ids, both token types, and a mask that hides any piece but one of each sentence."""
    drawing = np.random.default_rng(b + 100 * t)
    types, mask = drawing.integers(0, 2, (2, b, t)).astype(np.int32)
    mask[np.arange(b), drawing.integers(0, t, b)] = 1
    return some_ids(b, t), types, mask


@pytest.mark.parametrize("layers", [(-1,), (-2,), (0,), (0, -1), (-1, 0), (1, 2, 0), (2, 0)])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_layers_and_activations(activation: str, layers: Sequence[int], tmp_path: Path) -> None:
    compare({**TINY, "hidden_act": activation}, tmp_path / "model", layers, *some_feeds(3, 17))


CONFIGS: dict[str, Json] = {
    "one layer": {"num_hidden_layers": 1},
    "one head": {"num_attention_heads": 1},
    "as many heads as numbers": {"num_attention_heads": 32},
    "narrow": {"intermediate_size": 7},
    "as wide inside as outside": {"intermediate_size": 32},
    "wide": {"hidden_size": 60, "num_attention_heads": 3},
    "a large epsilon": {"layer_norm_eps": 0.5},
    "a whole epsilon": {"layer_norm_eps": 1},
    "no epsilon": {"layer_norm_eps": 0},
    "many types": {"type_vocab_size": 5},
    "exactly as long": {"max_position_embeddings": 17},
    "many layers": {"num_hidden_layers": 12},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations(name: str, tmp_path: Path) -> None:
    config = {**TINY, **CONFIGS[name]}
    layers = range(config["num_hidden_layers"])
    compare(config, tmp_path / "model", layers, *some_feeds(3, 17))


def test_one_token_type(tmp_path: Path) -> None:
    ids, _, mask = some_feeds(2, 9)
    compare({**TINY, "type_vocab_size": 1}, tmp_path / "model", (0,), ids, np.zeros_like(ids), mask)


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 64))
def test_shapes_of_batches(engine: Engine, b: int, t: int) -> None:
    feeds = some_feeds(b, t)
    expected = np.concatenate(hidden_layers(WEIGHTS, TINY, *feeds), -1)
    np.testing.assert_allclose(run(engine, *feeds), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("hidden", [0, -1, 5])
def test_a_piece_that_is_hidden_does_not_matter(hidden: int, engine: Engine) -> None:
    ids = some_ids()
    mask = np.ones_like(ids)
    mask[:, hidden] = 0
    others = ids.copy()
    others[:, hidden] = (others[:, hidden] + 1) % PIECES
    a, b = run(engine, ids, mask=mask), run(engine, others, mask=mask)
    kept = mask[0] == 1
    np.testing.assert_array_equal(a[:, kept], b[:, kept])
    assert np.abs(a[:, ~kept] - b[:, ~kept]).max() > 0.01
    assert np.abs(run(engine, ids)[:, kept] - a[:, kept]).max() > 1e-4


def test_padded_and_alone(engine: Engine) -> None:
    ids, lengths = some_ids(5, 30), (30, 1, 2, 17, 29)
    mask = (np.arange(30) < np.array(lengths)[:, None]).astype(np.int32)
    together = run(engine, ids, mask=mask)
    for row, length in enumerate(lengths):
        alone = run(engine, ids[row : row + 1, :length])
        np.testing.assert_allclose(together[row, :length], alone[0], rtol=0, atol=TOLERANCE)


def test_large_biases(tmp_path: Path) -> None:
    """They are moved about before anything is computed, and must not be lost on the way."""
    weights = {
        name: value * 20 if name.endswith("bias") and "LayerNorm" not in name else value
        for name, value in WEIGHTS.items()
    }
    directory = write_hugging_face(tmp_path / "model", TINY, VOCABULARY, weights)
    feeds = some_feeds(3, 17)
    expected = np.concatenate(hidden_layers(weights, TINY, *feeds), -1)
    vectors = run(start(directory, (0, 1, 2)), *feeds)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=5 * TOLERANCE)


def test_threads_do_not_meet(engine: Engine) -> None:
    batches = [some_ids(b, t) for b in (1, 4) for t in (1, 9, 33)] * 5
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda ids: run(engine, ids), batches))
    for ids, vectors in zip(batches, several, strict=True):
        np.testing.assert_array_equal(vectors, run(engine, ids))


def alike(a: Array, b: Array) -> Array:
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("bits", [7, 8])
def test_whole_numbers_are_close(
    bits: int, shared_tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "exact_bits", lambda: bits)
    for layers in ((-2,), (0, -1)):
        feeds = some_feeds(4, 20)
        exact = run(start(shared_tiny, layers), *feeds)
        quick = run(start(shared_tiny, layers, precision="int8"), *feeds)
        assert quick.dtype == np.float32
        assert quick.shape == exact.shape
        assert alike(quick, exact).min() > 0.98
        assert not np.array_equal(quick, exact)


def test_a_real_model() -> None:
    pieces = "[CLS] the quick brown fox jumps over the lazy dog . [SEP]"
    ids = np.array([[minilm_vocabulary().index(piece) for piece in pieces.split()]], np.int32)
    exact = run(start(minilm_directory(), (0, -2)), ids)
    feeds = (ids, np.zeros_like(ids), np.ones_like(ids))
    layers = hidden_layers(minilm_weights(), minilm_config(), *feeds)
    expected = np.concatenate([layers[0], layers[-2]], -1)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=TOLERANCE)
    quick = run(start(minilm_directory(), (-2,), precision="int8"), ids)
    assert alike(quick, layers[-2]).min() > 0.95
    assert alike(quick, layers[-2]).mean() > 0.98


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((3,), "there is no layer 3: DIR has 3, from -3 or 0 (the first) to -1 or 2 (the last)"),
        ((-4,), "there is no layer -4: DIR has 3, from -3 or 0 (the first) to -1 or 2 (the last)"),
        ((0, 10**9), "there is no layer 1000000000: DIR has 3, from -3 or 0 (the first) to"),
        ((), "give at least one layer"),
    ],
)
def test_layers_that_there_are_not(layers: Sequence[int], said: str, shared_tiny: Path) -> None:
    assert refusal(shared_tiny, layers=layers).startswith(said)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "--device cuda needs onnxruntime-gpu: install it in place of"),
        ({"device": "cpu", "precision": "fp16"}, "--precision fp16 is for GPUs: on the CPU, int8"),
    ],
)
def test_what_a_processor_cannot(options: Json, said: str, shared_tiny: Path) -> None:
    assert refusal(shared_tiny, **options).startswith(said)
