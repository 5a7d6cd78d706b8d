"""Our server's replies are those of the genuine bert-serving-server, flag for flag."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from bert_serving.client import BertClient

from bert_tokemb import Address
from support.cases import CASES
from support.genuine import NONE, GenuineServer, known_to_the_server
from support.ours import OurServer, client_of
from support.texts import random_words

TOLERANCE = 1e-4
Texts = list[Any]


class Reply(NamedTuple):
    info: dict[str, Any]
    vectors: np.ndarray


def ask(client: BertClient, texts: Texts) -> Reply:
    """Send texts past the client's own checks, and decode the reply as it does."""
    client.receiver.setsockopt(27, 60_000)  # RCVTIMEO
    number = client._send(json.dumps(texts).encode(), len(texts))
    _, (_, info, data, _) = client._recv(number)
    decoded = json.loads(info)
    vectors = np.frombuffer(data, decoded["dtype"]).reshape(decoded["shape"])
    return Reply(decoded, vectors)


def assert_same(ours: Reply, theirs: Reply, tolerance: float = TOLERANCE) -> None:
    assert ours.info == theirs.info
    assert ours.vectors.shape == theirs.vectors.shape
    np.testing.assert_allclose(ours.vectors, theirs.vectors, rtol=1e-4, atol=tolerance)


WORDS = ["hank", "plays", "zz", "unaffable", "the", "!", "don't", "\N{SNOWMAN}", "東京"]


def plain(cased: bool) -> Texts:
    """Sentences of all lengths, of odd characters, with odd spaces, too long ones."""
    lines = [" ".join(case.words) for case in CASES if case.cased == cased and not case.newer]
    words = known_to_the_server(random_words(Random(5), 1200))
    lines += [" ".join(words[i : i + 1 + i % 9]) for i in range(0, len(words), 9)]
    lines += [
        "a\u00a0b\u2003c\u2028d\u3000e\tf",
        "a\nb ||| c",
        "a ||| b\nc",
        " \u200b ",
        " ",
        "a" * 101,
    ]
    lines += ["a\x0bb\x85c\x1cd", "\ud800a\udfff", "| ||| [SEP]", "the " * 80, "a", "[UNK] [CLS]"]
    return lines


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
    "pairs": PAIRS,
    "a pair alone": PAIRS[:1],
    "no pair": PAIRS[-1:],
    "tokenized": TOKENIZED,
    "tokenized, no pair": TOKENIZED[:3],
    "one": ["hello world"],
    "several parts": MANY[:11],
    "a thousand": MANY,
}

COMMON = ("-max_seq_len", "NONE")

FLAGS: dict[str, tuple[str, ...]] = {
    "defaults": (),
    "none": (*NONE, *COMMON),
    "fixed": (*NONE, "-max_seq_len", "12", "-max_batch_size", "7"),
    "parts": (*NONE, *COMMON, "-max_batch_size", "3", "-mask_cls_sep"),
    "fixed length of embeddings": (
        *(*NONE, *COMMON, "-fixed_embed_length", "-no_special_token", "-max_batch_size", "5"),
        *("-pooling_layer", "0"),
    ),
    "max": ("-pooling_strategy", "REDUCE_MAX", "-mask_cls_sep", *COMMON, "-max_batch_size", "4"),
    "mean and max": (
        *("-pooling_strategy", "REDUCE_MEAN_MAX", "-pooling_layer", "-1", "-3"),
        *("-no_position_embeddings", "-show_tokens_to_client", "-mask_cls_sep"),
    ),
    "first": ("-pooling_strategy", "CLS_TOKEN", "-no_special_token", "-fixed_embed_length"),
    "last": ("-pooling_strategy", "LAST_TOKEN", "-max_seq_len", "10"),
    "first, hidden": (
        *("-pooling_strategy", "FIRST_TOKEN", "-mask_cls_sep", *COMMON, "-max_batch_size", "20"),
        *("-pooling_layer", "-1", "-1", "-2"),
    ),
}


@pytest.fixture(scope="module", params=FLAGS.values(), ids=FLAGS)
def both(request: pytest.FixtureRequest, uncased_model: Path) -> Iterator[tuple[Any, Any]]:
    options = ("-model_dir", uncased_model, *request.param)
    with GenuineServer(*options) as theirs, OurServer(*options) as ours:
        yield ours, theirs


def test_replies_are_the_same(both: tuple[OurServer, GenuineServer]) -> None:
    ours, theirs = both
    no_special = "-no_special_token" in ours.command
    # Where every piece is hidden, all scores are near -10,000, of which float32 keeps 0.001.
    tolerance = 2e-3 if {"FIRST_TOKEN", "-mask_cls_sep"} <= set(ours.command) else TOLERANCE
    with client_of(ours.address) as our_client, client_of(theirs.address) as their_client:
        for texts in (plain(cased=False), *REQUESTS.values()):
            if no_special and not isinstance(texts[0], list):
                # It does not cut these, and its worker dies of one that is too long.
                texts = [text for text in texts if len(text) < 20] or ["hello ||| world"]
            assert_same(ask(our_client, texts), ask(their_client, texts), tolerance)


def settings_of(address: Address) -> tuple[dict[str, Any], dict[str, Any]]:
    with client_of(address) as client:
        return client.server_config, client.server_status


# What differs by its nature; the others are settings.
OF_ONE_SERVER = {
    *("client", "num_process", "ventilator -> worker", "worker -> sink", "ventilator <-> sink"),
    *("server_current_time", "num_concurrent_socket", "tensorflow_version", "python_version"),
    *("pyzmq_version", "zmq_version", "server_start_time", "port", "port_out", "graph_tmp_dir"),
    *("cpu",),
}


def test_clients_are_told_the_same(both: tuple[OurServer, GenuineServer]) -> None:
    ours, theirs = both
    (our_config, our_status), (config, status) = map(settings_of, (ours.address, theirs.address))
    assert our_config.pop("bert_tokemb_version")
    assert our_config.keys() == config.keys()
    for name in config.keys() - OF_ONE_SERVER:
        assert our_config[name] == config[name], name
    assert our_config["server_version"] == "1.10.0"
    assert our_config["port"] == ours.address.port
    assert our_status["statistic"].keys() == status["statistic"].keys()


def test_a_tuned_model_and_other_names(
    uncased_model: Path, cased_model: Path, tmp_path: Path
) -> None:
    """The vocabulary and the shape from one directory, the weights from another; cased."""
    tuned, base = tmp_path / "tuned", tmp_path / "base"
    tuned.mkdir()
    base.mkdir()
    for path in cased_model.glob("bert_model.ckpt*"):
        shutil.copy(path, tuned / path.name.replace("bert_model", "model.tuned"))
    shutil.copy(cased_model / "vocab.txt", base)
    shutil.copy(cased_model / "bert_config.json", base / "other.json")
    options = ("-model_dir", base, "-tuned_model_dir", tuned, "-ckpt_name", "model.tuned.ckpt")
    more = ("-config_name", "other.json", "-cased_tokenization", *NONE, *COMMON)
    with GenuineServer(*options, *more) as theirs, OurServer(*options, *more) as ours:
        with client_of(ours.address) as our_client, client_of(theirs.address) as their_client:
            texts = plain(cased=True)
            assert_same(ask(our_client, texts), ask(their_client, texts))
            assert our_client.server_config["do_lower_case"] is False
