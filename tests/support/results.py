"""Results in each format, written without an encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bert_tokemb.formats.base import Content, Output
from bert_tokemb.formats.registry import open_output
from bert_tokemb.types import EmbeddedSentence

__all__ = ["numbered", "sentences_of", "write_result", "write_to"]


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


def write_to(
    output: Output, sentences: Sequence[EmbeddedSentence], about: Mapping[str, Any] | None = None
) -> None:
    """Write sentences, the first of which says the width and the data type, and finish."""
    array = sentences[0].array if sentences else np.empty((0, 2), np.float32)
    with output:
        output.begin(Content(array.shape[1], array.dtype, about or {}))
        for sentence in sentences:
            output.write(sentence)


def write_result(
    path: Path,
    sentences: Sequence[EmbeddedSentence],
    kind: str,
    *,
    about: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Write a result in a format."""
    write_to(open_output(str(path), kind, **options), sentences, about)
