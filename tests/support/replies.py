"""Requests to a bert-serving-server with various flags, and recorded replies of the genuine one.

The recording contains the replies for the tiny model of the tests: the info frames, and every 16th
column of the vectors. ``tests/serve/test_genuine_replies.py`` checks that it is up to date, and can
record it again.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bert_serving.client import BertClient

from .genuine import NONE

__all__ = [
    "FLAGS",
    "MANY",
    "REQUESTS",
    "Reply",
    "ask",
    "assert_same",
    "common_settings",
    "load_recording",
    "requests_for",
    "save_recording",
    "settings_of",
]

Texts = list[Any]

_RECORDING = Path(__file__).parents[1] / "data" / "genuine_replies.json.gz"
_COLUMNS = slice(None, None, 16)
_DIGITS = 5


class Reply(NamedTuple):
    info: dict[str, Any]
    vectors: np.ndarray


# --- Requests ---------------------------------------------------------------------------------

WORDS = ["hank", "plays", "zz", "unaffable", "the", "!", "don't", "\N{SNOWMAN}", "東京"]

# White space, characters that BERT deletes, pieces of a pair, and sentences that are too long.
ODD: Texts = [
    "a\u00a0b\u2003c\u2028d\u3000e\tf",
    "a\nb ||| c",
    "a ||| b\nc",
    " \u200b ",
    " ",
    "a" * 101,
    "a\x0bb\x85c\x1cd",
    "\ud800a\udfff",
    "| ||| [SEP]",
    "the " * 80,
    "a",
    "[UNK] [CLS]",
]

PAIRS: Texts = [
    "hello world ||| hank plays",
    "hello ||| world ||| hank",
    "hello |||",
    "||| hello",
    "hello|||world",
    "hello ||| ",
    "the " * 70 + "||| " + "hank " * 3,
    "the " * 3 + "||| " + "hank " * 70,
    "the " * 40 + "||| " + "hank " * 40,
    "single",
]

TOKENIZED: Texts = [
    ["hello", "world"],
    ["hank", "##s", "Hank", "no such piece", "", "[SEP]"],
    ["the"] * 80,
    ["the"] * 23,
    ["the"] * 25,
    ["a", "|||", "b", "|||", "c"],
    ["|||", "b"],
    ["a", "|||"],
    ["|||"],
    ["the"] * 40 + ["|||"] + ["a"] * 40,
    ["x"],
]

MANY: Texts = [" ".join(WORDS[: 1 + i % 9] * (1 + i % 3)) for i in range(1000)]

REQUESTS: dict[str, Texts] = {
    "odd characters": ODD,
    "pairs": PAIRS,
    "one pair": PAIRS[:1],
    "no pair": PAIRS[-1:],
    "tokenized": TOKENIZED,
    "tokenized, no pair": TOKENIZED[:3],
    "one": ["hello world"],
    "several parts": MANY[:11],
}

# --- Flags ------------------------------------------------------------------------------------

_DYNAMIC = ("-max_seq_len", "NONE")

FLAGS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "none": (*NONE, *_DYNAMIC),
    "fixed length": (*NONE, "-max_seq_len", "12", "-max_batch_size", "7"),
    "parts": (*NONE, *_DYNAMIC, "-max_batch_size", "3", "-mask_cls_sep"),
    "fixed length of embeddings": (
        *(*NONE, *_DYNAMIC, "-fixed_embed_length", "-no_special_token", "-max_batch_size", "5"),
        *("-pooling_layer", "0"),
    ),
    "max": ("-pooling_strategy", "REDUCE_MAX", "-mask_cls_sep", *_DYNAMIC, "-max_batch_size", "4"),
    "mean and max": (
        *("-pooling_strategy", "REDUCE_MEAN_MAX", "-pooling_layer", "-1", "-3"),
        *("-no_position_embeddings", "-show_tokens_to_client", "-mask_cls_sep"),
    ),
    "first": ("-pooling_strategy", "CLS_TOKEN", "-no_special_token", "-fixed_embed_length"),
    "last": ("-pooling_strategy", "LAST_TOKEN", "-max_seq_len", "10"),
    "first, masked": (
        *("-pooling_strategy", "FIRST_TOKEN", "-mask_cls_sep", *_DYNAMIC, "-max_batch_size", "20"),
        *("-pooling_layer", "-1", "-1", "-2"),
    ),
}


def requests_for(flags: tuple[str, ...], requests: Mapping[str, Texts]) -> dict[str, Texts]:
    """Return the requests that do not crash the genuine server with these flags."""
    if "-no_special_token" not in flags:
        return dict(requests)
    # It does not truncate untokenized sentences, and one that is too long crashes its worker.
    return {
        name: texts
        if isinstance(texts[0], list)
        else [text for text in texts if len(text) < 20] or ["hello ||| world"]
        for name, texts in requests.items()
    }


# --- Replies ----------------------------------------------------------------------------------


def ask(client: BertClient, texts: Texts) -> Reply:
    """Send texts without the checks of the client, and decode the reply as it does."""
    client.receiver.rcvtimeo = 60_000
    number = client._send(json.dumps(texts).encode(), len(texts))
    _, (_, info, data, _) = client._recv(number)
    decoded = json.loads(info)
    vectors = np.frombuffer(data, decoded["dtype"]).reshape(decoded["shape"])
    return Reply(decoded, vectors)


def assert_same(ours: Reply, theirs: Reply, flags: tuple[str, ...]) -> None:
    """Check that our reply equals the genuine one, which may contain only some columns."""
    assert ours.info == theirs.info
    vectors = ours.vectors
    if theirs.vectors.shape[-1] < vectors.shape[-1]:
        vectors = vectors[..., _COLUMNS]
    # If all pieces are masked, attention scores are about -10,000, with few digits left in float32.
    tolerance = 2e-3 if {"FIRST_TOKEN", "-mask_cls_sep"} <= set(flags) else 1e-4
    np.testing.assert_allclose(vectors, theirs.vectors, rtol=1e-4, atol=tolerance)


# Settings that differ between any two servers.
_SERVER_SPECIFIC = {
    *("client", "num_process", "ventilator -> worker", "worker -> sink", "ventilator <-> sink"),
    *("server_current_time", "num_concurrent_socket", "tensorflow_version", "python_version"),
    *("pyzmq_version", "zmq_version", "server_start_time", "port", "port_out", "graph_tmp_dir"),
    *("cpu", "model_dir"),
}


def settings_of(client: BertClient) -> dict[str, Any]:
    """Return the settings of a server, and the names of its statistics under ``statistic``."""
    client.encode(["a"])
    return {
        name: sorted(value) if name == "statistic" else value
        for name, value in client.server_status.items()
    }


def common_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that two servers have in common; None for the values that differ."""
    return {
        name: None if name in _SERVER_SPECIFIC else value
        for name, value in settings.items()
        if name != "bert_tokemb_version"
    }


def save_recording(label: str, settings: Mapping[str, Any], replies: Mapping[str, Reply]) -> None:
    """Save the settings and the replies of the genuine server under the label of its flags."""
    content = _read() if _RECORDING.exists() else {}
    content[label] = {"settings": settings, "replies": {k: _to_json(v) for k, v in replies.items()}}
    text = json.dumps(content, indent=0, sort_keys=True)
    _RECORDING.write_bytes(gzip.compress(text.encode(), mtime=0))


def load_recording(label: str) -> tuple[dict[str, Any], dict[str, Reply]]:
    """Return the recorded settings, and the replies by request, for the label of some flags."""
    found = _read()[label]
    return found["settings"], {k: _from_json(v) for k, v in found["replies"].items()}


def _read() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(gzip.decompress(_RECORDING.read_bytes()))
    return content


def _to_json(reply: Reply) -> dict[str, Any]:
    columns = reply.vectors[..., _COLUMNS].astype(float)
    return {"info": reply.info, "vectors": columns.round(_DIGITS).tolist()}


def _from_json(value: Mapping[str, Any]) -> Reply:
    return Reply(value["info"], np.array(value["vectors"], np.float32))
