"""Models that accept long sentences: memory grows with the length, not with its square."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bert_tokemb import embed
from bert_tokemb.encoders.local import LocalEncoder
from support.architectures import CASES, weights
from support.memory import run_and_measure
from support.models import tokenizer_json, write_hugging_face
from support.tiny import PIECES, VOCABULARY, start

TESTS = str(Path(__file__).parents[1])

RUN = """
import sys, json
sys.path.insert(0, sys.argv[1])
import numpy as np
from support.architectures import Case, feeds, run, start
config = json.loads(sys.argv[2])
engine = start(config)
vectors = run(engine, *feeds(Case(config), int(sys.argv[3])))
print(np.isfinite(vectors).all())
"""


def peak(config: dict[str, Any], t: int) -> int:
    """Return the peak memory in MiB of a process that computes one sentence of ``t`` pieces."""
    output, kib = run_and_measure(RUN, TESTS, json.dumps(config), str(t))
    assert output == b"True\n"
    return kib >> 10


@pytest.mark.parametrize("name", ["bert", "mpnet", "deberta-v2", "modernbert"])
def test_memory_does_not_grow_with_the_square_of_the_length(name: str) -> None:
    """The scores of all heads of 8,192 pieces would take 1 GiB."""
    config = {**CASES[name].config, "max_position_embeddings": 8200, "num_hidden_layers": 2}
    assert peak(config, 8192) - peak(config, 16) < 400


@pytest.mark.slow
def test_longest_window_of_a_modernbert_stays_within_4_gib() -> None:
    sizes = {"hidden_size": 768, "intermediate_size": 1152, "num_attention_heads": 12}
    config = {
        **CASES["modernbert"].config,
        **sizes,
        "num_hidden_layers": 22,
        "max_position_embeddings": 8192,
        "vocab_size": 50368,
        "local_attention": 128,
    }
    assert peak(config, 8192) < 4096


@pytest.mark.slow
def test_line_of_100_000_words_is_embedded(tmp_path: Path) -> None:
    config = {
        **CASES["modernbert"].config,
        "num_hidden_layers": 2,
        "max_position_embeddings": 8192,
        "vocab_size": PIECES,
    }
    directory = write_hugging_face(
        tmp_path / "model",
        config,
        VOCABULARY,
        weights(config),
        tokenizer=tokenizer_json(VOCABULARY),
    )
    words = ["hello", "world", "the"] * 40_000
    with LocalEncoder(start(directory)) as encoder:
        (vectors,) = embed([" ".join(words[:100_000])], encoder)
    assert vectors.shape == (100_000, 32)
    assert np.isfinite(vectors).all()
    assert (np.abs(vectors).max(axis=1) > 0).all()
