"""From texts to the inputs of the model; the recorded replies cover most of the rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from bert_tokemb.serve.features import RequestError
from bert_tokemb.serve.pooling import Pooling
from support.models import TINY, write_hugging_face
from support.pending import maker_of


def test_pair_has_two_segments(shared_tiny: Path) -> None:
    maker = maker_of(shared_tiny)
    (features,), length = maker.make(["hello world ||| the"])
    assert maker.tokens(features) == ["[CLS]", "hello", "world", "[SEP]", "the", "[SEP]"]
    assert (features.first_length, features.pieces, length) == (4, 6, 6)
    assert features.mask.all()


def test_pair_is_refused_by_a_model_with_one_token_type(shared_tiny: Path) -> None:
    maker = maker_of(shared_tiny, token_types=1)
    with pytest.raises(RequestError, match="does not support sentence pairs"):
        maker.make(["a", "hello ||| world"])


def test_special_tokens_can_be_masked(shared_tiny: Path) -> None:
    maker = maker_of(shared_tiny, mask_cls_sep=True)
    (one, pair), _ = maker.make(["hello", "hello ||| the"])
    assert one.mask.tolist() == [0, 1, 0]
    assert pair.mask.tolist() == [0, 1, 0, 1, 0]


def test_sentence_of_masked_pieces_is_padded(shared_tiny: Path) -> None:
    maker = maker_of(shared_tiny, mask_cls_sep=True)
    (empty, _), length = maker.make(["", "hello world"])
    assert length == 4
    assert (empty.pieces, len(empty.ids), empty.first_length) == (2, 4, 4)
    assert not empty.mask.any()


def test_sentence_of_masked_pieces_has_no_last_token(shared_tiny: Path) -> None:
    maker = maker_of(shared_tiny, mask_cls_sep=True, pooling_strategy=Pooling.LAST_TOKEN)
    with pytest.raises(RequestError, match="all pieces of a sentence are masked"):
        maker.make([""])


def test_special_tokens_with_other_names_are_those_that_clients_know(tmp_path: Path) -> None:
    """The vocabulary of MPNet also has ``[CLS]`` and ``[SEP]``, which the model does not use."""
    pieces = ["<s>", "<pad>", "</s>", "[UNK]", "[CLS]", "[SEP]", "the", "hank"]
    settings = {"cls_token": "<s>", "sep_token": "</s>"}
    model = write_hugging_face(tmp_path / "model", TINY, pieces, settings=settings)
    maker = maker_of(model)
    (text, split), _ = maker.make(["the hank", ["the", "hank"]])
    assert list(text.ids) == list(split.ids) == [0, 6, 7, 2]
    assert maker.tokens(text) == ["[CLS]", "the", "hank", "[SEP]"]
    bare = maker_of(model, no_special_token=True)
    (features,), _ = bare.make([["[CLS]", "the", "[SEP]"]])
    assert list(features.ids) == [0, 6, 2]
