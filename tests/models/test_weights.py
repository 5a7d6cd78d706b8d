"""Weights that are missing, have another shape, or hold invalid numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.models import join_safetensors, split_safetensors, write_safetensors
from support.tiny import WEIGHTS, refusal, start, used_or_refused, write_tiny

LAST_LAYER = "encoder.layer.2."
REQUIRED = [
    name for name in WEIGHTS if name.startswith(("embeddings.", "encoder.layer.0.", LAST_LAYER))
]


def with_weights(directory: Path, **changes: Any) -> Path:
    """Change tensors of a model; ``...`` removes one."""
    weights = {**WEIGHTS, **changes}
    kept = {name: value for name, value in weights.items() if value is not ...}
    write_safetensors(directory / "model.safetensors", kept)
    return directory


@pytest.mark.parametrize("name", REQUIRED)
def test_missing_tensor_is_refused(name: str, tiny: Path) -> None:
    message = refusal(with_weights(tiny, **{name: ...}))
    assert message == f"model.safetensors has no tensor {name}"


@pytest.mark.parametrize("name", REQUIRED)
def test_tensor_of_another_shape_is_refused(name: str, tiny: Path) -> None:
    value = WEIGHTS[name]
    others = [value[:-1], value[..., :-1], value[None], value.reshape(-1, 1), np.zeros(())]
    others += [np.concatenate([value, value]), np.zeros((0, *value.shape[1:]))]
    others += [value.T] if value.T.shape != value.shape else []
    for other in others:
        assert refusal(with_weights(tiny, **{name: other})) == (
            f"model.safetensors holds {name} of shape {other.shape}, but its configuration "
            f"implies {value.shape}"
        )


@pytest.mark.parametrize("name", REQUIRED)
def test_nan_and_infinity_are_refused(name: str, tiny: Path) -> None:
    for invalid in (np.nan, np.inf, -np.inf):
        value = WEIGHTS[name].copy()
        value.flat[-1] = invalid
        message = refusal(with_weights(tiny, **{name: value}))
        assert message == f"model.safetensors is damaged: {name} holds NaN or infinity"


@pytest.mark.parametrize(
    ("dtype", "bits"), [("F32", 0x7FA00000), ("F16", 0x7D00), ("BF16", 0x7FA0)]
)
def test_signalling_nan_is_refused(dtype: str, bits: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", dtype=dtype)
    path, name = directory / "model.safetensors", "encoder.layer.2.output.LayerNorm.bias"
    header, data = split_safetensors(path)
    at = header[name]["data_offsets"][0]
    content = bits.to_bytes(4 if dtype == "F32" else 2, "little")
    path.write_bytes(join_safetensors(header, data[:at] + content + data[at + len(content) :]))
    assert refusal(directory) == f"model.safetensors is damaged: {name} holds NaN or infinity"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("part", ["attention.self.value.bias", "output.dense.bias"])
def test_weights_whose_sums_overflow_are_refused(part: str, precision: str, tiny: Path) -> None:
    with_weights(tiny, **{f"encoder.layer.1.{part}": np.full(32, 3e38)})
    message = refusal(tiny, precision=precision)
    assert message == "the weights in model.safetensors are too large for float32"


@pytest.mark.parametrize(("layer", "found"), [("3", 4), ("99999", 100_000)])
def test_additional_layer_is_refused(layer: str, found: int, tiny: Path) -> None:
    with_weights(tiny, **{f"encoder.layer.{layer}.output.dense.bias": np.zeros(32)})
    expected = f"model.safetensors holds {found} layers, but its configuration says 3"
    assert refusal(tiny) == expected


def test_layer_number_with_many_digits_is_used_or_refused(tiny: Path) -> None:
    with_weights(tiny, **{f"encoder.layer.{'9' * 5000}.output.dense.bias": np.zeros(32)})
    used_or_refused(tiny)


def test_missing_layer_in_between_is_refused(tiny: Path) -> None:
    layer = {name: ... for name in WEIGHTS if name.startswith("encoder.layer.1.")}
    assert "has no tensor encoder.layer.1." in refusal(with_weights(tiny, **layer))


@pytest.mark.parametrize("prefix", ["roberta.", "model.", "bert.bert.", "distilbert."])
def test_weights_of_another_architecture_are_refused(prefix: str, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model", prefix=prefix)
    assert refusal(directory) == "model.safetensors holds 0 layers, but its configuration says 3"


def test_layers_above_the_output_are_not_read(tiny: Path) -> None:
    """They would take time and memory, and the output does not depend on them."""
    with_weights(tiny, **{f"{LAST_LAYER}output.dense.weight": np.full((32, 64), np.nan)})
    start(tiny, (-2,))
