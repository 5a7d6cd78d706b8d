"""Requests to our server without the server: jobs, and what makes rows of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bert_tokemb.models.loading import load_model
from bert_tokemb.serve.features import FeatureMaker
from bert_tokemb.serve.job import Job, Shape
from bert_tokemb.serve.pooling import Pooling
from bert_tokemb.serve.protocol import Request, Sender
from bert_tokemb.serve.settings import Settings
from bert_tokemb.tokenization.wordpiece import PieceTokenizer

__all__ = ["JOB_WIDTH", "job_of", "maker_of"]

JOB_WIDTH = 8
_SETTINGS = Settings(pooling_strategy=Pooling.NONE, max_seq_len=None, show_tokens_to_client=True)


def maker_of(model: Path) -> FeatureMaker:
    """Make rows with a model's vocabulary."""
    return FeatureMaker(PieceTokenizer(load_model(str(model)).vocabulary), _SETTINGS, 64, 2)


def job_of(
    client: str, *words: int, width: int = JOB_WIDTH, positions: int = 64, **settings: Any
) -> Job:
    """Ask for sentences of so many words, each of one piece."""
    texts = [" ".join(["the"] * n) for n in words]
    sender = Sender(client.encode(), b"1")
    shape = Shape(width, np.dtype(np.float32), positions)
    request = Request(sender, texts, sum(map(len, texts)))
    return Job(request, replace(_SETTINGS, **settings), shape)
