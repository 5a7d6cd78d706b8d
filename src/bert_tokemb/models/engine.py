"""Runs a model with ONNX Runtime: pieces in, vectors of hidden layers out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import MemoryShortageError, ModelError, UsageError
from ..types import BatchLimits, FloatArray, Layer, LayerPooling, Layers
from .architectures.encoder import depth_of
from .cpus import available_cpus, exact_kernel_bits
from .graph import INPUTS, OUTPUT, PARAMETER_FILE, GraphBuilder
from .loading import Model
from .parameters import Parameter, checksum, finish

# ONNX Runtime 1.32 and later starts its telemetry when it is imported, and
# disable_telemetry_events() is then too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

__all__ = ["Device", "Engine", "Precision"]

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "fp16", "int8"]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"

# Measured on two cores with 2 MiB of cache each. Batches of a single length need no padding, and
# the vectors of a sentence do not depend on the rest of its batch.
_CPU_LIMITS = BatchLimits(pieces=512, sentences=512, uniform=True)
# The larger the batch, the faster a GPU.
_GPU_LIMITS = BatchLimits(pieces=16384, sentences=2048)


class Engine:
    """Computes hidden layers of a model; threads may call it at the same time.

    On the CPU each call computes in the thread that calls: to use several CPUs, call from several
    threads, each with its own batch. If all CPUs shared one batch, they would wait for one another
    at every operator.

    Args:
        model: The model.
        layers: The layers to compute, side by side in this order. Of the hidden layers, 0 is the
            first and -1 the last, as ``bert-serving-start -pooling_layer`` counts them;
            ``"embeddings"`` is the output of the embedding layer.
        layer_pooling: ``concat`` puts the vectors of the layers side by side; ``mean`` and ``sum``
            combine them.
        device: ``auto`` is a GPU if onnxruntime-gpu finds one, and otherwise the CPU.
        precision: ``int8`` quantizes kernels, and vectors before each product, on the CPU;
            ``fp16`` is for GPUs.
        threads: The number of threads that will call; by default one for each available CPU.
        position_embeddings: Whether the vector of a piece depends on its position. Models are
            trained with position embeddings; bert-as-service can leave them out.
        kernel_bits: The number of bits of kernels in ``int8``; by default as many as this CPU
            multiplies exactly.

    Raises:
        UsageError: if the model has no such layer, or the device no such precision.
        ModelError: if weights are missing or damaged, or there is not enough memory.
    """

    def __init__(
        self,
        model: Model,
        layers: Layers = (-2,),
        *,
        layer_pooling: LayerPooling = "concat",
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        position_embeddings: bool = True,
        kernel_bits: int | None = None,
    ) -> None:
        self.model = model
        self.layers = _absolute(layers, model)
        self.device = _choose_device(device, precision)
        self.precision = precision
        self.threads = threads or available_cpus()
        self.layer_pooling = layer_pooling
        side_by_side = len(self.layers) if layer_pooling == "concat" else 1
        self.width = side_by_side * model.config.hidden_size
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if precision == "fp16" else np.float32)
        parameters = self._make_parameters(position_embeddings, kernel_bits)
        self.checksum = checksum(parameters)
        """A checksum of the weights that are used."""
        # The session does not copy the parameters, so they must stay alive.
        self._parameters = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value)
            for name, value in parameters.items()
        }
        graph = GraphBuilder(parameters)
        self._session = self._start(
            model.architecture.build_graph(graph, model.config, self.layers)
        )

    @property
    def layers_from_last(self) -> Sequence[Layer]:
        """The layers, the hidden ones counted from -1, the last."""
        n = self.model.config.num_hidden_layers
        return [layer if layer == "embeddings" else layer - n for layer in self.layers]

    @property
    def batch_limits(self) -> BatchLimits:
        """The batches that are fast on the device, as measured."""
        return _CPU_LIMITS if self.device == "cpu" else _GPU_LIMITS

    def run(
        self,
        input_ids: npt.NDArray[np.int32],
        token_type_ids: npt.NDArray[np.int32],
        attention_mask: npt.NDArray[np.int32],
    ) -> FloatArray:
        """Return ``(b, t, c)`` vectors for ``b`` sentences of ``t`` pieces.

        Args:
            input_ids: ``(b, t)`` ids of pieces, special tokens included.
            token_type_ids: ``(b, t)``, 0 for the first sentence of a pair.
            attention_mask: ``(b, t)``, 1 where a piece may be attended to, otherwise 0.

        Raises:
            MemoryShortageError: if there is not enough memory.
        """
        feeds = dict(zip(INPUTS, (input_ids, token_type_ids, attention_mask), strict=True))
        with _memory_shortage():
            vectors: FloatArray = self._session.run([OUTPUT], feeds)[0]
            if self.layer_pooling == "concat":
                return vectors
            of_layers = vectors.reshape(*input_ids.shape, len(self.layers), self.width)
            combine = np.mean if self.layer_pooling == "mean" else np.sum
            combined: FloatArray = combine(of_layers, axis=2)
            return combined

    def _make_parameters(
        self, position_embeddings: bool, kernel_bits: int | None
    ) -> Mapping[str, Parameter]:
        model = self.model
        depth = depth_of(self.layers)
        made = model.architecture.parameters(
            model.weights, model.config, depth, position_embeddings=position_embeddings
        )
        bits = (kernel_bits or exact_kernel_bits()) if self.precision == "int8" else None
        return dict(finish(made, model.weights.origin, dtype=self.dtype, kernel_bits=bits))

    def _start(self, graph: bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The optimizations would replace operators with slower ones.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Otherwise a memory plan is kept for every shape of a batch.
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # errors are raised
        # ONNX Runtime checks that the file of the parameters exists, but does not read it.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(PARAMETER_FILE.parent)
        )
        for name, value in self._parameters.items():
            options.add_initializer(name, value)
        providers = [_CUDA, _CPU] if self.device == "cuda" else [_CPU]
        with _memory_shortage():
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        # ONNX Runtime only logs that a provider does not work, and uses the next one.
        if session.get_providers()[0] != providers[0]:
            raise ModelError(
                "onnxruntime-gpu cannot use the GPU: install the CUDA and cuDNN libraries that it "
                "needs, or choose device 'cpu'"
            )
        return session


def _absolute(layers: Layers, model: Model) -> tuple[Layer, ...]:
    """Return the layers, the hidden ones counted from the first."""
    n = model.config.num_hidden_layers
    if layers == "all":
        return "embeddings", *range(n)
    for layer in layers:
        if layer != "embeddings" and not -n <= layer < n:
            raise UsageError(
                f"there is no layer {layer}: {model.name} has {n}, from -{n} or 0 (the first) to "
                f"-1 or {n - 1} (the last)"
            )
    if not layers:
        raise UsageError("give at least one layer")
    return tuple(layer if layer == "embeddings" else layer % n for layer in layers)


def _choose_device(device: Device, precision: Precision) -> Literal["cpu", "cuda"]:
    has_cuda = _CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise UsageError("device 'cuda' needs onnxruntime-gpu: install it in place of onnxruntime")
    # The CUDA provider has no products of dynamically quantized integers.
    if device == "cuda" and precision == "int8":
        raise UsageError("precision 'int8' is for the CPU; on a GPU, 'fp16' is the fast one")
    if has_cuda and device != "cpu" and precision != "int8":
        return "cuda"
    if precision == "fp16":
        raise UsageError("precision 'fp16' is for GPUs; on the CPU, 'int8' is the fast one")
    return "cpu"


@contextmanager
def _memory_shortage() -> Iterator[None]:
    """Raise ONNX Runtime's failures to allocate memory as MemoryShortageError."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        yield
    except (state.Fail, state.RuntimeException, MemoryError) as error:
        # Other failures of the runtime are bugs in a graph.
        is_shortage = any(text in str(error) for text in ("allocate memory", "bad_alloc"))
        if not is_shortage and not isinstance(error, MemoryError):
            raise
        raise MemoryShortageError("there is not enough memory for the model") from error
