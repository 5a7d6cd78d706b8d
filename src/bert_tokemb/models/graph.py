"""Builds ONNX graphs node by node, for :mod:`bert_tokemb.models.architectures`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from .parameters import Parameter

__all__ = ["INPUTS", "INT32", "INT64", "MICROSOFT", "OUTPUT", "PARAMETER_FILE", "GraphBuilder"]

INPUTS = ("input_ids", "token_type_ids", "attention_mask")
"""The inputs of every graph: int32, ``(b, t)``. The mask is 1 where a piece may be attended to."""
OUTPUT = "vectors"
"""The output of every graph: ``(b, t, c)``, the vectors of the layers side by side."""

INT32, INT64 = TensorProto.INT32, TensorProto.INT64
"""Types of integers, as arguments of ``Cast``. Constants and shapes are int64."""

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""

PARAMETER_FILE = Path(os.devnull)
"""Where the graph says that parameters are stored. The session gets their values separately."""

_OPSETS = (("", 18), (MICROSOFT, 1))
_IR_VERSION = 8


class GraphBuilder:
    """Adds nodes one after another; a value is referred to by its name.

    Args:
        parameters: The values that the graph computes with, by name. If kernels are quantized, so
            are the inputs of dense layers.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = parameters
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._used: set[str] = set()
        self._count = 0
        dtypes = {value.dtype for value in parameters.values()}
        self._is_quantized = np.dtype(np.int8) in dtypes
        (self._dtype,) = dtypes - {np.dtype(np.int8)}
        self._element_type = helper.np_dtype_to_tensor_dtype(self._dtype)

    def has_parameter(self, name: str) -> bool:
        """Return whether there is a parameter of this name."""
        return name in self._parameters

    def node(
        self, kind: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any
    ) -> str:
        """Add a node with one output, and return the name of the output."""
        name = output or f"{self._new_name(kind)}_0"
        self._add(kind, inputs, [name], domain=domain, **attributes)
        return name

    def stack(self, count: str, make: Callable[[str], str]) -> str:
        """Compute a value again and again, and stack the results along a new first axis.

        Args:
            count: A scalar, the number of repetitions.
            make: Adds the nodes of one repetition, given the name of its number, which counts
                from 0. It may use all values of the graph, and returns the name of its result,
                whose shape is always the same.
        """
        iteration, condition = self._new_name("iteration"), self._new_name("condition")
        inputs = [
            helper.make_tensor_value_info(iteration, TensorProto.INT64, []),
            helper.make_tensor_value_info(condition, TensorProto.BOOL, []),
        ]
        goes_on = helper.make_tensor_value_info(f"{condition}_after", TensorProto.BOOL, [])

        def make_body() -> str:
            self.node("Identity", condition, output=goes_on.name)
            return make(iteration)

        return self.node("Loop", count, "", body=self._subgraph(make_body, inputs, [goes_on]))

    def either(self, condition: str, make: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """Compute one of two values, of which each may use all values of the graph.

        Args:
            condition: A scalar that says which.
            make: Adds the nodes if the condition is true, and returns the name of the result.
            otherwise: Does the same if it is false.
        """
        branches = {"then_branch": self._subgraph(make), "else_branch": self._subgraph(otherwise)}
        return self.node("If", condition, **branches)

    def integers(self, *values: int) -> str:
        """Add a constant vector of int64."""
        return self._constant(np.array(values, np.int64))

    def integer(self, value: int) -> str:
        """Add a constant scalar of int64."""
        return self._constant(np.array(value, np.int64))

    def number(self, value: float) -> str:
        """Add a constant of the floating-point type of the parameters."""
        return self._constant(np.array(value, self._dtype))

    def as_float(self, x: str) -> str:
        """Cast a value to the floating-point type of the parameters."""
        return self.node("Cast", x, to=self._element_type)

    def layer_norm(self, name: str, x: str, epsilon: float) -> str:
        """Normalize over the last axis with the parameters ``.gamma`` and, if any, ``.beta``."""
        weights = [f"{name}.gamma"]
        if self.has_parameter(beta := f"{name}.beta"):
            weights.append(beta)
        return self.node("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)

    def dense_input(self, x: str) -> Sequence[str]:
        """Return what :meth:`dense` takes for ``x``, which several dense layers can share.

        That is ``x`` itself, or its quantized values, their scale and their zero point.
        """
        if not self._is_quantized:
            return (x,)
        kind = "DynamicQuantizeLinear"
        name = self._new_name(kind)
        names = [f"{name}_{i}" for i in range(3)]
        self._add(kind, [x], names)
        return names

    def dense(self, name: str, x: Sequence[str], *, bias: bool = False, residual: str = "") -> str:
        """Multiply with the parameter ``.kernel``; add the ``.bias``, or else a residual.

        Args:
            name: The name of the parameters without these endings.
            x: ``(p, in)`` vectors as :meth:`dense_input` returns them.
            bias: Whether there is a bias.
            residual: A ``(p, out)`` value to add instead.
        """
        kernel = f"{name}.kernel"
        biases = [f"{name}.bias"] if bias else []
        if not self._is_quantized:
            added = biases or ([residual] if residual else [])
            return self.node("Gemm", *x, kernel, *added)
        quantized, scale, zero = x
        inputs = [quantized, kernel, scale, f"{name}.scale", zero, "", *biases]
        y = self.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)
        return self.node("Add", y, residual) if residual else y

    def serialize(self, name: str, width: int) -> bytes:
        """Return the ONNX model, whose output has ``width`` numbers for each piece."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT32, ["b", "t"]) for name in INPUTS
        ]
        output = helper.make_tensor_value_info(OUTPUT, self._element_type, ["b", "t", width])
        declared = [
            _declaration(name, value)
            for name, value in self._parameters.items()
            if name in self._used
        ]
        graph = helper.make_graph(
            self._nodes, name, inputs, [output], [*self._constants, *declared]
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        serialized: bytes = model.SerializeToString()
        return serialized

    def _subgraph(
        self,
        make: Callable[[], str],
        inputs: Sequence[ValueInfoProto] = (),
        outputs: Sequence[ValueInfoProto] = (),
    ) -> GraphProto:
        """Return a graph of the nodes that ``make`` adds; its result is the last output."""
        before, self._nodes = self._nodes, []
        result = helper.make_tensor_value_info(make(), self._element_type, None)
        graph = helper.make_graph(
            self._nodes, self._new_name("subgraph"), inputs, [*outputs, result]
        )
        self._nodes = before
        return graph

    def _add(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        self._nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        self._used.update(inputs)

    def _new_name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

    def _constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name


def _declaration(name: str, value: Parameter) -> TensorProto:
    """Return a tensor without values, which the session gets separately."""
    tensor = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        dims=value.shape,
        data_location=TensorProto.EXTERNAL,
    )
    tensor.external_data.add(key="location", value=PARAMETER_FILE.name)
    return tensor
