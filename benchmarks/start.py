"""Time until the local engine returns its first vector, and peak memory of a run.

python benchmarks/start.py [TEXT] [--model NAME] [--rounds N]

Both are measured for the whole command as a process. The first vector is returned before the end
of a run over a single sentence. The system reports the peak memory after a run over the text.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from common import disk, report, scratch, some_text

from bert_tokemb.models.loading import DEFAULT_MODEL, load_model

TARGET_SECONDS = 2.0


def run(text: Path, model: str, *options: str) -> tuple[float, float]:
    """Run the command and return its seconds and its peak memory in bytes."""
    program = [sys.executable, "-m", "bert_tokemb", "embed", text, "-o", os.devnull, "--quiet"]
    start = time.perf_counter()
    child = subprocess.Popen([*program, "--model", model, "--device", "cpu", *options])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, child.returncode
    # The peak of a child is at least that of its parent.
    assert usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return seconds, usage.ru_maxrss * 1024


def size_of_weights(origin: Path) -> int:
    """Return the bytes of a file, of the shards in a directory, or of a checkpoint."""
    files = (
        origin.glob("*.safetensors") if origin.is_dir() else origin.parent.glob(f"{origin.name}*")
    )
    return sum(path.stat().st_size for path in files)


def main() -> None:
    """Read the arguments, measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path, nargs="?", help="one sentence per line")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a directory, or an id on the hub")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    weights = size_of_weights(Path(load_model(options.model).weights.origin))
    lines = some_text(options.text)
    with scratch(disk()) as folder:
        one, text = folder / "one", folder / "text"
        one.write_text("Hello World !\n", "utf-8")
        text.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        seconds = [run(one, options.model)[0] for _ in range(options.rounds)]
        kinds = {
            "fp32": ((), 2 * weights + 400e6),
            "int8": (("--precision", "int8"), 3.5 * weights + 300e6),
        }
        peaks = {name: run(text, options.model, *more)[1] for name, (more, _) in kinds.items()}
    report(
        f"{median(seconds):.2f} s to the end of a run over one sentence (target: "
        f"{TARGET_SECONDS:.0f} s to the first vector); {options.model}, median of "
        f"{options.rounds}",
        [("", "least", "most"), ("seconds", f"{min(seconds):.2f}", f"{max(seconds):.2f}")],
    )
    report(
        f"Peak memory over {len(lines):,} sentences, with weights of {weights / 1e6:.0f} MB",
        [("", "peak", "target")]
        + [
            (name, f"{peaks[name] / 1e6:.0f} MB", f"{most / 1e6:.0f} MB")
            for name, (_, most) in kinds.items()
        ],
    )


if __name__ == "__main__":
    main()
