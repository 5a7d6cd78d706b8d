"""Every architecture agrees with transformers, and its vectors depend on the sentence alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

from bert_tokemb.models.architectures import ARCHITECTURES
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.graph import GraphBuilder
from bert_tokemb.models.parameters import finish
from bert_tokemb.types import Layer
from support.architectures import (
    CASES,
    PREFIXES,
    Array,
    Case,
    Tensors,
    expected,
    feeds,
    model,
    rows,
    run,
    start,
    weights,
)

TOLERANCE = 1e-5

every_case = pytest.mark.parametrize("name", CASES)


def all_layers(case: Case) -> list[Layer]:
    n = model(case.config).config.num_hidden_layers
    return ["embeddings", *range(n)]


def test_every_architecture_has_cases() -> None:
    assert {case.model_type for case in CASES.values()} == set(ARCHITECTURES) == set(PREFIXES)


@every_case
def test_every_layer_agrees_with_transformers(name: str) -> None:
    case = CASES[name]
    engine = start(case.config, all_layers(case))
    for t in case.lengths:
        states = run(engine, *feeds(case, t))[:, 0, list(rows(t))]
        np.testing.assert_allclose(states, expected()[f"{name}/{t}"], rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_expected_states_are_those_of_transformers() -> None:
    if not (find_spec("torch") and find_spec("transformers")):
        pytest.skip("torch and transformers are not installed")
    from support.hugging_face import compute_states

    for name, states in compute_states():
        np.testing.assert_allclose(states, expected()[name], rtol=0, atol=TOLERANCE)


@every_case
@pytest.mark.parametrize(
    "layers", [("embeddings",), (-1,), (0,), (0, "embeddings"), (-1, "embeddings", 0)]
)
def test_any_layers_can_be_chosen(name: str, layers: tuple[Layer, ...]) -> None:
    case = CASES[name]
    n = model(case.config).config.num_hidden_layers
    chosen = tuple(dict.fromkeys(layer if layer == "embeddings" else layer % n for layer in layers))
    vectors = run(start(case.config, chosen), *feeds(case, 16))[:, 0]
    states = expected()[f"{name}/16"]
    for vector, layer in zip(vectors, chosen, strict=True):
        state = states[0] if layer == "embeddings" else states[1 + layer]
        np.testing.assert_allclose(vector, state, rtol=0, atol=TOLERANCE)


# --- The rest of the batch --------------------------------------------------------------------


@every_case
def test_vectors_do_not_depend_on_the_batch(name: str) -> None:
    """Bit for bit, since resuming depends on it; batches on the CPU have a single length."""
    case = CASES[name]
    engine = start(case.config, all_layers(case))
    for t, b in ((3, 11), (16, 7), (33, 5), *((300, 3) for t in case.lengths if t == 300)):
        inputs = feeds(case, t, b)
        together = run(engine, *inputs)
        for i in range(b):
            alone = run(engine, *(x[i : i + 1] for x in inputs))
            np.testing.assert_array_equal(together[:, i : i + 1], alone)


@every_case
def test_vectors_do_not_depend_on_threads(name: str) -> None:
    case = CASES[name]
    engine = start(case.config)
    inputs = [feeds(case, t, b) for t in (3, 16, 33) for b in (1, 4)] * 3
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda one: run(engine, *one), inputs))
    for one, vectors in zip(inputs, several, strict=True):
        np.testing.assert_array_equal(vectors, run(engine, *one))


@every_case
def test_padding_changes_little(name: str) -> None:
    """GPUs compute padded batches."""
    case = CASES[name]
    engine = start(case.config, all_layers(case))
    ids, types, mask = feeds(case, 16)
    alone = run(engine, ids, types, mask)
    ids, types, mask = feeds(case, 30, 2)
    ids[0, :16], types[0, :16], _ = (x[0] for x in feeds(case, 16))
    ids[0, 16:], mask[0, 16:] = engine.model.config.pad_token_id, 0
    padded = run(engine, ids, types, mask)
    np.testing.assert_allclose(padded[:, 0, :16], alone[:, 0], rtol=0, atol=TOLERANCE)


# --- Precision --------------------------------------------------------------------------------


@every_case
def test_int8_is_close_to_fp32(name: str) -> None:
    case = CASES[name]
    inputs = feeds(case, 16, 2)
    exact, quantized = (
        run(start(case.config, precision=precision), *inputs) for precision in ("fp32", "int8")
    )
    assert not np.array_equal(quantized, exact)
    assert cosines(quantized, exact).min() > 0.97


@every_case
def test_float16_graph_has_float16_output(name: str) -> None:
    """Only GPUs run this graph."""
    loaded = model(CASES[name].config)
    depth = loaded.config.num_hidden_layers
    made = loaded.architecture.parameters(
        loaded.weights, loaded.config, depth, position_embeddings=True
    )
    graph = GraphBuilder(dict(finish(made, "model", dtype=np.float16)))
    layers: list[Layer] = ["embeddings", depth - 1]
    serialized = loaded.architecture.build_graph(graph, loaded.config, layers)
    checked = onnx.load_from_string(serialized).graph
    assert checked.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert {tensor.data_type for tensor in checked.initializer} == {
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.INT64,
    }


def cosines(a: Array, b: Array) -> Array:
    """Return the cosine similarities of vectors."""
    cosine: Array = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return cosine


# --- Weights ----------------------------------------------------------------------------------


@every_case
def test_prefix_and_head_are_ignored(name: str) -> None:
    case = CASES[name]
    prefix, values = PREFIXES[case.model_type], weights(case.config)
    with_head = {f"{prefix}{tensor}": value for tensor, value in values.items()}
    with_head["lm_head.dense.weight"] = np.full((3, 3), np.nan, np.float32)
    with_head[f"{prefix}pooler.dense.weight"] = np.full((3, 3), np.nan, np.float32)
    engine = Engine(model(case.config, with_head), (-1,), device="cpu", threads=1)
    inputs = feeds(case, 16)
    np.testing.assert_array_equal(run(engine, *inputs), run(start(case.config), *inputs))


@every_case
def test_every_tensor_is_read(name: str) -> None:
    """A tensor that is not read would be one that changes nothing."""
    case = CASES[name]
    read = set()

    class Recorded(Tensors):
        def read(self, name: str) -> Array:
            read.add(name)
            return super().read(name)

    loaded = model(case.config)
    architecture, values = loaded.architecture, weights(case.config)
    opened = architecture.open_weights(Recorded(values), loaded.config, "model.safetensors")
    depth = loaded.config.num_hidden_layers
    for _ in architecture.parameters(opened, loaded.config, depth, position_embeddings=True):
        pass
    # The biases of keys do not change probabilities, unless they meet the vectors of distances.
    not_read = {tensor for tensor in set(values) - read if "key" not in tensor}
    assert {tensor for tensor in not_read if not tensor.endswith(("k.bias", "k_lin.bias"))} == set()


@every_case
def test_position_embeddings_can_be_omitted(name: str) -> None:
    case = CASES[name]
    ids, types, mask = feeds(case, 5)
    types[:] = 0
    for used in (False, True):
        engine = start(case.config, position_embeddings=used)
        forwards = run(engine, ids, types, mask)[0, 0]
        backwards = run(engine, ids[:, ::-1].copy(), types, mask)[0, 0, ::-1]
        differs = np.abs(forwards - backwards).max() > TOLERANCE
        assert differs == used
