"""Hostile results: files in which bytes were changed, and directories with special files."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import warnings
from pathlib import Path
from random import Random

import numpy as np

import bert_tokemb
from bert_tokemb import TokembError
from bert_tokemb.formats.registry import FORMATS
from support.command import invoke
from support.damage import damaged_bytes
from support.results import sentences_of, write_result

from .checks import assert_one_sentence, case

__all__ = ["hostile_results"]

MEMORY = 200 << 20  # bytes that reading may take; the files have a few kilobytes


def hostile_results(random: Random, directory: Path) -> int:
    """A result is read, or refused with one sentence; neither takes much memory."""
    kind = random.choice(list(FORMATS))
    whole = _write_result(random, directory, kind)
    assert invoke("info", whole).returncode == 0
    cases = 100
    for number in range(cases):
        # The libraries would map a file that is written over, so each case has its own.
        result = directory / f"{number}{whole.suffix}"
        with case(directory, f"number {number}: {result.name}"):
            _write_damaged(random, whole, result)
            _reset_peak()
            before = _memory("VmRSS")
            _read(result)
            assert _memory("VmHWM") - before < MEMORY
        _remove(result)
    return cases


def _write_result(random: Random, directory: Path, kind: str) -> Path:
    dtype = random.choice(("float32", "float16"))
    arrays = [
        np.full((random.choice((0, 1, 2, 30)), 3), random.random(), dtype)
        for _ in range(random.randint(1, 6))
    ]
    path = directory / f"whole.{kind}"
    if kind == "pkl" and random.random() < 0.7:
        path.write_bytes(pickle.dumps(arrays, random.randrange(pickle.HIGHEST_PROTOCOL + 1)))
    else:
        write_result(path, sentences_of(arrays), kind, about={"strategy": "avg"})
    return path


def _read(result: Path) -> None:
    """Read a result by ``info`` and by ``bert_tokemb.open``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about headers
        done = invoke("info", result)
        if done.returncode != 0:
            assert_one_sentence(done)
        try:
            with bert_tokemb.open(str(result)) as text:
                for array in text:
                    array.sum()
        except TokembError as error:
            assert "\n" not in str(error)  # noqa: PT017


def _write_damaged(random: Random, whole: Path, result: Path) -> None:
    if whole.is_file():
        result.write_bytes(damaged_bytes(random, whole.read_bytes()))
        return
    shutil.copytree(whole, result)
    file = random.choice(sorted(result.iterdir()))
    content = file.read_bytes()
    file.unlink()
    kind = random.randrange(12)
    if kind == 0:
        os.mkfifo(file)
    elif kind == 1:
        file.mkdir()
    elif kind == 2:
        file.symlink_to(random.choice(("/dev/zero", "/dev/null", "/dev/urandom", file.name, "..")))
    elif kind > 3:  # otherwise it is missing
        file.write_bytes(damaged_bytes(random, content))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


# --- Memory of this process -------------------------------------------------------------------


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _memory(name: str) -> int:
    """Return the resident memory (VmRSS), or its peak (VmHWM), in bytes."""
    found = re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024
