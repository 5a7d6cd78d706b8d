"""Random lines of Unicode."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np

from bert_tokemb import embed, open_local
from support.command import invoke
from support.models import TINY, write_hugging_face
from support.texts import random_words
from support.tiny import CASED_VOCABULARY, VOCABULARY
from support.toys import TOYS, toy, toy_vocabulary_size

from .checks import assert_vectors, case

__all__ = ["random_lines"]

SPACES = " \t\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
"""White space of ``str.split()``, except the end of a line."""

ODD_WORDS = (
    *("[SEP]", "[UNK]", "[MASK]", "|||", "##a", "</s>", "<pad>", "▁", "Ġ", "New", "York"),
    *("hankcs", "\0", "\ufeff", "\ufffd", "\u00ad", "\u200d", "İ", "ΑΣ", "ﬁ", "東京", "e\u0301"),
    *("a" * 101, "東" * 70, "👩\u200d👩\u200d👧", "क्षि"),
)


def random_lines(random: Random, directory: Path) -> int:
    """Rows equal words, and the vectors are those of each sentence on its own."""
    lines = [_line(random) for _ in range(60)]
    strategy = random.choice(("avg", "first", "last", "max"))
    model, text, output = (directory / name for name in ("model", "text", "out.pkl"))
    kind = _write_model(random, model)
    text.write_bytes("".join(f"{line}\n" for line in lines).encode())
    look_ahead = random.choice(("1", "20000", "32000000"))
    options = ("--model", model, "--strategy", strategy, "--look-ahead", look_ahead)
    with case(directory, f"all lines, {kind}, {strategy}, look-ahead {look_ahead}"):
        done = invoke("embed", text, "-o", output, *options)
        assert done.returncode == 0, done.stderr
        arrays = assert_vectors(output, lines)
    with open_local(str(model)) as encoder:
        for line, array in zip(lines, arrays, strict=True):
            with case(directory, f"{line!r}, {kind}, {strategy}, look-ahead {look_ahead}"):
                np.testing.assert_array_equal(array, next(embed([line], encoder, strategy)))
    return len(lines)


def _line(random: Random) -> str:
    """Return a line; some are blank, and some are too long for the model."""
    number = random.choice((0, 1, 2, 5, 10, random.randrange(120)))
    words = random_words(random, number) + random.choices(ODD_WORDS, k=random.randrange(4))
    random.shuffle(words)
    spaces = random.choices(SPACES, [50, *[1] * (len(SPACES) - 1)], k=len(words))
    return random.choice(("", " ")) + "".join(map("".join, zip(words, spaces, strict=True)))


def _write_model(random: Random, directory: Path) -> str:
    """Write a model with a random tokenizer, and return what it is."""
    kind = random.choice(("uncased", "cased", *TOYS))
    if kind in TOYS:
        tokenizer = json.loads(toy(kind))
        write_hugging_face(directory, TINY, [""] * toy_vocabulary_size(kind), tokenizer=tokenizer)
    else:
        vocabulary = VOCABULARY if kind == "uncased" else CASED_VOCABULARY
        settings = {"do_lower_case": kind == "uncased"}
        write_hugging_face(directory, TINY, vocabulary, settings=settings)
    return kind
