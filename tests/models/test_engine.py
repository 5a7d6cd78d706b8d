"""The engine: its options, what it reports about a model, threads."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb.errors import MemoryShortageError, UsageError
from bert_tokemb.models.engine import Engine
from support.tiny import refusal, run, some_ids, start, write_tiny


@pytest.mark.parametrize(
    ("layers", "absolute"), [((-2,), (1,)), ((0, -1), (0, 2)), ((2, 1), (2, 1))]
)
def test_layers_are_counted_from_the_first(
    layers: Sequence[int], absolute: Sequence[int], shared_tiny: Path
) -> None:
    engine = start(shared_tiny, layers)
    assert engine.layers == absolute
    assert engine.width == 32 * len(layers)
    assert engine.dtype == np.float32


@pytest.mark.parametrize("layer", [3, -4, 10**9])
def test_layer_that_does_not_exist_is_refused(layer: int, shared_tiny: Path) -> None:
    assert refusal(shared_tiny, layers=(0, layer)) == (
        f"there is no layer {layer}: DIR has 3, from -3 or 0 (the first) to -1 or 2 (the last)"
    )


def test_at_least_one_layer_is_required(shared_tiny: Path) -> None:
    assert refusal(shared_tiny, layers=()) == "give at least one layer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"device": "cuda"},
            "device 'cuda' needs onnxruntime-gpu: install it in place of onnxruntime",
        ),
        (
            {"precision": "fp16"},
            "precision 'fp16' is for GPUs; on the CPU, 'int8' is the fast one",
        ),
        (
            {"device": "cpu", "precision": "fp16"},
            "precision 'fp16' is for GPUs; on the CPU, 'int8' is the fast one",
        ),
    ],
)
def test_options_that_need_a_gpu_are_refused_without(
    options: dict[str, Any], message: str, shared_tiny: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        start(shared_tiny, **options)
    assert str(caught.value) == message


def test_threads_get_their_own_results(engine: Engine) -> None:
    batches = [some_ids(b, t) for b in (1, 4) for t in (1, 9, 33)] * 5
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda ids: run(engine, ids), batches))
    for ids, vectors in zip(batches, several, strict=True):
        np.testing.assert_array_equal(vectors, run(engine, ids))


def test_checksum_identifies_the_weights_that_are_used(shared_tiny: Path, tmp_path: Path) -> None:
    checksum = start(shared_tiny).checksum
    other_layout = write_tiny(tmp_path / "model", prefix="bert.", shards=3)
    assert start(other_layout).checksum == checksum
    assert start(shared_tiny, (-2,)).checksum != checksum
    assert start(shared_tiny, precision="int8").checksum != checksum
    assert start(shared_tiny, position_embeddings=False).checksum != checksum


def test_memory_shortage_is_reported(engine: Engine) -> None:
    ids = np.zeros((50_000, 64), np.int32)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
    try:
        with pytest.raises(MemoryShortageError) as caught:
            run(engine, ids)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert str(caught.value) == "there is not enough memory for the model"
    run(engine, ids[:3])
