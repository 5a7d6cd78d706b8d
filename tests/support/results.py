"""Writes results in each format without an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bert_tokemb.formats.base import Content, Writer
from bert_tokemb.formats.output import Output
from bert_tokemb.formats.registry import FORMATS
from bert_tokemb.storage.target import OutputTarget
from bert_tokemb.types import EmbeddedSentence, Layer

__all__ = ["numbered", "sentences_of", "write_result"]


def numbered(lines: Iterable[str], dtype: str = "float32") -> list[EmbeddedSentence]:
    """Return a sentence for each line, whose rows are ``[line number, index of the word]``."""
    sentences = []
    for line, text in enumerate(lines, 1):
        words = text.split()
        array = np.array([[line, j] for j in range(len(words))], dtype).reshape(-1, 2)
        sentences.append(EmbeddedSentence(line, words, array))
    return sentences


def sentences_of(arrays: Iterable[np.ndarray]) -> list[EmbeddedSentence]:
    """Return a sentence for each array."""
    return [EmbeddedSentence(i, ["a"] * len(array), array) for i, array in enumerate(arrays, 1)]


def write_result(
    path: Path,
    sentences: Sequence[EmbeddedSentence],
    kind: str,
    *,
    about: Mapping[str, Any] | None = None,
    layers: Sequence[Layer] = (),
    writer: type[Writer] | None = None,
) -> None:
    """Write a result; the first sentence determines the width and the data type.

    Args:
        kind: The name of the format.
        writer: A writer with other limits than that of the format.
    """
    array = sentences[0].array if sentences else np.empty((0, 2), np.float32)
    format = replace(FORMATS[kind], writer=writer or FORMATS[kind].writer)
    with Output(OutputTarget.resolve(str(path)), format) as output:
        output.start(Content(array.shape[1], array.dtype, about or {}, layers))
        for sentence in sentences:
            output.write(sentence)
        output.finish()
        output.commit()
