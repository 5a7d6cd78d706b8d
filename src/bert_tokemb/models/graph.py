"""BERT as a graph of ONNX Runtime's operators.

Vectors lie one behind another, ``(p, c)`` for the ``p = t * b`` pieces of ``b`` sentences of
``t`` pieces, those of the same position together. In that order the batched products of
attention find queries, keys and values by strides, ``(t, b, heads, c / heads)``, and nothing has
to be transposed before (``FusedMatMul``'s ``transBatchA`` and ``transBatchB``).

Why not the operators that are fused further? Measured on one core, 256 pieces in 12 sentences,
384 wide: ``Attention`` takes 2.2 ms, of which a plain product for queries, keys and values takes
1.2 ms and what stands here for the rest 0.2 ms. ``SkipLayerNormalization`` takes ten times as
long as a ``LayerNormalization`` behind a ``Gemm`` that adds the residual stream, ``BiasGelu``
half as long again as a bias in the ``Gemm`` and ``Gelu``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from .config import ModelConfig
from .parameters import Parameter

__all__ = ["INPUTS", "NOWHERE", "OUTPUT", "build_graph"]

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""Each int32, ``(b, t)``; the mask is 1 where a piece may be attended to, and else 0."""
OUTPUT = "vectors"
"""``(b, t, c)`` for each of the layers, side by side."""

NOWHERE = Path(os.devnull)
"""The file that parameters are said to lie in; they are given to the session by themselves."""

_MICROSOFT = "com.microsoft"
_OPSETS = (("", 18), (_MICROSOFT, 1))
_IR_VERSION = 8
_ACTIVATIONS = {
    "gelu": ("Gelu", _MICROSOFT),
    "gelu_new": ("FastGelu", _MICROSOFT),
    "relu": ("Relu", ""),
}
# What BERT adds to the score of a piece that is not to be attended to.
_HIDDEN = -10000.0


def build_graph(
    config: ModelConfig, layers: Sequence[int], parameters: Mapping[str, Parameter]
) -> bytes:
    """Return a serialized ONNX model.

    Args:
        config: The model's shape.
        layers: Which hidden layers are wanted, 0 for the first, in the order of the output.
        parameters: By name; :func:`bert_tokemb.models.parameters.parameters` tells which.
            Quantized kernels make a graph that quantizes the vectors before each product.
    """
    return _Builder(config, parameters).build(layers)


class _Builder:
    """Adds nodes one after another; values are known by their names."""

    def __init__(self, config: ModelConfig, parameters: Mapping[str, Parameter]) -> None:
        self._config = config
        self._parameters = parameters
        self._element = helper.np_dtype_to_tensor_dtype(parameters["embeddings.beta"].dtype)
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []

    def build(self, layers: Sequence[int]) -> bytes:
        c = self._config.width
        # (t, b), as the vectors are from here on.
        ids, types = (self._node("Transpose", name, perm=[1, 0]) for name in INPUTS[:2])
        self._shape = self._node("Shape", ids)
        self._flat = self._constant([-1, c])
        self._heads = self._node(
            "Concat",
            self._shape,
            self._constant([self._config.heads, c // self._config.heads]),
            axis=0,
        )
        self._hidden = self._hidden_scores()
        x = self._embed(ids, types)
        wanted: dict[int, str] = {}
        for i in range(max(layers) + 1):
            x = self._layer(f"layer_{i}.", x)
            if i in layers:
                passing = f"layer_{i}.output.passing"
                wanted[i] = self._node("Sub", x, passing) if i < max(layers) else x
        several = [wanted[i] for i in layers]
        x = several[0] if len(several) == 1 else self._node("Concat", *several, axis=1)
        end = self._constant([len(layers) * c])
        x = self._node("Reshape", x, self._node("Concat", self._shape, end, axis=0))
        self._node("Transpose", x, perm=[1, 0, 2], to=OUTPUT)
        return self._serialize(len(layers) * c)

    def _hidden_scores(self) -> str:
        """What is added to the scores, ``(b, 1, 1, t)``."""
        mask = self._node("Cast", "attention_mask", to_type=self._element)
        one, hidden = self._number(1.0), self._number(_HIDDEN)
        scores = self._node("Mul", self._node("Sub", one, mask), hidden)
        return self._node("Unsqueeze", scores, self._constant([1, 2]))

    def _embed(self, ids: str, types: str) -> str:
        words = self._node("Gather", "word_embeddings", ids)
        kinds = self._node("Gather", "token_type_embeddings", types)
        t = self._node("Slice", self._shape, *map(self._constant, ([0], [1])))
        places = self._node("Slice", "position_embeddings", self._constant([0]), t)
        places = self._node("Unsqueeze", places, self._constant([1]))
        x = self._node("Add", self._node("Add", words, kinds), places)
        return self._normalize("embeddings", self._node("Reshape", x, self._flat))

    def _layer(self, layer: str, x: str) -> str:
        x = self._normalize(f"{layer}attention", self._attend(layer, x))
        inner = self._dense(f"{layer}intermediate", self._ready(x), bias=True)
        kind, domain = _ACTIVATIONS[self._config.activation]
        inner = self._node(kind, inner, domain=domain)
        y = self._dense(f"{layer}output", self._ready(inner), residual=x)
        return self._normalize(f"{layer}output", y)

    def _attend(self, layer: str, x: str) -> str:
        ready = self._ready(x)
        query, key, value = (
            self._node("Reshape", self._dense(f"{layer}{which}", ready, bias=biased), self._heads)
            for which, biased in (("query", True), ("key", False), ("value", True))
        )
        scores = self._node(
            "FusedMatMul",
            query,
            key,
            domain=_MICROSOFT,
            transB=1,
            transBatchA=1,
            transBatchB=1,
            alpha=(self._config.width // self._config.heads) ** -0.5,
        )  # (b, heads, t, t)
        scores = self._node("Add", scores, self._hidden)
        shares = self._node("Softmax", scores, axis=-1)
        z = self._node("FusedMatMul", shares, value, domain=_MICROSOFT, transBatchB=1)
        z = self._node("Reshape", self._node("Transpose", z, perm=[2, 0, 1, 3]), self._flat)
        return self._dense(f"{layer}attention", self._ready(z), residual=x)

    def _normalize(self, name: str, x: str) -> str:
        weights = (f"{name}.gamma", f"{name}.beta")
        epsilon = self._config.epsilon
        return self._node("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)

    def _ready(self, x: str) -> Sequence[str]:
        """What a dense layer takes: vectors, or quantized ones with their scale and zero."""
        if not self._quantized:
            return (x,)
        return self._nodes_of("DynamicQuantizeLinear", x, outputs=3)

    def _dense(
        self, name: str, x: Sequence[str], *, bias: bool = False, residual: str | None = None
    ) -> str:
        """Multiply with a kernel, and add a bias, or the residual stream."""
        kernel = f"{name}.kernel"
        biases = [f"{name}.bias"] if bias else []
        if not self._quantized:
            added = biases or ([residual] if residual else [])
            return self._node("Gemm", *x, kernel, *added)
        quantized, scale, zero = x
        inputs = [quantized, kernel, scale, f"{name}.scale", zero, "", *biases]
        y = self._node("MatMulIntegerToFloat", *inputs, domain=_MICROSOFT)
        return self._node("Add", y, residual) if residual else y

    @property
    def _quantized(self) -> bool:
        return self._parameters["layer_0.query.kernel"].dtype == np.int8

    def _node(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        (output,) = self._nodes_of(kind, *inputs, to=to, **attributes)
        return output

    def _nodes_of(
        self,
        kind: str,
        *inputs: str,
        outputs: int = 1,
        to: str | None = None,
        to_type: int | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[str]:
        n = len(self._nodes)
        names = [to] if to else [f"{kind}_{n}_{i}" for i in range(outputs)]
        if to_type is not None:
            attributes["to"] = to_type
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def _constant(self, values: Sequence[int]) -> str:
        return self._add_constant(np.array(values, np.int64))

    def _number(self, value: float) -> str:
        return self._add_constant(np.array(value, helper.tensor_dtype_to_np_dtype(self._element)))

    def _add_constant(self, values: Any) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def _serialize(self, width: int) -> bytes:
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["b", "t"]) for name in INPUTS
        ]
        output = helper.make_tensor_value_info(OUTPUT, self._element, ["b", "t", width])
        used = {name for node in self._nodes for name in node.input}
        declared = [
            _declare(name, value) for name, value in self._parameters.items() if name in used
        ]
        graph = helper.make_graph(
            self._nodes, "bert", inputs, [output], [*self._constants, *declared]
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        serialized: bytes = model.SerializeToString()
        return serialized


def _declare(name: str, value: Parameter) -> TensorProto:
    """Say that there is a parameter, whose values are given to the session by itself."""
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=NOWHERE.name)
    return tensor
