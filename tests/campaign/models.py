"""Damaged models."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from random import Random

from support.architectures import CASES, weights
from support.command import invoke
from support.damage import damaged_bytes, damaged_json
from support.models import TINY, join_safetensors, split_safetensors, write_hugging_face
from support.tiny import VOCABULARY
from support.toys import TOYS, toy, toy_vocabulary_size

from .checks import assert_one_sentence, assert_vectors, case

__all__ = ["damaged_models"]

LINES = ["hello É東 ☃", "", "a b " * 40]


def damaged_models(random: Random, directory: Path) -> int:
    """A damaged model gives finite vectors, or is refused with one sentence."""
    whole = _write_model(random, directory / "whole")
    done = _embed(directory, whole)
    assert done.returncode == 0, done.stderr
    cases = 20
    for number in range(cases):
        model = shutil.copytree(whole, directory / "model")
        path = random.choice([path for path in sorted(model.iterdir()) if path.stat().st_size])
        with case(directory, f"number {number}: {path.name}"):
            path.write_bytes(_damaged(random, path))
            _embed(directory, model)
        shutil.rmtree(model)
    return cases


def _embed(directory: Path, model: Path) -> subprocess.CompletedProcess[str]:
    text, output = directory / "text", directory / "out.pkl"
    text.write_text("".join(f"{line}\n" for line in LINES), "utf-8")
    done = invoke("embed", text, "-o", output, "--model", model, "--layers=-1")
    if done.returncode == 0:
        assert_vectors(output, LINES)
        output.unlink()
    else:
        assert_one_sentence(done)
        assert not output.exists()
        _remove_partial(directory)
    return done


def _remove_partial(directory: Path) -> None:
    for path in directory.glob(".*.partial"):
        shutil.rmtree(path)


def _write_model(random: Random, directory: Path) -> Path:
    """Write a BERT with a vocabulary, or a model of another kind with a toy tokenizer."""
    if random.random() < 0.4:
        small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
        settings = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
        shards = random.choice((1, 2))
        return write_hugging_face(
            directory, {**TINY, **small}, VOCABULARY, shards=shards, settings=settings
        )
    name = random.choice(list(TOYS))
    pieces = [""] * toy_vocabulary_size(name)  # only their number matters
    config = {**random.choice(list(CASES.values())).config, "vocab_size": len(pieces)}
    return write_hugging_face(
        directory, config, pieces, weights(config), tokenizer=json.loads(toy(name))
    )


def _damaged(random: Random, path: Path) -> bytes:
    """Return the content of a file with damage that fits its kind."""
    if path.suffix == ".safetensors":
        header, data = split_safetensors(path)
        kind = random.randrange(3)
        if kind == 0:
            return join_safetensors(damaged_json(random, header), data)
        if kind == 1:
            return join_safetensors(header, _damaged_numbers(random, data))
    elif path.suffix == ".json" and random.random() < 0.7:
        value = damaged_json(random, json.loads(path.read_bytes()))
        return json.dumps(value).encode()
    return damaged_bytes(random, path.read_bytes())


def _damaged_numbers(random: Random, data: bytes) -> bytes:
    """Return 32-bit floats, of which some are huge, infinite, NaN or random."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 10, 1000))):
        at = 4 * random.randrange(len(data) // 4)
        values = (b"\xff\xff\x7f\x7f", b"\0\0\x80\x7f", b"\0\0\xc0\x7f", random.randbytes(4))
        changed[at : at + 4] = random.choice(values)
    return bytes(changed)
