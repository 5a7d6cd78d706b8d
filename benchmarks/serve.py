"""Speed of ``bert-tokemb serve``, compared with the genuine bert-serving-server.

python benchmarks/serve.py [TEXT] [--rounds N] [--lines N]

Both serve all-MiniLM-L6-v2 on the CPU, from the same TensorFlow checkpoint, with the same flags
(``-pooling_strategy NONE -show_tokens_to_client``). The unmodified ``BertClient`` sends the same
lines in file order, 64 per request, and waits for each reply; then eight clients at once divide
the requests among them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from bert_serving.client import BertClient
from common import report, some_text, take_turns

from bert_tokemb import Address
from support.client import connect
from support.genuine import NONE, GenuineServer, make_model
from support.models import minilm_config, minilm_vocabulary, minilm_weights
from support.ours import OurServer

TARGETS = {"256": 10, "NONE": 2}
"""The least ratio for each -max_seq_len."""
CLIENTS = (1, 8)
REQUEST = 64  # sentences
# With 256, the genuine server pads every sentence and takes several times as long.
LINES_DIVISOR = {"256": 8, "NONE": 1}


def ask(address: Address, requests: Sequence[list[str]], clients: int) -> list[np.ndarray]:
    """Divide requests among concurrent clients and return the replies."""

    def work(client: BertClient, own: Sequence[list[str]]) -> list[np.ndarray]:
        return [client.encode(texts) for texts in own]

    connected = [connect(address) for _ in range(clients)]
    try:
        with ThreadPoolExecutor(clients) as pool:
            parts = [requests[i::clients] for i in range(clients)]
            replies = list(pool.map(work, connected, parts))
    finally:
        for client in connected:
            client.close()
    return [array for own in replies for array in own]


def measure(model: Path, length: str, lines: Sequence[str], rounds: int) -> None:
    """Measure both servers with one ``-max_seq_len`` and print the results."""
    requests = [list(lines[i : i + REQUEST]) for i in range(0, len(lines), REQUEST)]
    options = ("-model_dir", model, *NONE, "-max_seq_len", length)
    with GenuineServer(*options) as genuine, OurServer(*options) as ours:
        addresses = {"genuine": genuine.address, "ours": ours.address}
        replies = [ask(address, requests[:3], 1) for address in addresses.values()]
        worst = max(float(np.abs(a - b).max()) for a, b in zip(*replies, strict=True))
        for clients in CLIENTS:
            seconds = take_turns(
                rounds,
                {
                    name: partial(ask, address, requests, clients)
                    for name, address in addresses.items()
                },
            )
            report(
                f"-max_seq_len {length}, {clients} client{'s' * (clients > 1)} at once: "
                f"{seconds['genuine'] / seconds['ours']:.1f} x (target: {TARGETS[length]} x); "
                f"{len(lines):,} sentences, largest difference {worst:.1e}, median of {rounds}",
                [
                    (name, f"{len(lines) / taken:,.0f} sentences/s", f"{taken:.1f} s")
                    for name, taken in seconds.items()
                ],
            )


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--lines", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    lines = some_text(options.text)[: options.lines]
    with tempfile.TemporaryDirectory() as directory:
        weights = minilm_weights()
        model = make_model(Path(directory) / "model", minilm_config(), minilm_vocabulary(), weights)
        for length, divisor in LINES_DIVISOR.items():
            measure(model, length, lines[: len(lines) // divisor], options.rounds)


if __name__ == "__main__":
    main()
