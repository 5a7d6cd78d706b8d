"""Recorded replies of the genuine server, for fast tests.

``tests/data/genuine_server.npz`` contains, for each of the :data:`SCENARIOS`, the settings of the
server and its reply to every text that the encoder sends. To record it again, run

    uv run --group dev python tests/record_server.py

The model is the tiny one of :func:`support.tiny.write_tiny`, with an uncased or a cased vocabulary.
A recorded server answers requests of any size: it combines the recorded replies to single texts, as
the genuine server does apart from the last bits of the vectors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bert_serving.client import BertClient

from bert_tokemb import ServerEncoder, embed
from bert_tokemb.encoders.server.handshake import identity
from bert_tokemb.types import Sentence

from .cases import CASES
from .standin import Array, StandIn, Text

__all__ = [
    "LONE",
    "LONG",
    "NEWER",
    "NEWER_LONG",
    "PATH",
    "SCENARIOS",
    "Recording",
    "Scenario",
    "record",
    "save",
]

_COMMAND = "tests/record_server.py"

PATH = Path(__file__).parents[1] / "data" / "genuine_server.npz"

_KEPT = ("num_worker", "no_special_token", "server_version")
"""Settings that are recorded in addition to those that determine the replies."""


@dataclass(frozen=True)
class Scenario:
    """A server, and the sentences that are sent to it."""

    options: Sequence[str]
    """Options of ``bert-serving-start``, in addition to those that are always needed."""
    lines: Sequence[str]
    """Sentences to embed."""
    split: Sequence[str] = ()
    """Sentences of which only the pieces are recorded."""
    cased: bool = False


LONE = "\u200b"
"""A word without pieces."""
NEWER = "\U0001fac2"
"""A word that is newer than Python 3.7, whose BERT deletes it."""

LONG = (
    "a b " * 12 + "東京 日本語 Café hankcs",
    "a " + "!" * 33 + " b",
    "hello " + "ab" * 19 + " world",
    "(" + "ab" * 10 + "-" + "é" * 12 + ") " + "the " * 12,
    "a b " * 14 + "hankcs hello",
    "!" * 31 + " " + LONE,
    "東 " * 31,
)
"""Sentences that are too long for 32 pieces, special tokens included."""

NEWER_LONG = (f"{NEWER} " * 9 + "a " * 31, NEWER + "!" * 31, LONG[4].replace("kc", f"k{NEWER}c"))
"""Long sentences with words that the server deletes completely or partly."""


def _cases(cased: bool) -> list[str]:
    return [" ".join(case.words) for case in CASES if case.cased == cased]


SCENARIOS = {
    "uncased": Scenario(
        ("-max_seq_len", "NONE"),
        [*_cases(cased=False), "Hello World !", "I'm hankcs", "a " * 62, "!" * 62, "a " * 63],
        split=[*_cases(cased=False), "hankcs " * 100 + "!" * 90],
    ),
    "cased": Scenario(
        ("-max_seq_len", "NONE", "-cased_tokenization"), _cases(cased=True), cased=True
    ),
    "32": Scenario(
        ("-max_seq_len", "32"),
        [
            *("hello world", "a " * 30, "!" * 30, *LONG, *NEWER_LONG),
            *("a " * n + f"{NEWER} \U0001f971" for n in (0, 1, 5, 29, 30)),
        ],
    ),
    "layers": Scenario(
        ("-max_seq_len", "NONE", "-pooling_layer", "-3", "-2", "-1"),
        ["Hello World !", "I'm hankcs"],
    ),
}
"""The scenarios by name. The models accept 64 pieces, a limit that the servers do not report."""


class Recording:
    """A model for :class:`support.standin.StandIn` that repeats recorded replies.

    Args:
        config: The settings of the server.
        replies: The pieces and the ``(t, c)`` vectors of each text.
    """

    def __init__(self, config: dict[str, Any], replies: dict[str, tuple[list[str], Array]]) -> None:
        self.config = config
        self.replies = replies

    @classmethod
    def load(cls, name: str) -> Recording:
        """Read the recording of a scenario."""
        with np.load(PATH) as file:
            recorded, vectors = json.loads(str(file[f"{name} replies"])), file[f"{name} vectors"]
        texts, pieces = recorded["texts"], recorded["pieces"]
        ends = np.cumsum(list(map(len, pieces)))
        rows = np.split(vectors, ends[:-1])
        return cls(
            recorded["config"], dict(zip(texts, zip(pieces, rows, strict=True), strict=True))
        )

    def __call__(self, texts: Sequence[Text]) -> tuple[list[list[str]], Array]:
        replies = [self._reply(text) for text in texts]
        pieces = [own for own, _ in replies]
        t = self.config["max_seq_len"] or max(map(len, pieces))
        vectors = np.zeros((len(texts), t, replies[0][1].shape[1]), np.float32)
        for row, (_, own) in zip(vectors, replies, strict=True):
            row[: len(own)] = own
        return pieces, vectors

    def _reply(self, text: Text) -> tuple[list[str], Array]:
        found = self.replies.get(json.dumps(text))
        if found is None:
            raise AssertionError(
                f"not recorded: {text!r}; add it to SCENARIOS, then uv run python {_COMMAND}"
            )
        return found

    def server(self) -> StandIn:
        """Return a server that repeats the recorded replies."""
        return StandIn(config=self.config, model=self)


class _Recorder:
    """A model that sends each text to a server separately, and keeps the replies."""

    def __init__(self, client: BertClient, config: dict[str, Any]) -> None:
        self._client = client
        self._config = config
        self.replies: dict[str, tuple[list[str], Array]] = {}
        self.keep_vectors = True

    def __call__(self, texts: Sequence[Text]) -> tuple[list[list[str]], Array]:
        for text in texts:
            if (key := json.dumps(text)) not in self.replies:
                vectors, (pieces,) = self._client.encode(
                    [text], is_tokenized=not isinstance(text, str), show_tokens=True
                )
                self.replies[key] = (pieces, vectors[0, : len(pieces)] * self.keep_vectors)
        return Recording(self._config, self.replies)(texts)


def record(client: BertClient, scenario: Scenario) -> Recording:
    """Run the encoder against the server of a client, and record the replies."""
    found = client.server_config
    config = {**identity(found), **{name: found[name] for name in _KEPT}, "model_dir": "tiny"}
    recorder = _Recorder(client, config)
    with StandIn(config=config, model=recorder) as server:
        # The requests of an encoder depend on earlier lines, so each line is also sent alone.
        for lines in (scenario.lines, *([line] for line in scenario.lines)):
            with ServerEncoder(server.address) as encoder:
                list(embed(lines, encoder))
        recorder.keep_vectors = False  # zeros make the file smaller
        with ServerEncoder(server.address) as encoder:
            for line in scenario.split:
                encoder.pieces(Sentence(1, line.split()))
    return Recording(config, recorder.replies)


def save(recordings: dict[str, Recording]) -> None:
    """Write the recordings of all scenarios."""
    arrays: dict[str, Array] = {}
    for name, recording in recordings.items():
        pieces = [own for own, _ in recording.replies.values()]
        content = {
            "config": recording.config,
            "texts": list(recording.replies),
            "pieces": pieces,
        }
        arrays[f"{name} replies"] = np.array(json.dumps(content))
        arrays[f"{name} vectors"] = np.concatenate(
            [vectors for _, vectors in recording.replies.values()]
        )
    np.savez_compressed(PATH, **arrays)
