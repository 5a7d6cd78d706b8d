"""Small random models of every architecture, and the hidden states that transformers computes.

The weights come from a seeded ``RandomState``, whose stream NumPy keeps the same for ever. Only the
expected hidden states are stored; ``tests/record_hidden_states.py`` computes them again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bert_tokemb.models.architectures import find_architecture
from bert_tokemb.models.engine import Engine
from bert_tokemb.models.loading import Model

__all__ = [
    "CASES",
    "PATH",
    "PREFIXES",
    "Array",
    "Case",
    "Tensors",
    "expected",
    "feeds",
    "model",
    "rows",
    "run",
    "start",
    "weights",
]

Array = np.ndarray[Any, Any]
Json = dict[str, Any]

PATH = Path(__file__).parents[1] / "data" / "hidden_states.npz"

PREFIXES = {
    "albert": "albert.",
    "bert": "bert.",
    "camembert": "roberta.",
    "deberta-v2": "deberta.",
    "distilbert": "distilbert.",
    "electra": "electra.",
    "modernbert": "model.",
    "mpnet": "mpnet.",
    "roberta": "roberta.",
    "xlm-roberta": "roberta.",
}
"""By ``model_type``: what the names of tensors begin with if the model has a head."""


@dataclass(frozen=True)
class Case:
    """A model, and the lengths of the sentences that it computes."""

    config: Json
    lengths: Sequence[int] = (16,)
    special: Sequence[int] = field(default=())
    """Pieces that the sentences contain in any case."""

    @property
    def model_type(self) -> str:
        """The architecture."""
        found: str = self.config["model_type"]
        return found


_SIZES: Json = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
_OTHER: Json = {
    **_SIZES,
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-3,
    "hidden_act": "gelu_new",
}
_DISTILBERT: Json = {
    "model_type": "distilbert",
    "dim": 32,
    "hidden_dim": 48,
    "n_layers": 3,
    "n_heads": 4,
    "vocab_size": 60,
    "max_position_embeddings": 40,
    "activation": "gelu",
    "pad_token_id": 0,
}
_MODERNBERT: Json = {
    **{name: value for name, value in _SIZES.items() if name != "hidden_act"},
    "model_type": "modernbert",
    "hidden_activation": "gelu",
    "norm_eps": 1e-5,
    "max_position_embeddings": 1200,
    "local_attention": 6,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
    **dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 1),
}
_DEBERTA: Json = {
    **_SIZES,
    "model_type": "deberta-v2",
    "max_position_embeddings": 1200,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "relative_attention": True,
    "position_buckets": 16,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
}

CASES: Mapping[str, Case] = {
    "bert": Case({**_SIZES, "model_type": "bert"}),
    "bert, long": Case(
        {**_OTHER, "model_type": "bert", "max_position_embeddings": 1200}, (16, 1100)
    ),
    "bert, other settings": Case(
        {**_OTHER, "model_type": "bert", "pad_token_id": 7, "type_vocab_size": 1}
    ),
    "distilbert": Case(_DISTILBERT),
    "distilbert, other settings": Case(
        {
            **_DISTILBERT,
            "n_heads": 1,
            "n_layers": 1,
            "activation": "relu",
            "sinusoidal_pos_embds": True,
            "pad_token_id": 5,
        }
    ),
    "electra": Case({**_SIZES, "model_type": "electra", "embedding_size": 32}),
    "electra, smaller embeddings": Case({**_OTHER, "model_type": "electra", "embedding_size": 12}),
    "roberta": Case(
        {**_SIZES, "model_type": "roberta", "pad_token_id": 1, "type_vocab_size": 1}, special=[1, 1]
    ),
    "xlm-roberta": Case({**_OTHER, "model_type": "xlm-roberta", "pad_token_id": 0}, special=[0, 1]),
    "camembert": Case(
        {**_SIZES, "model_type": "camembert", "pad_token_id": 6, "num_attention_heads": 1},
        special=[6],
    ),
    "mpnet": Case(
        {**_SIZES, "model_type": "mpnet", "max_position_embeddings": 1200},
        (16, 300, 1100),
        special=[1],
    ),
    "mpnet, other settings": Case(
        # The padding index stays 1.
        {**_OTHER, "model_type": "mpnet", "max_position_embeddings": 302, "pad_token_id": 3},
        (16, 300),
        special=[1, 3],
    ),
    "albert": Case({**_SIZES, "model_type": "albert", "embedding_size": 16}),
    "albert, groups": Case(
        {
            **_OTHER,
            "model_type": "albert",
            "embedding_size": 24,
            "num_hidden_layers": 3,
            "num_hidden_groups": 2,
            "inner_group_num": 2,
        }
    ),
    "modernbert": Case(_MODERNBERT, (16, 300, 1100)),
    "modernbert, other settings": Case(
        {
            **_MODERNBERT,
            "num_attention_heads": 2,
            "hidden_activation": "relu",
            "norm_eps": 1e-3,
            "local_attention": 131,
            "max_position_embeddings": 302,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 70.0},
            },
        },
        (16, 300),
    ),
    "deberta-v2": Case(_DEBERTA, (16, 300, 1100)),
    "deberta-v2, c2p": Case(
        {
            **_DEBERTA,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "max_position_embeddings": 302,
            "type_vocab_size": 3,
            "layer_norm_eps": 1e-3,
            "max_relative_positions": 9,
            "position_buckets": -1,
            "norm_rel_ebd": "none",
            "share_att_key": False,
            "pos_att_type": ["c2p"],
            "position_biased_input": True,
        },
        (16, 300),
    ),
    "deberta-v2, p2c": Case(
        {**_DEBERTA, "share_att_key": False, "pos_att_type": ["p2c"], "num_hidden_layers": 1},
        (16, 300),
    ),
}


# --- Weights ----------------------------------------------------------------------------------


def weights(config: Mapping[str, Any]) -> dict[str, Array]:
    """Return random weights by Hugging Face's names, always the same for an architecture."""
    random = np.random.RandomState(zlib.crc32(config["model_type"].encode()))
    made = {}
    for name, shape in _SHAPES[config["model_type"]](config):
        values = random.standard_normal(shape) * 0.2
        is_gamma = len(shape) == 1 and name.endswith("weight")
        made[name] = (values + is_gamma).astype(np.float32)
    return made


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _pair(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _embeddings(config: Mapping[str, Any], size: int, *tables: str) -> Shapes:
    numbers = {
        "word": config["vocab_size"],
        "position": config["max_position_embeddings"],
        "token_type": config.get("type_vocab_size", 0),
    }
    for table in tables:
        if numbers[table]:
            yield f"embeddings.{table}_embeddings.weight", (numbers[table], size)


def _layer(config: Mapping[str, Any], place: str, *names: str) -> Shapes:
    """Yield the shapes of a layer, given the names in the order of the computation."""
    c = config.get("hidden_size", config.get("dim"))
    inner = config.get("intermediate_size", config.get("hidden_dim"))
    shapes = [(c, c)] * 4 + [(c,), (inner, c), (c, inner), (c,)]
    for name, shape in zip(names, shapes, strict=True):
        yield from _pair(f"{place}.{name}", *shape)


_BERT = (
    *(f"attention.self.{name}" for name in ("query", "key", "value")),
    *("attention.output.dense", "attention.output.LayerNorm"),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)


def _bert(config: Mapping[str, Any]) -> Shapes:
    c = config["hidden_size"]
    e = config.get("embedding_size", c)
    yield from _embeddings(config, e, "word", "position", "token_type")
    yield from _pair("embeddings.LayerNorm", e)
    if e != c:
        yield from _pair("embeddings_project", c, e)
    for i in range(config["num_hidden_layers"]):
        yield from _layer(config, f"encoder.layer.{i}", *_BERT)


def _distilbert(config: Mapping[str, Any]) -> Shapes:
    yield from _embeddings(config, config["dim"], "word", "position")
    yield from _pair("embeddings.LayerNorm", config["dim"])
    names = [f"attention.{name}_lin" for name in ("q", "k", "v", "out")]
    names += ["sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"]
    for i in range(config["n_layers"]):
        yield from _layer(config, f"transformer.layer.{i}", *names)


def _mpnet(config: Mapping[str, Any]) -> Shapes:
    c = config["hidden_size"]
    yield from _embeddings(config, c, "word", "position")
    yield from _pair("embeddings.LayerNorm", c)
    yield "encoder.relative_attention_bias.weight", (32, config["num_attention_heads"])
    names = [f"attention.attn.{name}" for name in "qkvo"]
    names += ["attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
    for i in range(config["num_hidden_layers"]):
        yield from _layer(config, f"encoder.layer.{i}", *names)


def _albert(config: Mapping[str, Any]) -> Shapes:
    c, e = config["hidden_size"], config["embedding_size"]
    yield from _embeddings(config, e, "word", "position", "token_type")
    yield from _pair("embeddings.LayerNorm", e)
    yield from _pair("encoder.embedding_hidden_mapping_in", c, e)
    names = [f"attention.{name}" for name in ("query", "key", "value", "dense", "LayerNorm")]
    names += ["ffn", "ffn_output", "full_layer_layer_norm"]
    for group in range(config.get("num_hidden_groups", 1)):
        for inner in range(config.get("inner_group_num", 1)):
            place = f"encoder.albert_layer_groups.{group}.albert_layers.{inner}"
            yield from _layer(config, place, *names)


def _modernbert(config: Mapping[str, Any]) -> Shapes:
    c, inner = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.tok_embeddings.weight", (config["vocab_size"], c)
    yield "embeddings.norm.weight", (c,)
    for i in range(config["num_hidden_layers"]):
        if i:
            yield f"layers.{i}.attn_norm.weight", (c,)
        yield f"layers.{i}.attn.Wqkv.weight", (3 * c, c)
        yield f"layers.{i}.attn.Wo.weight", (c, c)
        yield f"layers.{i}.mlp_norm.weight", (c,)
        yield f"layers.{i}.mlp.Wi.weight", (2 * inner, c)
        yield f"layers.{i}.mlp.Wo.weight", (c, inner)
    yield "final_norm.weight", (c,)


def _deberta(config: Mapping[str, Any]) -> Shapes:
    c = config["hidden_size"]
    tables = ["position"] if config["position_biased_input"] else []
    yield from _embeddings(config, c, "word", *tables, "token_type")
    yield from _pair("embeddings.LayerNorm", c)
    most = config["max_relative_positions"]
    most = config["max_position_embeddings"] if most < 1 else most
    buckets = config["position_buckets"]
    yield "encoder.rel_embeddings.weight", (2 * (buckets if buckets > 0 else most), c)
    if config["norm_rel_ebd"] == "layer_norm":
        yield from _pair("encoder.LayerNorm", c)
    names = [*(f"attention.self.{name}_proj" for name in ("query", "key", "value")), *_BERT[3:]]
    for i in range(config["num_hidden_layers"]):
        yield from _layer(config, f"encoder.layer.{i}", *names)
        if not config["share_att_key"]:
            for term, name in (("c2p", "key"), ("p2c", "query")):
                if term in config["pos_att_type"]:
                    place = f"encoder.layer.{i}.attention.self.pos_{name}_proj"
                    yield from _pair(place, c, c)


_SHAPES = {
    **dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta", "camembert"), _bert),
    "albert": _albert,
    "deberta-v2": _deberta,
    "distilbert": _distilbert,
    "modernbert": _modernbert,
    "mpnet": _mpnet,
}


# --- Models -----------------------------------------------------------------------------------


class Tensors:
    """Weights in memory; see :class:`bert_tokemb.models.weights.TensorFile`."""

    def __init__(self, values: Mapping[str, Array]) -> None:
        self._values = values
        self.shapes = {name: value.shape for name, value in values.items()}

    def read(self, name: str) -> Array:
        """Return a tensor."""
        return self._values[name].copy()


def model(config: Json, values: Mapping[str, Array] | None = None) -> Model:
    """Return a model without a vocabulary."""
    path = Path("config.json")
    architecture = find_architecture(path, config)
    read = architecture.read_config(path, config)
    tensors = Tensors(weights(config) if values is None else values)
    opened = architecture.open_weights(tensors, read, "model.safetensors")
    vocabulary: Any = None
    return Model("model", "model", architecture, read, vocabulary, opened)


def start(config: Json, layers: Sequence[Any] = (-1,), **options: Any) -> Engine:
    """Start an engine on the CPU."""
    return Engine(model(config), layers, device="cpu", threads=1, **options)


def feeds(case: Case, t: int, b: int = 1) -> tuple[Array, Array, Array]:
    """Return ids, token types and a mask of ones, ``(b, t)``, always the same."""
    random = np.random.RandomState(t)
    ids, types = (random.randint(0, n, (b, t)) for n in (case.config["vocab_size"], 1 << 30))
    places = range(3, 3 + 2 * len(case.special), 2)
    for place, piece in zip(places, case.special, strict=True):
        ids[:, place % t] = piece
    types %= max(case.config.get("type_vocab_size", 0), 1)
    if case.model_type in ("modernbert", "mpnet", "distilbert"):
        types[:] = 0
    mask = np.ones((b, t), np.int32)
    return ids.astype(np.int32), types.astype(np.int32), mask


def run(engine: Engine, ids: Array, types: Array, mask: Array) -> Array:
    """Return ``(layers, b, t, hidden_size)`` vectors."""
    vectors = engine.run(ids, types, mask)
    return np.stack(np.split(vectors, len(engine.layers), axis=-1))


def rows(t: int) -> Sequence[int]:
    """Return the positions of a sentence whose vectors are stored: all, or four if it is long."""
    return range(t) if t <= 16 else (0, 1, t // 2, t - 1)


@cache
def expected() -> Mapping[str, Array]:
    """Return the stored states by ``CASE/LENGTH``: ``(1 + layers, rows, hidden_size)``."""
    with np.load(PATH) as stored:
        return dict(stored)
