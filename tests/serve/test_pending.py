"""From a request to its reply, without a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb.serve.features import FeatureMaker, RequestError
from bert_tokemb.serve.pending import NO_MEMORY, PendingRequest
from bert_tokemb.serve.settings import Limits
from support.pending import WIDTH, maker_of, request_of


@pytest.fixture(scope="module")
def maker(shared_tiny: Path) -> FeatureMaker:
    return maker_of(shared_tiny)


def answer(request: PendingRequest, maker: FeatureMaker) -> tuple[dict[str, Any], np.ndarray]:
    """Give all pieces vectors of ones; return the info and the data of the reply."""
    rows = []
    while not request.is_prepared:
        rows += request.prepare(maker)
    for row in rows:
        request.store(row, np.ones((row.length, WIDTH), np.float32))
    request.count(len(rows))
    assert request.is_complete
    info, vectors = request.reply()
    return json.loads(info), vectors


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({}, 8),
        ({"fixed_embed_length": True}, 64),
        ({"fixed_embed_length": True, "max_seq_len": 25}, 8),
    ],
)
def test_reply_is_padded_to_the_longest_part(
    settings: dict[str, Any], length: int, maker: FeatureMaker
) -> None:
    settings |= {"max_batch_size": 1, "show_tokens_to_client": False}
    request = request_of("a", 3, 6, **settings)
    info, vectors = answer(request, maker)
    assert info == {"dtype": "float32", "shape": [2, length, WIDTH], "tokens": ""}
    assert [int(own.any(axis=1).sum()) for own in vectors] == [5, 8]


def test_reply_contains_tokens_on_request(maker: FeatureMaker) -> None:
    info, vectors = answer(request_of("a", 2, 1), maker)
    assert info["tokens"] == [["[CLS]", "the", "the", "[SEP]"], ["[CLS]", "the", "[SEP]"]]
    assert vectors.shape == (2, 4, WIDTH)


def test_request_counts_its_rows(maker: FeatureMaker) -> None:
    request = request_of("a", 2, 1, 1, max_batch_size=2)
    assert (request.sentences, request.size, request.estimate) == (3, 13, 2 * 3 + 1)
    assert not request.is_prepared
    assert [row.index for row in request.prepare(maker)] == [0, 1]
    assert not request.is_prepared
    assert [row.index for row in request.prepare(maker)] == [2]
    assert request.is_prepared
    request.count(2)
    assert not request.is_complete
    request.count(1)
    assert request.is_complete


def test_prepare_refuses_reply_that_is_too_large(maker: FeatureMaker) -> None:
    limits = Limits(reply_bytes=8 * WIDTH * 4)
    request_of("a", 6, limits=limits).prepare(maker)
    with pytest.raises(RequestError, match=r"would take 288 B: send fewer"):
        request_of("a", 7, limits=limits).prepare(maker)


def test_prepare_refuses_reply_that_memory_cannot_hold(maker: FeatureMaker) -> None:
    request = request_of(
        "a",
        1,
        width=1 << 20,
        max_length=1 << 28,
        limits=Limits(reply_bytes=1 << 60),
        fixed_embed_length=True,
    )
    with pytest.raises(RequestError, match="would take 1125.9 TB: send fewer"):
        request.prepare(maker)


def test_request_is_too_large_by_its_sentences_alone() -> None:
    limits = Limits(reply_bytes=3 * WIDTH * 4)
    assert not request_of("a", 0, 0, 0, limits=limits).is_too_large
    assert request_of("a", 0, 0, 0, 0, limits=limits).is_too_large


class _Unrepresentable(list[str]):
    """Tokens whose JSON does not fit into memory."""

    def __iter__(self) -> Any:
        raise MemoryError


class _MakerOfMany:
    """Makes tokens whose JSON does not fit into memory."""

    def __init__(self, maker: FeatureMaker) -> None:
        self.make = maker.make

    def tokens(self, features: object) -> list[str]:
        return _Unrepresentable(["the"])


def test_reply_reports_lack_of_memory(maker: FeatureMaker) -> None:
    request = request_of("a", 1)
    request.prepare(_MakerOfMany(maker))
    assert request.reply() == (json.dumps({"error": NO_MEMORY}).encode(), b"")
    assert request.error == NO_MEMORY


def test_large_reply_has_memory_of_its_own(maker: FeatureMaker) -> None:
    request = request_of("a", *[62] * 600, show_tokens_to_client=False)
    _, vectors = answer(request, maker)
    assert vectors.nbytes > 1 << 20
    assert vectors.base is not None
    assert vectors.all()
