"""The speed of the client with a server that computes nothing, and where its time goes.

python benchmarks/client.py [TEXT] [--strategy avg|last] [--rounds N] [--folder FOLDER]

The stand-in server answers from a process of its own, with ready-made vectors of width 768. It
shares the machine with the client and copies every byte that the client receives, so the figures
include waiting for it.
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
    print_table,
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
LONGEST = 512

READING = "reading lines"
PREPARING = "preparing: basic tokens, length"
BATCHING = "splitting into words, look-ahead, batches"
SENDING = "sending requests"
WAITING = "waiting for a reply"
RECEIVING = "receiving it"
PARSING = "parsing and checking it"
ALIGNING = "aligning pieces with words"
MERGING = "merging"
CUTTING = "cutting into sentences, counting"
WRITING = "writing"
LABELS = (
    *(READING, BATCHING, PREPARING, SENDING, WAITING, RECEIVING, PARSING),
    *(ALIGNING, MERGING, CUTTING, WRITING, Stopwatch.REST),
)


def ours(
    text: Path, strategy: str, address: Address, output: Path, watch: Stopwatch | None = None
) -> Tally:
    """Embed the text with the parts of ``bert-tokemb embed``."""
    tally = Tally()
    merging = load_strategy(strategy)
    with (
        TextInput(str(text)) as source,
        Output(OutputTarget.resolve(str(output)), FORMATS["pkl"]) as pickled,
        ServerEncoder(address) as encoder,
    ):
        pickled.start(Content(encoder.width, encoder.dtype))
        lines, write = iter(source), pickled.write
        if watch:
            time_encoder(encoder, watch)
            lines, merging = watch.iterate(lines, READING), Timed(merging, watch)
            write = watch.wrap(write, WRITING)
        arrays = embed(lines, encoder, merging, tally=tally)
        for i, array in enumerate(watch.iterate(arrays, CUTTING) if watch else arrays, 1):
            write(EmbeddedSentence(i, (), array))
        pickled.finish()
        pickled.commit()
    return tally


class Timed:
    """A strategy that is timed."""

    def __init__(self, strategy: Strategy, watch: Stopwatch) -> None:
        self._merge = watch.wrap(strategy.merge, MERGING)

    def merge(self, vectors: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
        """See :class:`bert_tokemb.types.Strategy`."""
        return self._merge(vectors, starts, counts)


def time_encoder(encoder: ServerEncoder, watch: Stopwatch) -> None:
    """Time the methods of an encoder, private ones included."""
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


def command(text: Path, strategy: str, address: Address, output: Path) -> None:
    """Run the command in a process, including the start of Python."""
    program = [sys.executable, "-m", "bert_tokemb", "embed", text, "--quiet", "-o", output]
    subprocess.run([*program, "--strategy", strategy, "--server", str(address)], check=True)


def seeds(text: Path, strategy: str, address: Address, output: Path) -> None:
    """Embed the text with the seed's method, and pickle the list."""
    lines = text.read_text("utf-8").split("\n")[:-1]
    with connect(address) as client, output.open("wb") as file:
        pickle.dump(list(seed_embed(client, lines, strategy)), file, protocol=4)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence a line")
    parser.add_argument("--strategy", choices=sorted(MERGES), default="avg")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write (default: in memory)")
    options = parser.parse_args()
    lines = much_text(options.text)
    with scratch(options.folder or memory()) as folder, stand_in(WIDTH, LONGEST) as server:
        host, port, port_out = server.split(":")
        address = Address(host, int(port), int(port_out))
        text, output = folder / "text", folder / "output.pkl"
        text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        arguments = (text, options.strategy, address, output)
        tally = ours(*arguments)  # a warm-up
        ways = {
            "in this process": partial(ours, *arguments),
            "the whole command": partial(command, *arguments),
            "the seed's method": partial(seeds, *arguments),
        }
        seconds = take_turns(options.rounds, ways)
        watch = Stopwatch()
        ours(*arguments, watch)
        watch.stop()
    ratio = seconds["the seed's method"] / seconds["in this process"]
    print_table(
        f"{ratio:.1f} x the words/s of the seed's method; {tally.sentences:,} sentences, "
        f"{tally.words:,} words, width {WIDTH}, {options.strategy}, median of {options.rounds}",
        [
            (name, f"{tally.words / taken:,.0f} words/s", f"{taken:.2f} s")
            for name, taken in seconds.items()
        ],
    )
    wall, cpu = sum(watch.wall.values()), sum(watch.cpu.values())
    print_table(
        f"time in this process: {wall:.2f} s, of which {cpu:.2f} s of CPU in its main thread",
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
