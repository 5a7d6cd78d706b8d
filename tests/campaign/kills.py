"""Runs that are killed at random moments, and the same command again."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from random import Random

from support.forked import at_step
from support.resuming import Run, content, wait_for
from support.texts import random_words
from support.tiny import write_tiny

from .checks import case

__all__ = ["kills"]


def kills(random: Random, directory: Path) -> int:
    """The output is absent until it is complete, and then has the bytes of an undisturbed run."""
    model = write_tiny(directory / "model")
    lines = [" ".join(random_words(random, random.randrange(31))) for _ in range(600)]
    name = random.choice(("out.pkl", "out.npyd"))
    options = ("--model", model, "--layers", "0,1,2", "--strategy", random.choice(("avg", "max")))
    undisturbed, killed = (
        _run(directory / part, name, lines, *options) for part in ("undisturbed", "killed")
    )
    assert undisturbed().returncode == 0
    expected = content(undisturbed.output)
    number = 0
    for _ in range(random.randint(1, 8)):
        with case(directory, f"kill {number} of {name}"):
            number += _kill(random, killed)
            if killed.output.exists():
                assert content(killed.output) == expected
                _remove(killed.output)
    with case(directory, f"the run of {name} after {number} kills"):
        code, errors = killed.start().wait()
        assert code == 0, errors
        assert content(killed.output) == expected
        assert not killed.hidden
    return number


def _run(directory: Path, name: str, lines: list[str], *options: object) -> Run:
    directory.mkdir()
    run = Run(directory, lines, *options)
    run.output = directory / name
    return run


def _kill(random: Random, run: Run) -> bool:
    """Start a run, kill it at some moment, and return whether it was killed before its end."""
    if random.random() < 0.5:  # at a change of the file system
        code, errors = run.start(before=at_step(random.randrange(30), signal.SIGKILL)).wait()
    else:
        process, saved = run.start(), run.saved
        if random.random() < 0.7:  # otherwise perhaps before it gets any further
            wait_for(lambda: run.saved > saved or not process.is_running)
        time.sleep(random.random() * 0.1)
        code, errors = process.kill()
    assert code in (0, -signal.SIGKILL), errors
    return code != 0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
