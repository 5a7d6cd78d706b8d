"""Quantization, data types and the checksum of parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.models.parameters import checksum, finish, quantize

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("order", ["C", "F"])
def test_quantized_kernel_is_within_half_a_step(order: Any, bits: int) -> None:
    kernel = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float32)
    quantized, scale = quantize(np.asarray(kernel, order=order), bits)
    assert quantized.dtype == np.int8
    assert quantized.flags.c_contiguous
    assert scale.dtype == np.float32
    assert np.abs(quantized).max() == 2 ** (bits - 1) - 1
    assert (np.abs(quantized * scale - kernel) < scale * 0.501).all()


def test_zero_outputs_quantize_to_zero() -> None:
    quantized, scale = quantize(np.zeros((3, 2), np.float32))
    assert not quantized.any()
    assert scale.tolist() == [1, 1]


def test_kernels_are_followed_by_their_scales() -> None:
    values = [("a.kernel", np.ones((2, 3), np.float32)), ("a.bias", np.ones(3, np.float32))]
    finished = dict(finish(values, "file", kernel_bits=8))
    assert list(finished) == ["a.kernel", "a.scale", "a.bias"]
    assert [value.dtype.name for value in finished.values()] == ["int8", "float32", "float32"]
    assert list(dict(finish(values, "file"))) == ["a.kernel", "a.bias"]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_are_converted_and_contiguous(dtype: Any) -> None:
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    finished = dict(finish([("a.kernel", transposed), ("b", np.full(2, 0.1))], "f", dtype=dtype))
    for value in finished.values():
        assert value.dtype == dtype
        assert value.flags.c_contiguous
    np.testing.assert_array_equal(finished["a.kernel"], transposed)
    np.testing.assert_array_equal(finished["b"], np.full(2, 0.1, dtype))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.full(2, 1e39), "float32"),
        (np.full(2, -1e39), "float32"),
        (np.full(2, 70_000, np.float32), "float16"),
    ],
)
def test_values_too_large_for_the_data_type_are_refused(value: Array, dtype: str) -> None:
    with pytest.raises(ModelError) as caught:
        list(finish([("a", value)], "model.safetensors", dtype=dtype))
    assert str(caught.value) == f"the weights in model.safetensors are too large for {dtype}"


def test_checksum_depends_on_names_and_values() -> None:
    a, b = np.arange(3, dtype=np.float32), np.arange(1, 4, dtype=np.float32)
    checksums = {
        checksum({"a": a}),
        checksum({"a": b}),
        checksum({"b": a}),
        checksum({"a": a, "b": b}),
        checksum({"a": b, "b": a}),
        checksum({"a": a.astype(np.float16)}),
    }
    assert len(checksums) == 6
    assert checksum({"a": a, "b": b}) == checksum({"b": b, "a": a})


@pytest.mark.parametrize("ending", ["beta", "bias", "folded_bias"])
def test_checksum_ignores_sums(ending: str) -> None:
    a, b = np.arange(3, dtype=np.float32), np.arange(1, 4, dtype=np.float32)
    assert checksum({f"x.{ending}": a}) == checksum({f"x.{ending}": b})
