"""A model at work: pieces in, vectors of hidden layers out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from ..errors import ModelError, UsageError
from ..types import BatchLimits, FloatArray
from .cpus import available_cpus, exact_bits
from .graph import INPUTS, NOWHERE, OUTPUT, build_graph
from .loading import Model
from .parameters import Parameter, checksum, parameters

__all__ = ["Device", "Engine", "Precision"]

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["fp32", "fp16", "int8"]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"

# Measured on two cores with 2 MiB of cache each. Batches of one length need no padding, and no
# sentence's vectors depend on the others; so cut, they are mostly smaller.
_ON_CPU = BatchLimits(pieces=512, sentences=512, uniform=True)
# A GPU is the quicker the more it gets at once.
_ON_GPU = BatchLimits(pieces=16384, sentences=2048)


class Engine:
    """Computes hidden layers of a BERT; may be called by several threads at a time.

    On the CPU each call computes in the thread that calls: to use several processors, call from
    several threads. A batch for each keeps all of them busy; one batch shared by all would have
    them wait for one another at every operator.

    Args:
        model: What to compute.
        layers: Which hidden layers, side by side in this order: 0 for the first above the
            embeddings, -1 for the last, as ``bert-serving-start -pooling_layer`` counts them.
        device: ``auto`` is a GPU where onnxruntime-gpu finds one, and else the CPU.
        precision: ``int8`` quantizes the weights, and the vectors before each product, for the
            CPU; ``fp16`` is for GPUs.
        threads: How many threads will call; by default one for each available processor.
        positions: Whether a piece's vector depends on its place in the sentence, as in every
            BERT it does.

    Raises:
        UsageError: the model has no such layer, or the device no such precision.
        ModelError: weights are missing or damaged, or there is not enough memory.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[int] = (-2,),
        *,
        device: Device = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        positions: bool = True,
    ) -> None:
        self.model = model
        self.layers = _resolve(layers, model)
        self.device = _choose(device, precision)
        self.precision = precision
        self.threads = threads or available_cpus()
        self.width = len(self.layers) * model.config.width
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if precision == "fp16" else np.float32)
        values = dict(_parameters(model, max(self.layers) + 1, precision))
        if not positions:
            values["position_embeddings"] = np.zeros_like(values["position_embeddings"])
        self.checksum = checksum(values)
        """Of the weights, as far as they are computed with."""
        # Held, since the session reads them where they lie.
        self._held = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in values.items()
        }
        self._session = self._start(build_graph(model.config, self.layers, values))

    @property
    def batch_limits(self) -> BatchLimits:
        """The batches that suit the device, as was measured."""
        return _ON_CPU if self.device == "cpu" else _ON_GPU

    def run(
        self,
        input_ids: npt.NDArray[np.int32],
        token_type_ids: npt.NDArray[np.int32],
        attention_mask: npt.NDArray[np.int32],
    ) -> FloatArray:
        """Return ``(b, t, c)`` vectors for ``b`` rows of ``t`` pieces.

        Args:
            input_ids: ``(b, t)``, with those of ``[CLS]`` and ``[SEP]``.
            token_type_ids: ``(b, t)``, 0 for a first sentence.
            attention_mask: ``(b, t)``, 1 where a piece may be attended to, and else 0.

        Raises:
            ModelError: there is not enough memory.
        """
        feeds = dict(zip(INPUTS, (input_ids, token_type_ids, attention_mask), strict=True))
        with _telling_shortage():
            vectors: FloatArray = self._session.run([OUTPUT], feeds)[0]
        return vectors

    def _start(self, graph: bytes) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The graph is as it should be: what would be fused is slower so.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Else a plan of the memory is kept for every shape of a batch.
        options.enable_mem_pattern = False
        options.log_severity_level = 4  # errors are raised
        # Where the graph says that its parameters lie, a file must be, which is never read.
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(NOWHERE.parent)
        )
        for name, value in self._held.items():
            options.add_initializer(name, value)
        providers = [_CUDA, _CPU] if self.device == "cuda" else [_CPU]
        with _telling_shortage():
            session = onnxruntime.InferenceSession(graph, options, providers=providers)
        # It takes what works, and only logs what does not.
        if session.get_providers()[0] != providers[0]:
            raise ModelError(
                "onnxruntime-gpu cannot use the GPU: install the CUDA and cuDNN libraries that it "
                "needs, or give --device cpu"
            )
        return session


def _resolve(layers: Sequence[int], model: Model) -> tuple[int, ...]:
    """Count the layers from the first."""
    n = model.config.layers
    for layer in layers:
        if not -n <= layer < n:
            raise UsageError(
                f"there is no layer {layer}: {model.name} has {n}, from -{n} or 0 (the first) to "
                f"-1 or {n - 1} (the last)"
            )
    if not layers:
        raise UsageError("give at least one layer")
    return tuple(layer % n for layer in layers)


def _choose(device: Device, precision: Precision) -> Literal["cpu", "cuda"]:
    there = _CUDA in onnxruntime.get_available_providers()
    if device == "cuda" and not there:
        raise UsageError("--device cuda needs onnxruntime-gpu: install it in place of onnxruntime")
    # Only the CPU multiplies whole numbers of a dynamic range.
    if device == "cuda" and precision == "int8":
        raise UsageError("--precision int8 is for the CPU: on a GPU, fp16 is the quick one")
    if there and device != "cpu" and precision != "int8":
        return "cuda"
    if precision == "fp16":
        raise UsageError("--precision fp16 is for GPUs: on the CPU, int8 is the quick one")
    return "cpu"


def _parameters(model: Model, depth: int, precision: Precision) -> Mapping[str, Parameter]:
    if precision == "int8":
        return dict(parameters(model.weights, depth, bits=exact_bits()))
    made = parameters(model.weights, depth)
    if precision == "fp16":
        return {name: values.astype(np.float16) for name, values in made}
    return dict(made)


@contextmanager
def _telling_shortage() -> Iterator[None]:
    """Make a sentence of the one error that is the machine's fault and none of ours."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        yield
    except (state.Fail, state.RuntimeException, MemoryError) as error:
        if "allocate memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        raise ModelError(
            "there is not enough memory for the model: give fewer --threads, a smaller model, or "
            "--precision int8"
        ) from error
