"""Speed with a genuine server, compared with the seed script (see ``tests/support/seed.py``).

python benchmarks/server.py [TEXT] [--strategy avg|last] [--rounds N]

Both use the same bert-serving-server (CPU, ``-max_seq_len NONE``, all-MiniLM-L6-v2) for the same
lines, alternately, and pickle the result into a file.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from common import disk, report, scratch, some_text, take_turns

from bert_tokemb import Address, ServerEncoder, embed
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.types import EmbeddedSentence
from support.client import connect
from support.genuine import GenuineServer, make_model
from support.models import minilm_config, minilm_vocabulary, minilm_weights
from support.seed import MERGES, seed_embed

TARGET = 2.5
WARM_UP = 200  # lines


@contextmanager
def genuine_server() -> Iterator[Address]:
    """Run the genuine server with the weights of all-MiniLM-L6-v2; yield its address."""
    options = ("-pooling_strategy", "NONE", "-show_tokens_to_client", "-max_seq_len", "NONE")
    with tempfile.TemporaryDirectory() as directory:
        weights = minilm_weights()
        model = make_model(Path(directory) / "model", minilm_config(), minilm_vocabulary(), weights)
        with GenuineServer("-model_dir", model, *options) as server:
            yield server.address


def run_pipeline(address: Address, lines: Sequence[str], strategy: str, path: Path) -> None:
    """Embed the lines and write each array when it is ready."""
    target = OutputTarget.resolve(str(path))
    with Output(target, FORMATS["pkl"]) as output, ServerEncoder(address) as encoder:
        output.start(Content(encoder.width, encoder.dtype))
        for i, array in enumerate(embed(lines, encoder, strategy), 1):
            output.write(EmbeddedSentence(i, (), array))
        output.finish()
        output.commit()


def run_seed(address: Address, lines: Sequence[str], strategy: str, path: Path) -> None:
    """Embed the lines like the seed script and pickle the list."""
    with connect(address) as client, path.open("wb") as file:
        pickle.dump(list(seed_embed(client, lines, strategy)), file, protocol=4)


def measure(lines: Sequence[str], strategy: str, rounds: int) -> dict[str, float]:
    """Return the median seconds of both, after comparing their results."""
    with genuine_server() as address, scratch(disk()) as folder:
        files = {"ours": folder / "ours.pkl", "seed": folder / "seed.pkl"}
        candidates = {"ours": run_pipeline, "seed": run_seed}
        for name, function in candidates.items():
            function(address, lines[:WARM_UP], strategy, files[name])
        seconds = take_turns(
            rounds,
            {
                name: partial(function, address, lines, strategy, files[name])
                for name, function in candidates.items()
            },
        )
        compare(*(pickle.loads(path.read_bytes()) for path in files.values()))
    return seconds


def compare(our_arrays: list[np.ndarray], seed_arrays: list[np.ndarray]) -> None:
    """Print the differences between the two results."""
    pairs = list(zip(our_arrays, seed_arrays, strict=True))
    same = [(a, b) for a, b in pairs if a.shape == b.shape]
    worst = max(float(np.abs(a - b).max()) for a, b in same)
    lost = sum(len(a) - len(b) for a, b in pairs)
    print(
        f"{len(same)} of {len(pairs)} sentences have the same number of rows in both, and differ "
        f"by at most {worst:.1e}; in the others, the seed script loses {lost} words"
    )


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--strategy", choices=sorted(MERGES), default="avg")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = some_text(options.text)
    seconds = measure(lines, options.strategy, options.rounds)
    ratio = seconds["seed"] / seconds["ours"]
    report(
        f"{ratio:.2f} x the sentences/s of the seed script (target: {TARGET}); "
        f"{len(lines):,} sentences, {options.strategy}, median of {options.rounds}",
        [
            (name, f"{len(lines) / taken:,.1f} sentences/s", f"{taken:.1f} s")
            for name, taken in seconds.items()
        ],
    )


if __name__ == "__main__":
    main()
