"""Whether the vocabulary and the weights of a model belong together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bert_tokemb.errors import ModelError
from bert_tokemb.models.loading import load_model
from support.checkpoints import write_google
from support.models import TINY, tokenizer_json, write_hugging_face
from support.tiny import PIECE_IDS, PIECES, VOCABULARY, write_tiny


def assert_refused(directory: Path, pieces: int) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(str(directory), cased=False)
    message = str(caught.value)
    assert f"the vocabulary in {directory} has {pieces} pieces, but the model " in message
    assert str(PIECES) in message


@pytest.mark.parametrize("write", [write_tiny, write_google])
@pytest.mark.parametrize("vocabulary", [[*VOCABULARY, "more"], VOCABULARY[: PIECES // 2]])
def test_vocabulary_of_another_size_is_refused(
    vocabulary: Sequence[str], write: Callable[[Path], Path], tmp_path: Path
) -> None:
    directory = write(tmp_path / "model")
    (directory / "vocab.txt").write_text("\n".join(vocabulary), "utf-8")
    assert_refused(directory, len(vocabulary))


@pytest.mark.parametrize("largest_id", [PIECES, 2**70])
def test_piece_id_beyond_the_embeddings_is_refused(largest_id: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    (directory / "vocab.txt").unlink()
    content = tokenizer_json(VOCABULARY)
    content["model"]["vocab"] = {**PIECE_IDS, "a": largest_id}
    (directory / "tokenizer.json").write_text(json.dumps(content))
    assert_refused(directory, largest_id + 1)


@pytest.mark.parametrize(("padding", "is_accepted"), [(1, True), (128, True), (129, False)])
def test_embeddings_may_be_padded(padding: int, is_accepted: bool, tmp_path: Path) -> None:
    """Some models have more embeddings than pieces, a multiple of 8, 64 or 128, for speed."""
    config = {**TINY, "vocab_size": PIECES + padding}
    directory = write_hugging_face(tmp_path / "model", config, VOCABULARY)
    if is_accepted:
        load_model(str(directory))
    else:
        with pytest.raises(ModelError, match="vocabulary"):
            load_model(str(directory))
