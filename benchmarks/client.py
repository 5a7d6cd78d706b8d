"""Speed of the client with a server that computes nothing, and how it spends its time.

python benchmarks/client.py [TEXT] [--strategy avg|last] [--rounds N] [--folder FOLDER]

The stand-in server runs in a separate process and returns prepared vectors of width 768. It shares
the machine with the client and copies every byte that the client receives, so the figures include
waiting for it.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from common import (
    Stopwatch,
    memory,
    much_text,
    report,
    scratch,
    stand_in,
    take_turns,
)

from bert_tokemb import Address, ServerEncoder, Tally, embed, load_strategy
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.text.reader import TextInput
from bert_tokemb.types import EmbeddedSentence, EncodedBatch, FloatArray, IntArray, Strategy
from support.client import connect
from support.seed import MERGES, seed_embed

WIDTH = 768
MAX_PIECES = 512

READING = "reading lines"
PREPARING = "splitting words into basic tokens"
BATCHING = "splitting lines, look-ahead, batching"
SENDING = "sending requests"
WAITING = "waiting for a reply"
RECEIVING = "receiving a reply"
PARSING = "parsing and checking a reply"
ALIGNING = "aligning pieces with words"
MERGING = "merging"
SPLITTING = "splitting into sentences, counting"
WRITING = "writing"
LABELS = (
    *(READING, BATCHING, PREPARING, SENDING, WAITING, RECEIVING, PARSING),
    *(ALIGNING, MERGING, SPLITTING, WRITING, Stopwatch.REST),
)


def run_pipeline(
    text: Path, strategy: str, address: Address, output: Path, watch: Stopwatch | None = None
) -> Tally:
    """Embed the text in this process, with the components of ``bert-tokemb embed``."""
    tally = Tally()
    merger = load_strategy(strategy)
    with (
        TextInput(str(text)) as source,
        Output(OutputTarget.resolve(str(output)), FORMATS["pkl"]) as pickled,
        ServerEncoder(address) as encoder,
    ):
        pickled.start(Content(encoder.width, encoder.dtype))
        lines, write = iter(source), pickled.write
        if watch:
            time_encoder(encoder, watch)
            lines, merger = watch.iterate(lines, READING), TimedStrategy(merger, watch)
            write = watch.wrap(write, WRITING)
        arrays = embed(lines, encoder, merger, tally=tally)
        for i, array in enumerate(watch.iterate(arrays, SPLITTING) if watch else arrays, 1):
            write(EmbeddedSentence(i, (), array))
        pickled.finish()
        pickled.commit()
    return tally


class TimedStrategy:
    """A strategy whose time is measured."""

    def __init__(self, strategy: Strategy, watch: Stopwatch) -> None:
        self._merge = watch.wrap(strategy.merge, MERGING)

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """See :class:`bert_tokemb.types.Strategy`."""
        return self._merge(vectors, starts, counts)


def time_encoder(encoder: ServerEncoder, watch: Stopwatch) -> None:
    """Replace the methods of an encoder, including private ones, by timed ones."""
    encode, requests = encoder.encode, encoder._requests
    receiver = requests._connection._client.receiver

    def timed_encode(batches: Iterator[Sequence]) -> Iterator[EncodedBatch]:
        return encode(watch.iterate(batches, BATCHING))

    encoder.encode = timed_encode
    encoder.prepare = watch.wrap(encoder.prepare, PREPARING)
    encoder._send = watch.wrap(encoder._send, SENDING)
    encoder._decode = watch.wrap(encoder._decode, ALIGNING)
    requests.wait = watch.wrap(requests.wait, PARSING)
    receiver.poll = watch.wrap(receiver.poll, WAITING)
    receiver.recv_multipart = watch.wrap(receiver.recv_multipart, RECEIVING)


def run_command(text: Path, strategy: str, address: Address, output: Path) -> None:
    """Run the command as a process, including the start of Python."""
    program = [sys.executable, "-m", "bert_tokemb", "embed", text, "--quiet", "-o", output]
    subprocess.run([*program, "--strategy", strategy, "--server", str(address)], check=True)


def run_seed(text: Path, strategy: str, address: Address, output: Path) -> None:
    """Embed the text like the seed script and pickle the list."""
    lines = text.read_text("utf-8").split("\n")[:-1]
    with connect(address) as client, output.open("wb") as file:
        pickle.dump(list(seed_embed(client, lines, strategy)), file, protocol=4)


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--strategy", choices=sorted(MERGES), default="avg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="directory for the output (default: in memory)")
    options = parser.parse_args()
    lines = much_text(options.text)
    with scratch(options.folder or memory()) as folder, stand_in(WIDTH, MAX_PIECES) as server:
        host, port, port_out = server.split(":")
        address = Address(host, int(port), int(port_out))
        text, output = folder / "text", folder / "output.pkl"
        text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        arguments = (text, options.strategy, address, output)
        tally = run_pipeline(*arguments)  # warm-up
        candidates = {
            "in this process": partial(run_pipeline, *arguments),
            "the whole command": partial(run_command, *arguments),
            "the seed script": partial(run_seed, *arguments),
        }
        seconds = take_turns(options.rounds, candidates)
        watch = Stopwatch()
        run_pipeline(*arguments, watch)
        watch.stop()
    ratio = seconds["the seed script"] / seconds["in this process"]
    report(
        f"{ratio:.1f} x the words/s of the seed script; {tally.sentences:,} sentences, "
        f"{tally.words:,} words, width {WIDTH}, {options.strategy}, median of {options.rounds}",
        [
            (name, f"{tally.words / taken:,.0f} words/s", f"{taken:.2f} s")
            for name, taken in seconds.items()
        ],
    )
    wall, cpu = sum(watch.wall.values()), sum(watch.cpu.values())
    report(
        f"time in this process: {wall:.2f} s, CPU time of its main thread: {cpu:.2f} s",
        [
            (
                label,
                f"{watch.wall[label] / wall:.1%}",
                f"{watch.wall[label]:.2f} s",
                f"{watch.cpu[label] / cpu:.1%}",
                f"{watch.cpu[label]:.2f} s",
            )
            for label in LABELS
        ],
    )


if __name__ == "__main__":
    main()
