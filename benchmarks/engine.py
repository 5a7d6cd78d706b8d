"""Speed of the local engine, compared with PyTorch and with the peak of the CPU.

python benchmarks/engine.py [TEXT] [--models minilm base deberta-v2 ...] [--rounds N] [--lines N]
                            [--threads N] [--quick] [--cpu-time]

The same text is processed in turns by: the engine alone, with prepared batches; the same with
int8; ``embed`` in this process; the whole command; and transformers on PyTorch with the same ids,
in the order of the text and sorted by length. All compute the second-to-last layer and no layer
above it: transformers loads a model with one layer fewer.

The other architectures are measured at base size with random weights and the pieces of BERT's
vocabulary: the engine alone, in fp32 and int8, and transformers, sorted by length. All compute the
last layer. ``--cpu-time`` counts the CPU time of one thread, also for the roof, instead of elapsed
time: it depends less on other programs.

The roof is the speed of NumPy's product of two 2048 x 2048 float32 matrices with as many threads:
the best of 8 in a separate process, before or after the measurements, whichever is higher. A piece
counts as 24 c^2 operations in each computed layer, those of the dense layers (ModernBERT: 17 c^2).
[CLS] and [SEP] count as pieces, padding does not, and the products of attention are not counted.

PyTorch is not a dependency of this project. It is measured if it is installed:

    pip install torch transformers
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from common import memory, much_text, report, scratch, seconds_of, take_turns
from safetensors.numpy import load_file, save_file

from bert_tokemb import embed
from bert_tokemb.batching import make_batches
from bert_tokemb.encoders.local import LocalEncoder, LocalSentence
from bert_tokemb.models.cpus import available_cpus
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.loading import Model, load_model
from bert_tokemb.strategies import AVG
from bert_tokemb.types import BatchLimits, EncodedBatch, FloatArray, Sentence
from support.architectures import weights
from support.models import minilm_directory

ALONE = "engine alone"
INT8 = "engine alone, int8"
EMBED = "embed, in this process"
COMMAND = "the whole command"
IN_ORDER = "PyTorch, file order, batches of 32"
SORTED = "PyTorch, sorted, batches of 2,048 pieces"

Batch = Sequence[LocalSentence]


# Title, lines of text, and the targets of the engine: fraction of the roof, multiple of PyTorch's
# speed in file order, and the fraction of it that the whole command keeps.
CASES = {
    "minilm": ("all-MiniLM-L6-v2", 12_000, ("78%, better 90%", "3 x", "90%")),
    "base": ("BERT-base with random weights", 2_000, ("80%, better 90%", "2.5 x", "")),
}

_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "vocab_size": 30_522,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_ROOF, _INT8 = "80%", "2.3 x"


@dataclass(frozen=True)
class Family:
    """An architecture at base size, and its targets."""

    config: Mapping[str, Any]
    of_roof: str = _ROOF
    of_pytorch: str = ""
    int8: str = _INT8


# By model_type, as in config.json. XLM-R and CamemBERT have RoBERTa's graph.
FAMILIES = {
    "distilbert": Family(
        {
            "dim": 768,
            "hidden_dim": 3072,
            "n_layers": 6,
            "n_heads": 12,
            "activation": "gelu",
            **{name: _BASE[name] for name in ("max_position_embeddings", "vocab_size")},
            "pad_token_id": 0,
        }
    ),
    "electra": Family({**_BASE, "embedding_size": 768}),
    "roberta": Family(
        {**_BASE, "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
    ),
    "mpnet": Family({**_BASE, "max_position_embeddings": 514, "pad_token_id": 1}),
    "albert": Family({**_BASE, "embedding_size": 128, "hidden_act": "gelu_new"}),
    "modernbert": Family(
        {
            **{name: value for name, value in _BASE.items() if name != "hidden_act"},
            "intermediate_size": 1152,
            "num_hidden_layers": 22,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "norm_eps": 1e-5,
            "local_attention": 128,
            "global_attn_every_n_layers": 3,
            "global_rope_theta": 160_000.0,
            "local_rope_theta": 10_000.0,
        },
        of_roof="70%",
    ),
    "deberta-v2": Family(
        {
            **_BASE,
            "type_vocab_size": 0,
            "layer_norm_eps": 1e-7,
            "position_biased_input": False,
            "relative_attention": True,
            "position_buckets": 256,
            "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
        },
        of_roof="",
        of_pytorch="1 x",
        int8="",
    ),
}
FAMILY_LINES = 240
MODELS = [*CASES, *FAMILIES]

ROOF = """
import time
import numpy as np

a, b = np.random.default_rng(0).random((2, 2048, 2048), np.float32)
seconds = []
for _ in range(8):
    start = time.perf_counter()
    a @ b
    seconds.append(time.perf_counter() - start)
print(2 * 2048**3 / min(seconds))
"""


def cpu_seconds_of(function: Callable[[], Any]) -> float:
    """Call a function and return the seconds of CPU time that all threads took."""
    start = time.process_time()
    function()
    return time.process_time() - start


def roof(threads: int, *, cpu_time: bool = False) -> float:
    """Return the operations per second of a large matrix product."""
    code = ROOF.replace("perf_counter", "process_time") if cpu_time else ROOF
    variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(variables, str(threads))
    child = [sys.executable, "-c", code]
    return float(subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def model_directory(which: str, folder: Path) -> Path:
    """Return the directory of MiniLM, or write a model with twice its hidden size and layers."""
    small = minilm_directory()
    if which == "minilm":
        return small
    config = json.loads((small / "config.json").read_text("utf-8"))
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers"):
        config[name] *= 2
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "vocab.txt").write_bytes((small / "vocab.txt").read_bytes())
    weights = load_file(small / "model.safetensors")
    save_file(dict(random_weights(weights)), folder / "model.safetensors")
    return folder


def random_weights(small: Mapping[str, FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    """Yield random weights of a model with twice the hidden size and layers of MiniLM."""
    random = np.random.default_rng(0)
    for name, values in small.items():
        if name.endswith("position_ids"):
            continue  # a constant
        shape = [2 * n if n in (384, 1536) else n for n in values.shape]
        layer = re.search(r"(?<=\.layer\.)\d+", name)
        deeper = [name.replace(layer[0], str(int(layer[0]) + 6))] if layer else []
        for one in (name, *deeper):
            if "LayerNorm" in name:
                yield one, np.full(shape, name.endswith("weight"), np.float32)
            else:
                yield one, random.standard_normal(shape, np.float32) * np.float32(0.03)


def family_directory(model_type: str, folder: Path) -> Path:
    """Write a model of a family, with MiniLM's vocabulary."""
    config = {**FAMILIES[model_type].config, "model_type": model_type}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}', "utf-8")
    (folder / "vocab.txt").write_bytes((minilm_directory() / "vocab.txt").read_bytes())
    # The weights of the tests are for narrow models: sums over 768 numbers need smaller ones.
    smaller = {
        name: values * np.float32(1 if values.ndim == 1 else 0.15)
        for name, values in weights(config).items()
    }
    save_file(smaller, folder / "model.safetensors", {"format": "pt"})
    return folder


class PyTorch:
    """A model of transformers, with its default implementation of attention."""

    def __init__(self, directory: Path, model: Model, depth: int, threads: int) -> None:
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(threads)
        self._torch = torch
        self._tokenizer = model.tokenizer
        self._model = transformers.AutoModel.from_pretrained(
            directory, num_hidden_layers=depth, dtype="float32"
        ).eval()
        self._model.pooler = None  # nothing reads its output
        attention = self._model.config._attn_implementation
        print(
            f"\nPyTorch {torch.__version__}, transformers {transformers.__version__}, {attention}"
        )

    def run(self, batch: Batch) -> FloatArray:
        """Return ``(b, t, c)`` vectors."""
        shape = (len(batch), max(prepared.length for prepared in batch))
        ids, mask = np.zeros((2, *shape), np.int64)
        for row, prepared in enumerate(batch):
            pieces = [piece for word in prepared.tokens.pieces for piece in word]
            prefix, suffix = self._tokenizer.prefix, self._tokenizer.suffix
            ids[row, : prepared.length] = [*prefix, *pieces, *suffix]
            mask[row, : prepared.length] = 1
        with self._torch.inference_mode():
            outputs = self._model(*map(self._torch.from_numpy, (ids, mask)))
            vectors: FloatArray = outputs.last_hidden_state.numpy()
        return vectors


def pytorch_if_installed(*arguments: Any) -> PyTorch | None:
    """Return the model on PyTorch, or print a note and return None."""
    missing = [name for name in ("torch", "transformers") if find_spec(name) is None]
    if not missing:
        return PyTorch(*arguments)
    print(f"note: PyTorch is not measured: {' and '.join(missing)} not installed (see --help)")
    return None


def drain(items: Iterable[Any]) -> None:
    """Consume all items without keeping them."""
    deque(items, maxlen=0)


def mean_cosine(one: Iterable[EncodedBatch], other: Iterable[EncodedBatch]) -> float:
    """Return the mean cosine similarity of the vectors of words."""
    cosines = []
    for pair in zip(one, other, strict=True):
        a, b = (AVG.merge(encoded.vectors, encoded.starts, encoded.counts) for encoded in pair)
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines.append((a * b).sum(axis=1)[lengths > 0] / lengths[lengths > 0])
    return float(np.concatenate(cosines).mean())


def largest_difference(one: Iterable[EncodedBatch], other: Iterable[FloatArray]) -> float:
    """Return the largest difference between the vectors of pieces, in batches without padding."""
    return max(
        float(np.abs(encoded.vectors - vectors.reshape(encoded.vectors.shape)).max())
        for encoded, vectors in zip(one, other, strict=True)
    )


def run_command(text: Path, directory: Path, threads: int) -> None:
    """Run the command as a process, including the start of Python."""
    program = [sys.executable, "-m", "bert_tokemb", "embed", text, "--quiet"]
    local = ["--model", directory, "--device", "cpu", "--threads", str(threads)]
    subprocess.run([*program, *local, "-o", text.with_suffix(".pkl")], check=True)


def pytorch_candidates(pytorch: PyTorch, in_order: Batch) -> dict[str, Callable[[], None]]:
    """Return the measurements that use PyTorch."""
    by_32 = [in_order[i : i + 32] for i in range(0, len(in_order), 32)]
    return {
        IN_ORDER: lambda: drain(map(pytorch.run, by_32)),
        SORTED: sorted_by_pytorch(pytorch, in_order),
    }


def sorted_by_pytorch(pytorch: PyTorch, in_order: Batch) -> Callable[[], None]:
    """Return the measurement of PyTorch with sentences sorted by length."""
    by_length = list(make_batches(in_order, BatchLimits(pieces=2048, sentences=2048)))
    return lambda: drain(map(pytorch.run, by_length))


@dataclass(frozen=True)
class Result:
    """The measurements of one model."""

    pieces: int
    work: int
    """Operations for all pieces."""
    roof: float
    """Operations per second."""
    seconds: Mapping[str, float]
    cosine: float
    """Mean cosine similarity of the vectors of int8 and fp32."""
    difference: float | None
    """Largest difference of PyTorch's vectors, if PyTorch is installed."""


def measure(
    directory: Path, lines: Sequence[str], rounds: int, threads: int, folder: Path
) -> tuple[Model, Result]:
    """Measure all implementations alternately."""
    model, text = load_model(str(directory)), folder / "lines.txt"
    text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    start = partial(Engine, model, device="cpu", threads=threads)
    engine, quantized = start(), start(precision="int8")
    depth = max(engine.layers) + 1
    with LocalEncoder(engine) as fp32, LocalEncoder(quantized) as int8:
        in_order = [fp32.prepare(Sentence(i, line.split())) for i, line in enumerate(lines, 1)]
        batches = list(make_batches(in_order, fp32.batch_limits))
        candidates: dict[str, Callable[[], None]] = {
            ALONE: lambda: drain(fp32.encode(batches)),
            INT8: lambda: drain(int8.encode(batches)),
            EMBED: lambda: drain(embed(lines, fp32)),
            COMMAND: partial(run_command, text, directory, threads),
        }
        # Comparing them first also warms up their caches.
        cosine, difference = mean_cosine(fp32.encode(batches), int8.encode(batches)), None
        if pytorch := pytorch_if_installed(directory, model, depth, threads):
            difference = largest_difference(fp32.encode(batches), map(pytorch.run, batches))
            candidates |= pytorch_candidates(pytorch, in_order)
        before = roof(threads)
        seconds = take_turns(rounds, candidates)
        top = max(before, roof(threads))
    pieces = sum(prepared.length for prepared in in_order)
    work = pieces * depth * 24 * model.config.hidden_size**2
    return model, Result(pieces, work, top, seconds, cosine, difference)


def measure_family(
    model_type: str, lines: Sequence[str], rounds: int, threads: int, cpu_time: bool
) -> tuple[Model, Result]:
    """Measure a family: the engine alone in fp32 and int8, and PyTorch."""
    with scratch(memory()) as folder:
        directory = family_directory(model_type, folder)
        model = load_model(str(directory))
        start = partial(Engine, model, (-1,), device="cpu", threads=threads)
        depth = model.config.num_hidden_layers
        with LocalEncoder(start()) as fp32, LocalEncoder(start(precision="int8")) as int8:
            in_order = [fp32.prepare(Sentence(i, line.split())) for i, line in enumerate(lines, 1)]
            batches = list(make_batches(in_order, fp32.batch_limits))
            candidates: dict[str, Callable[[], None]] = {
                ALONE: lambda: drain(fp32.encode(batches)),
                INT8: lambda: drain(int8.encode(batches)),
            }
            # Comparing them first also warms up their caches.
            cosine, difference = mean_cosine(fp32.encode(batches), int8.encode(batches)), None
            if pytorch := pytorch_if_installed(directory, model, depth, threads):
                difference = largest_difference(fp32.encode(batches), map(pytorch.run, batches))
                candidates[SORTED] = sorted_by_pytorch(pytorch, in_order)
            before = roof(threads, cpu_time=cpu_time)
            seconds = take_turns(rounds, candidates, cpu_seconds_of if cpu_time else seconds_of)
            top = max(before, roof(threads, cpu_time=cpu_time))
    pieces = sum(prepared.length for prepared in in_order)
    # ModernBERT: 4 c^2 and three products with intermediate_size 1.5 c, twice.
    factor = 17 if model_type == "modernbert" else 24
    work = pieces * depth * factor * model.config.hidden_size**2
    return model, Result(pieces, work, top, seconds, cosine, difference)


def family_ratios(result: Result, family: Family) -> Iterator[tuple[str, str, str]]:
    """Yield the ratios of a family and their targets."""
    seconds, alone = result.seconds, result.seconds[ALONE]
    yield "", "", "target"
    yield f"{ALONE}: of the roof", f"{result.work / result.roof / alone:.1%}", family.of_roof
    if result.difference is not None:
        yield f"{ALONE}: x {SORTED}", f"{seconds[SORTED] / alone:.2f} x", family.of_pytorch
        yield f"{ALONE}: largest difference from PyTorch", f"{result.difference:.1e}", "5e-5"
    yield f"{INT8}: x fp32", f"{alone / seconds[INT8]:.2f} x", family.int8
    yield f"{INT8}: mean cosine of words with fp32", f"{result.cosine:.4f}", ""


def ratios(result: Result, targets: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the ratios and their targets."""
    seconds, alone = result.seconds, result.seconds[ALONE]
    of_roof, of_pytorch, of_engine = targets
    yield "", "", "target"
    yield f"{ALONE}: of the roof", f"{result.work / result.roof / alone:.1%}", of_roof
    if result.difference is not None:
        yield f"{ALONE}: x {IN_ORDER}", f"{seconds[IN_ORDER] / alone:.2f} x", of_pytorch
        yield f"{ALONE}: x {SORTED}", f"{seconds[SORTED] / alone:.2f} x", ""
        yield f"{ALONE}: largest difference from PyTorch", f"{result.difference:.1e}", "1e-4"
    yield f"{INT8}: x fp32", f"{alone / seconds[INT8]:.2f} x", "1.8 x"
    yield f"{INT8}: mean cosine of words with fp32", f"{result.cosine:.4f}", "0.985"
    yield f"{EMBED}: of the engine alone", f"{alone / seconds[EMBED]:.1%}", ""
    yield f"{COMMAND}: of the engine alone", f"{alone / seconds[COMMAND]:.1%}", of_engine


def figures(result: Result) -> Iterator[tuple[str, str, str, str]]:
    """Yield the absolute figures."""
    for name, taken in result.seconds.items():
        pieces, work = result.pieces / taken, result.work / taken
        yield name, f"{pieces:,.0f} pieces/s", f"{work / 1e9:,.0f} GFLOP/s", f"{taken:.2f} s"


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--rounds", type=int, help="default: 3")
    parser.add_argument(
        "--lines",
        type=int,
        help="use the first N lines; default: 12,000 for minilm, 2,000 for base, 240 for others",
    )
    parser.add_argument("--threads", type=int, default=available_cpus())
    parser.add_argument(
        "--quick", action="store_true", help="use a twelfth of the lines and one round"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure the CPU time of one thread, for models other than minilm and base",
    )
    options = parser.parse_args()
    if options.cpu_time and not set(options.models) <= set(FAMILIES):
        parser.error("--cpu-time needs --models without minilm and base, whose commands are timed")
    lines = much_text(options.text)
    rounds = options.rounds or (1 if options.quick else 3)
    threads = 1 if options.cpu_time else options.threads
    for which in options.models:
        name, n, targets = CASES.get(which, (which, FAMILY_LINES, None))
        own = lines[: options.lines or n // (12 if options.quick else 1)]
        if targets:
            with scratch(memory()) as folder:
                directory = model_directory(which, folder)
                model, result = measure(directory, own, rounds, threads, folder)
            rows, left_out = ratios(result, targets), 1
        else:
            model, result = measure_family(which, own, rounds, threads, options.cpu_time)
            rows, left_out = family_ratios(result, FAMILIES[which]), 0
        layers = model.config.num_hidden_layers
        report(
            f"{name}, {layers - left_out} of {layers} layers of {model.config.hidden_size}; "
            f"{len(own):,} sentences, {result.pieces:,} pieces; threads: {threads}; "
            f"median of {rounds}",
            rows,
        )
        report(f"The roof is {result.roof / 1e9:,.0f} GFLOP/s", figures(result))


if __name__ == "__main__":
    main()
