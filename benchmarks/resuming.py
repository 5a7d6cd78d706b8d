"""Time overhead of making a run resumable.

python benchmarks/resuming.py [TEXT] [--lines N] [--rounds N] [--output DIRECTORY]

Compares `embed` with the local encoder to the same pipeline without resume points and without
hashing the text. Both alternate in one process and use the same encoder.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from common import disk, much_text, report, scratch, take_turns

from bert_tokemb import embed, open_local
from bert_tokemb.encoders.local import LocalEncoder
from bert_tokemb.formats.base import Content
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.jobs.job import run_job
from bert_tokemb.jobs.options import EmbedOptions
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.types import EmbeddedSentence
from support.models import minilm_directory

TARGET = 0.02


@contextmanager
def kept_open(encoder: LocalEncoder) -> Iterator[LocalEncoder]:
    """Yield the encoder without closing it at the end of the block."""
    yield encoder


def run_resumable(text: Path, path: Path, encoder: LocalEncoder) -> None:
    """Run the job like the command."""
    options = EmbedOptions(input_name=str(text), output_name=str(path))
    run_job(options, partial(kept_open, encoder), str)


def run_not_resumable(text: Path, path: Path, encoder: LocalEncoder) -> None:
    """Write the same result without resume points."""
    target = OutputTarget.resolve(str(path))
    with text.open(encoding="utf-8") as lines, Output(target, FORMATS["pkl"]) as output:
        output.start(Content(encoder.width, encoder.dtype))
        for i, array in enumerate(embed(lines, encoder), 1):
            output.write(EmbeddedSentence(i, (), array))
        output.finish()
        output.commit()


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--lines", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=disk(), help="a directory on a disk")
    options = parser.parse_args()
    lines = much_text(options.text)[: options.lines]
    with scratch(options.output) as folder, open_local(str(minilm_directory())) as encoder:
        text = folder / "text"
        text.write_text("\n".join(lines), encoding="utf-8")
        candidates = {"resumable": run_resumable, "not resumable": run_not_resumable}
        candidates = {
            name: partial(function, text, folder / f"{n}.pkl", encoder)
            for n, (name, function) in enumerate(candidates.items())
        }
        seconds = take_turns(options.rounds, candidates)
        assert (folder / "0.pkl").read_bytes() == (folder / "1.pkl").read_bytes()
        size = (folder / "0.pkl").stat().st_size
    cost = seconds["resumable"] / seconds["not resumable"] - 1
    report(
        f"{cost:+.1%} of time (target: less than {TARGET:.0%}); {len(lines):,} lines, "
        f"{size / 1e6:,.0f} MB, median of {options.rounds}",
        [(name, f"{taken:.1f} s") for name, taken in seconds.items()],
    )


if __name__ == "__main__":
    main()
