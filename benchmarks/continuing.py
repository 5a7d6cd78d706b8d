"""What it costs that an interrupted run can be continued.

python benchmarks/continuing.py [TEXT] [--lines N] [--rounds N] [--output DIRECTORY]

The command's own run, with the embedded engine, as it is; and without its journal, its notes put
on disk, and the hash of the text. By turns, in one process, with one engine.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from common import disk, much_text, scratch, take_turns, tell

from bert_tokemb import open_local
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.jobs.job import Asked, run
from support.models import minilm_directory

ASKED = 0.02


class _NoHash:
    def update(self, data: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


@contextmanager
def borrowed(encoder: LocalEncoder) -> Iterator[LocalEncoder]:
    """Leave it open."""
    yield encoder


def embed(text: Path, output: Path, encoder: LocalEncoder) -> None:
    """Run as the command does."""
    run(Asked(input_name=str(text), output_name=str(output)), partial(borrowed, encoder), str)


def embed_without(text: Path, output: Path, encoder: LocalEncoder) -> None:
    """Run as if nothing could be continued."""
    with (
        mock.patch("bert_tokemb.jobs.job.open_journal", return_value=None),
        mock.patch("bert_tokemb.text.reader.hashlib.blake2b", return_value=_NoHash()),
    ):
        embed(text, output, encoder)


def main() -> None:
    """Read the arguments, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence a line")
    parser.add_argument("--lines", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=disk(), help="a directory on a disk")
    options = parser.parse_args()
    lines = much_text(options.text)[: options.lines]
    with scratch(options.output) as folder, open_local(str(minilm_directory())) as encoder:
        text = folder / "text"
        text.write_text("\n".join(lines), encoding="utf-8")
        ways = {"as it is": embed, "without": embed_without}
        ways = {
            name: partial(way, text, folder / f"{n}.pkl", encoder)
            for n, (name, way) in enumerate(ways.items())
        }
        seconds = take_turns(options.rounds, ways)
        assert (folder / "0.pkl").read_bytes() == (folder / "1.pkl").read_bytes()
        size = (folder / "0.pkl").stat().st_size
    cost = seconds["as it is"] / seconds["without"] - 1
    tell(
        f"{cost:+.1%} of time (asked: less than {ASKED:.0%}); {len(lines):,} lines, "
        f"{size / 1e6:,.0f} MB, median of {options.rounds}",
        [(name, f"{taken:.1f} s") for name, taken in seconds.items()],
    )


if __name__ == "__main__":
    main()
