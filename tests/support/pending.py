"""Creates requests and features without a server, for tests of its components."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bert_tokemb.models.loading import load_model
from bert_tokemb.serve.features import FeatureMaker
from bert_tokemb.serve.pending import ModelShape, PendingRequest
from bert_tokemb.serve.protocol import Request, Sender
from bert_tokemb.serve.settings import DEFAULT_LIMITS, Limits, Settings
from bert_tokemb.tokenization.wordpiece import PieceTokenizer

__all__ = ["WIDTH", "maker_of", "request_of"]

WIDTH = 8
_SETTINGS = Settings(show_tokens_to_client=True)


def maker_of(model: Path, token_types: int = 2, **settings: Any) -> FeatureMaker:
    """Return a feature maker with the vocabulary of a model that accepts 64 pieces."""
    tokenizer = PieceTokenizer(load_model(str(model)).tokenizer.vocabulary)
    return FeatureMaker(tokenizer, replace(_SETTINGS, **settings), 64, token_types)


def request_of(
    client: str,
    *words: int,
    width: int = WIDTH,
    max_length: int = 64,
    limits: Limits = DEFAULT_LIMITS,
    **settings: Any,
) -> PendingRequest:
    """Return a request for sentences with these numbers of words, each of one piece."""
    texts = [" ".join(["the"] * n) for n in words]
    request = Request(Sender(client.encode(), b"1"), texts, sum(map(len, texts)))
    shape = ModelShape(width, np.dtype(np.float32), max_length)
    return PendingRequest(request, replace(_SETTINGS, **settings), shape, limits)
