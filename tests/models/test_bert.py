"""BERT's graph agrees with NumPy in float64, whatever the layout of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert_tokemb.errors import ModelError
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.graph import GraphBuilder
from bert_tokemb.models.loading import load_model
from bert_tokemb.models.parameters import finish
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
from support.tiny import PIECES, VOCABULARY, WEIGHTS, run, some_ids, start, write_tiny

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

TOLERANCE = 1e-5

# --- Layouts of the weights -------------------------------------------------------------------

LAYOUTS: dict[str, Json] = {
    "prefix": {"prefix": "bert."},
    "gamma and beta": {"gamma_beta": True},
    "prefix, gamma and beta": {"prefix": "bert.", "gamma_beta": True},
    "two shards": {"shards": 2},
    "seven shards with a prefix": {"shards": 7, "prefix": "bert."},
    "tokenizer.json": {"tokenizer": tokenizer_json(VOCABULARY)},
    "tokenizer_config.json": {"settings": {"do_lower_case": True}},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_give_equal_vectors(name: str, shared_tiny: Path, tmp_path: Path) -> None:
    expected = run(start(shared_tiny), some_ids())
    vectors = run(start(write_tiny(tmp_path / "other", **LAYOUTS[name])), some_ids())
    np.testing.assert_array_equal(vectors, expected)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(("dtype", "rounded"), [("F16", np.float16), ("BF16", ml_dtypes.bfloat16)])
def test_half_precision_weights_are_exact(
    dtype: str, rounded: Any, shards: int, tmp_path: Path
) -> None:
    weights = {name: w.astype(rounded).astype(np.float32) for name, w in WEIGHTS.items()}
    exact = write_hugging_face(tmp_path / "exact", TINY, VOCABULARY, weights)
    half = write_tiny(tmp_path / "half", dtype=dtype, shards=shards)
    np.testing.assert_array_equal(run(start(half), some_ids()), run(start(exact), some_ids()))


@pytest.mark.parametrize("name", ["bert_model.ckpt", "model.ckpt-1000"])
def test_google_checkpoint_gives_the_same_vectors(
    name: str, shared_tiny: Path, tmp_path: Path
) -> None:
    google = start(write_google(tmp_path / "google", name=name), cased=False)
    # Kernels in another memory layout change the last bits of folded biases.
    np.testing.assert_allclose(
        run(google, some_ids()), run(start(shared_tiny), some_ids()), rtol=0, atol=1e-6
    )
    assert (
        google.model.tokenizer.vocabulary.ids == start(shared_tiny).model.tokenizer.vocabulary.ids
    )


def test_google_checkpoint_may_lack_the_prefix(shared_tiny: Path, tmp_path: Path) -> None:
    google = start(write_google(tmp_path / "google", prefix=""), cased=False)
    np.testing.assert_allclose(
        run(google, some_ids()), run(start(shared_tiny), some_ids()), rtol=0, atol=1e-6
    )


def test_missing_variable_is_named_as_in_the_checkpoint(tmp_path: Path) -> None:
    weights = {name: w for name, w in WEIGHTS.items() if name != "embeddings.LayerNorm.bias"}
    directory = write_google(tmp_path / "google", weights=weights)
    with pytest.raises(ModelError) as caught:
        start(directory, cased=False)
    prefix = directory / "bert_model.ckpt"
    assert str(caught.value) == f"{prefix} has no tensor bert/embeddings/LayerNorm/beta"


def test_weights_of_heads_are_ignored(shared_tiny: Path, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", prefix="bert.")
    more = {f"bert.{name}": value for name, value in WEIGHTS.items()}
    more["cls.predictions.transform.LayerNorm.weight"] = np.full(32, np.nan)
    more["cls.seq_relationship.weight"] = np.zeros((2, 32))
    more["bert.embeddings.position_ids"] = np.zeros((1, 64))
    write_safetensors(directory / "model.safetensors", more)
    np.testing.assert_array_equal(
        run(start(directory), some_ids()), run(start(shared_tiny), some_ids())
    )


def test_integer_position_ids_are_ignored(tmp_path: Path) -> None:
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


# --- Agreement with NumPy ---------------------------------------------------------------------


def check_vectors(
    config: Mapping[str, Any], directory: Path, layers: Sequence[int], *feeds: Array
) -> None:
    """Compare the layers of a model with random weights."""
    weights = random_weights(config, PIECES)
    model = write_hugging_face(directory, config, VOCABULARY, weights)
    vectors = run(start(model, layers), *feeds)
    expected = hidden_layers(weights, config, *feeds)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(
        vectors, np.concatenate([expected[i] for i in layers], -1), rtol=0, atol=TOLERANCE
    )


def some_feeds(b: int, t: int) -> tuple[Array, Array, Array]:
    """Return ids, token types, and a random mask that leaves at least one piece of each row."""
    random = np.random.default_rng(b + 100 * t)
    types, mask = random.integers(0, 2, (2, b, t)).astype(np.int32)
    mask[np.arange(b), random.integers(0, t, b)] = 1
    return some_ids(b, t), types, mask


@pytest.mark.parametrize("layers", [(-1,), (-2,), (0,), (0, -1), (-1, 0), (1, 2, 0), (2, 0)])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_any_layers_and_activation_agree_with_numpy(
    activation: str, layers: Sequence[int], tmp_path: Path
) -> None:
    config = {**TINY, "hidden_act": activation}
    check_vectors(config, tmp_path / "model", layers, *some_feeds(3, 17))


CONFIGS: dict[str, Json] = {
    "one layer": {"num_hidden_layers": 1},
    "twelve layers": {"num_hidden_layers": 12},
    "one head": {"num_attention_heads": 1},
    "heads of size 1": {"num_attention_heads": 32},
    "small intermediate layer": {"intermediate_size": 7},
    "square kernels": {"intermediate_size": 32},
    "large vectors": {"hidden_size": 60, "num_attention_heads": 3},
    "large epsilon": {"layer_norm_eps": 0.5},
    "integer epsilon": {"layer_norm_eps": 1},
    "zero epsilon": {"layer_norm_eps": 0},
    "five token types": {"type_vocab_size": 5},
    "as many positions as pieces": {"max_position_embeddings": 17},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_any_configuration_agrees_with_numpy(name: str, tmp_path: Path) -> None:
    config = {**TINY, **CONFIGS[name]}
    layers = range(config["num_hidden_layers"])
    check_vectors(config, tmp_path / "model", layers, *some_feeds(3, 17))


def test_model_with_a_single_token_type_agrees_with_numpy(tmp_path: Path) -> None:
    ids, _, mask = some_feeds(2, 9)
    config = {**TINY, "type_vocab_size": 1}
    check_vectors(config, tmp_path / "model", (0,), ids, np.zeros_like(ids), mask)


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 64))
def test_batches_of_any_shape_agree_with_numpy(engine: Engine, b: int, t: int) -> None:
    feeds = some_feeds(b, t)
    expected = np.concatenate(hidden_layers(WEIGHTS, TINY, *feeds), -1)
    np.testing.assert_allclose(run(engine, *feeds), expected, rtol=0, atol=TOLERANCE)


def test_large_biases_survive_folding(tmp_path: Path) -> None:
    weights = {
        name: value * 20 if name.endswith("bias") and "LayerNorm" not in name else value
        for name, value in WEIGHTS.items()
    }
    directory = write_hugging_face(tmp_path / "model", TINY, VOCABULARY, weights)
    feeds = some_feeds(3, 17)
    expected = np.concatenate(hidden_layers(weights, TINY, *feeds), -1)
    vectors = run(start(directory, (0, 1, 2)), *feeds)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=5 * TOLERANCE)


def test_position_embeddings_can_be_omitted(shared_tiny: Path) -> None:
    feeds = some_feeds(3, 17)
    name = "embeddings.position_embeddings.weight"
    weights = {**WEIGHTS, name: np.zeros_like(WEIGHTS[name])}
    expected = hidden_layers(weights, TINY, *feeds)[-1]
    vectors = run(start(shared_tiny, position_embeddings=False), *feeds)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("masked", [0, -1, 5])
def test_masked_pieces_do_not_affect_others(masked: int, engine: Engine) -> None:
    ids = some_ids()
    mask = np.ones_like(ids)
    mask[:, masked] = 0
    others = ids.copy()
    others[:, masked] = (others[:, masked] + 1) % PIECES
    a, b = run(engine, ids, mask=mask), run(engine, others, mask=mask)
    kept = mask[0] == 1
    np.testing.assert_array_equal(a[:, kept], b[:, kept])
    assert np.abs(a[:, ~kept] - b[:, ~kept]).max() > 0.01
    assert np.abs(run(engine, ids)[:, kept] - a[:, kept]).max() > 1e-4


def test_padded_sentences_equal_single_ones(engine: Engine) -> None:
    ids, lengths = some_ids(5, 30), (30, 1, 2, 17, 29)
    mask = (np.arange(30) < np.array(lengths)[:, None]).astype(np.int32)
    together = run(engine, ids, mask=mask)
    for row, length in enumerate(lengths):
        alone = run(engine, ids[row : row + 1, :length])
        np.testing.assert_allclose(together[row, :length], alone[0], rtol=0, atol=TOLERANCE)


def test_minilm_agrees_with_numpy() -> None:
    pieces = "[CLS] the quick brown fox jumps over the lazy dog . [SEP]"
    ids = np.array([[minilm_vocabulary().index(piece) for piece in pieces.split()]], np.int32)
    exact = run(start(minilm_directory(), (0, -2)), ids)
    feeds = (ids, np.zeros_like(ids), np.ones_like(ids))
    layers = hidden_layers(minilm_weights(), minilm_config(), *feeds)
    expected = np.concatenate([layers[0], layers[-2]], -1)
    np.testing.assert_allclose(exact, expected, rtol=0, atol=TOLERANCE)
    quantized = run(start(minilm_directory(), (-2,), precision="int8"), ids)
    similarities = cosines(quantized, layers[-2])
    assert similarities.min() > 0.95
    assert similarities.mean() > 0.98


@pytest.mark.parametrize("kernel_bits", [7, 8])
@pytest.mark.parametrize("layers", [(-2,), (0, -1)])
def test_int8_is_close_to_fp32(layers: Sequence[int], kernel_bits: int, shared_tiny: Path) -> None:
    feeds = some_feeds(4, 20)
    exact = run(start(shared_tiny, layers), *feeds)
    engine = start(shared_tiny, layers, precision="int8", kernel_bits=kernel_bits)
    quantized = run(engine, *feeds)
    assert quantized.dtype == np.float32
    assert quantized.shape == exact.shape
    assert cosines(quantized, exact).min() > 0.98
    assert not np.array_equal(quantized, exact)


def test_float16_graph_has_float16_output(shared_tiny: Path) -> None:
    """Only GPUs run this graph."""
    model = load_model(str(shared_tiny))
    made = model.architecture.parameters(model.weights, model.config, 2, position_embeddings=True)
    parameters = dict(finish(made, "model", dtype=np.float16))
    serialized = model.architecture.build_graph(GraphBuilder(parameters), model.config, (0, 1))
    graph = onnx.load_from_string(serialized).graph
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {tensor.data_type for tensor in graph.initializer} == {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,  # shapes
    }


def cosines(a: Array, b: Array) -> Array:
    """Return the cosine similarities of vectors."""
    cosine: Array = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return cosine
