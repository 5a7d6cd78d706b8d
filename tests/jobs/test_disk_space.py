"""Results that are too large for the disk."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.resuming import Run
from support.standin import StandIn

Disk = Callable[[int], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Make the system report so many free kB, whatever the path."""

    def set_free(kilobytes: int) -> None:
        result = os.statvfs_result([1000, 1000, *[kilobytes] * 3, *[0] * 5])
        monkeypatch.setattr(os, "statvfs", lambda path: result)

    return set_free


@pytest.fixture
def run(tmp_path: Path, server: StandIn) -> Run:
    """10,000 words of 8 numbers: 320 kB, and 50 kB for 1,000 sentences."""
    return Run(tmp_path, ["a b c d e f g h i j"] * 1000, "--server", server.address)


@pytest.mark.parametrize(
    ("free", "more", "code"),
    [
        (369, (), 1),
        (371, (), 0),
        (369, ("--no-disk-check",), 0),
        (300, ("--dtype", "float16"), 0),
    ],
)
def test_result_that_does_not_fit_is_refused_first(
    free: int, more: tuple[str, ...], code: int, run: Run, server: StandIn, disk: Disk
) -> None:
    requests = len(server.requests)
    disk(free)
    done = run(*more)
    assert done.returncode == code
    assert run.output.exists() == (code == 0)
    if code:
        assert done.stderr.endswith(
            "out.pkl: it may take 370.0 kB, but only 369.0 kB are free on the disk; free some "
            "space, give --dtype float16, or give --no-disk-check to try anyway\n"
        )
        assert len(server.requests) == requests + 1  # which asks for the width
        assert not run.hidden


def test_float16_is_advised_only_if_it_helps(run: Run, disk: Disk) -> None:
    disk(100)
    assert "free some space, or give --no-disk-check" in run("--dtype", "float16").stderr


def test_partial_output_counts_as_free(shared_tiny: Path, tmp_path: Path, disk: Disk) -> None:
    lines = [f"a {'b ' * (n % 40)}" + "c" * (n // 40) for n in range(2000)]
    run = Run(tmp_path, lines, "--model", shared_tiny, "--layers", "0,1,2")
    run.break_off(line=1500)
    words = sum(len(line.split()) for line in lines)
    needed = (words * 384 + 2000 * 50) // 1000
    disk(10)
    # Not float16 either: the partial output determines the data type.
    assert "free some space, or give --no-disk-check" in run().stderr
    disk(needed - 10)
    assert run().returncode == 0


@pytest.mark.parametrize("kind", ["stream", "compressed"])
def test_text_of_unknown_length_causes_a_warning(kind: str, run: Run, disk: Disk) -> None:
    text = run.text.read_bytes()
    if kind == "compressed":
        run.text = run.text.with_name("text.gz")
        run.text.write_bytes(gzip.compress(text))
    else:
        run.text = Path("-")
    disk(250)
    done = run(stdin=text)
    assert done.returncode == 0, done.stderr
    (words,) = re.findall(
        r"bert-tokemb: 250\.0 kB are free on the disk, which is enough for about ([\d,]+) more",
        done.stderr,
    )
    assert 6700 < int(words.replace(",", "")) < 7000


def test_blank_lines_cause_no_warning(run: Run, disk: Disk) -> None:
    """The space that a word takes cannot be estimated from them."""
    run.text = Path("-")
    disk(0)
    done = run(stdin="\n" * 1000)
    assert done.returncode == 0, done.stderr
    assert "free" not in done.stderr


def test_disk_of_the_link_target_is_checked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (run.directory / "other").mkdir()
    run.output.symlink_to("other/out")
    full = os.statvfs_result([1] * 2 + [0] * 8)
    monkeypatch.setattr(os, "statvfs", lambda path: {"other": full}[Path(path).name])
    assert "only 0 B are free on the disk" in run().stderr


def test_device_is_not_checked(run: Run, disk: Disk) -> None:
    disk(0)
    run.output = Path("/dev/null")
    assert run().returncode == 0
