"""Toy tokenizers of each kind, trained on a few lines in several languages.

They are small, so that words have several pieces and random text has unknown ones.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from .models import TINY, write_hugging_face

__all__ = ["ADDED", "TOYS", "toy", "toy_vocabulary_size", "write_toy"]

_LINES = (
    "the quick brown fox jumps over the lazy dog and a cat in the hat",
    "it's a lot of money , don't you think ? I'd say so ! 12 345 2024",
    "New York is not a new city and a word is a word",
    "der schnelle braune Fuchs springt über den faulen Hund in Köln",
    "le café naïve de l'été à Besançon où il y a un élève",
    "Łódź jest dużym miastem w Polsce zażółć gęślą jaźń",
    "Привет мир это большой город на реке",
    "東京 は 日本 の 首都 です 私 は 学生 です",
    "मैं एक छात्र हूँ यह किताब है",
    "هذا كتاب كبير في البيت السلام عليكم",
    "한국어 는 재미있다 서울 은 크다",
    "ฉัน รัก คุณ ประเทศไทย",
    "a ___ b ____ c",
) * 8

_UNKNOWN, _BERT_UNKNOWN = "<unk>", "[UNK]"
_SPECIAL = ["<s>", "<pad>", "</s>", _UNKNOWN, "<mask>"]
_BERT_SPECIAL = ["[PAD]", _BERT_UNKNOWN, "[CLS]", "[SEP]", "[MASK]"]

ADDED = "New York"
"""A token that some of the toys search for before anything else."""


def _bpe(**options: Any) -> tuple[models.Model, trainers.Trainer]:
    alphabet = options.pop("alphabet", [])
    model = models.BPE(**options)
    vocab_size = 600 if alphabet else 400
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=_SPECIAL,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    return model, trainer


def _byte_level_bpe() -> tuple[models.Model, trainers.Trainer]:
    return _bpe(alphabet=pre_tokenizers.ByteLevel.alphabet())


def _unigram() -> tuple[models.Model, trainers.Trainer]:
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=_SPECIAL, unk_token=_UNKNOWN, show_progress=False
    )
    return models.Unigram(), trainer


def _wordpiece() -> tuple[models.Model, trainers.Trainer]:
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=_BERT_SPECIAL, show_progress=False
    )
    return models.WordPiece(unk_token=_BERT_UNKNOWN), trainer


def _train(
    made: tuple[models.Model, trainers.Trainer],
    normalizer: normalizers.Normalizer | None = None,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None = None,
    added: Sequence[AddedToken] = (),
    special: tuple[str, str] = ("<s>", "</s>"),
) -> dict[str, Any]:
    model, trainer = made
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(_LINES, trainer)
    tokenizer.add_tokens(list(added))
    cls, sep = special
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in special],
    )
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    return content


def _charsmap(replacements: Mapping[str, str]) -> bytes:
    """Return a charsmap of SentencePiece: a trie of the keys, and the normalized strings.

    The trie is a double array as written by Darts-clone, each unit of which has 32 bits.
    """
    strings, offsets = b"", {}
    for key, value in replacements.items():
        offsets[key.encode()] = len(strings)
        strings += value.encode() + b"\0"
    units = _double_array(offsets)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + strings


def _double_array(values: Mapping[bytes, int]) -> list[int]:
    units, used = [0] * 256, [False] * 256
    used[0] = True

    def build(prefix: bytes, node: int) -> None:
        labels = sorted(
            {key[len(prefix)] for key in values if key.startswith(prefix) and key != prefix}
        )
        ends = prefix in values
        children = ([0] if ends else []) + labels
        base = 256
        while True:
            while len(units) <= base + 256:
                units.append(0)
                used.append(False)
            # An offset is stored relative to the node, by exclusive or, in 21 bits.
            if not any(used[base ^ label] for label in children):
                break
            base += 1
        for label in children:
            used[base ^ label] = True
        units[node] |= (node ^ base) << 10 | (256 if ends else 0)
        if ends:
            units[base] = values[prefix] | 1 << 31
        for label in labels:
            units[base ^ label] |= label
            build(prefix + bytes([label]), base ^ label)

    build(b"", 0)
    return units


def _with_charsmap(content: dict[str, Any], replacements: Mapping[str, str]) -> dict[str, Any]:
    """Return the tokenizer with a precompiled charsmap before its normalizer."""
    precompiled = {
        "type": "Precompiled",
        "precompiled_charsmap": base64.b64encode(_charsmap(replacements)).decode(),
    }
    own = [content["normalizer"]] if content["normalizer"] else []
    return {**content, "normalizer": {"type": "Sequence", "normalizers": [precompiled, *own]}}


# As in the charsmap of XLM-R: spaces, compatibility characters, and composed ones.
_CHARSMAP = {
    "\u00b4": " \u0301",
    " \u0301": "´",
    "\ufdfa": "صلى الله عليه وسلم",
    "\u200b": " ",
    "\u00ad": "",
    "e\u0301": "é",
    "\uff21": "A",
    "\ufb01": "fi",
    "\u2581": "\u2581",
    "\u0600": "x",
    "\u00bd": "1\u20442",
}


def _trained_on_words(*, added: bool) -> dict[str, Any]:
    """Return a BPE that merges nothing over spaces, although it could."""
    return _train(
        _bpe(unk_token=_UNKNOWN, fuse_unk=True, byte_fallback=True),
        None,
        pre_tokenizers.Metaspace(),
        [AddedToken("▁▁", normalized=False)] if added else (),
    )


def _with_two_spaces(content: dict[str, Any]) -> dict[str, Any]:
    """Return a BPE that merges a space with a common word after another space."""
    vocab: dict[str, int] = content["model"]["vocab"]
    vocab["▁▁the"] = len(vocab)
    content["model"]["merges"].append(["▁", "▁the"])
    return content


_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_LIKE_LLAMA = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [{"type": "Prepend", "prepend": "▁"}, _REPLACE],
    },
    "pre_tokenizer": None,
}
_LIKE_GEMMA = {
    "normalizer": _REPLACE,
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    },
}
_SPACES = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])

TOYS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "byte-level BPE": lambda: _train(_byte_level_bpe(), None, pre_tokenizers.ByteLevel(False)),
    "byte-level BPE with prefix space": lambda: _train(
        _byte_level_bpe(), None, pre_tokenizers.ByteLevel(True)
    ),
    "byte-level BPE with NFKC": lambda: _train(
        _byte_level_bpe(), normalizers.NFKC(), pre_tokenizers.ByteLevel(False)
    ),
    "byte-level BPE with underscores": lambda: _train(
        _byte_level_bpe(), normalizers.Replace("_", " "), pre_tokenizers.ByteLevel(False)
    ),
    "byte-level BPE with digits": lambda: _train(
        _byte_level_bpe(),
        normalizers.NFC(),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]),
        [AddedToken("    ", normalized=True), AddedToken("fox", normalized=True)],
    ),
    "byte-level BPE with an added phrase": lambda: _train(
        _byte_level_bpe(),
        None,
        pre_tokenizers.ByteLevel(False),
        [AddedToken(ADDED), AddedToken("fox", lstrip=True)],
    ),
    "byte-level BPE with a lower-cased added phrase": lambda: _train(
        _byte_level_bpe(),
        normalizers.Lowercase(),
        pre_tokenizers.ByteLevel(True),
        [AddedToken(ADDED, normalized=True), AddedToken("École Été", normalized=False)],
    ),
    "BPE with another regular expression": lambda: _train(
        _byte_level_bpe(),
        None,
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(" ", "merged_with_previous"),
                pre_tokenizers.ByteLevel(False, use_regex=False),
            ]
        ),
    ),
    **{
        f"{name} with Metaspace {scheme}": lambda made=made, scheme=scheme: _train(
            made(), None, pre_tokenizers.Metaspace(prepend_scheme=scheme)
        )
        for name, made in {"Unigram": _unigram, "BPE": lambda: _bpe(unk_token=_UNKNOWN)}.items()
        for scheme in ("first", "always", "never")
    },
    "Unigram like XLM-R": lambda: _with_charsmap(
        _train(
            _unigram(),
            None,
            pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]),
        ),
        _CHARSMAP,
    ),
    "Unigram like DeBERTa": lambda: _with_charsmap(
        _train(
            _unigram(),
            normalizers.Sequence([normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]),
            pre_tokenizers.Metaspace(),
        ),
        _CHARSMAP,
    ),
    "Unigram with an added word": lambda: _train(
        _unigram(),
        normalizers.Sequence([normalizers.NFC(), normalizers.Strip()]),
        pre_tokenizers.Metaspace(),
        [AddedToken("fox", normalized=False)],
    ),
    "Unigram like ALBERT": lambda: _with_charsmap(
        _train(
            _unigram(),
            normalizers.Sequence(
                [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
            ),
            pre_tokenizers.Metaspace(),
        ),
        _CHARSMAP,
    ),
    "Unigram on whole lines": lambda: _train(
        _unigram(), None, pre_tokenizers.Metaspace(split=False)
    ),
    "BPE on whole lines": lambda: _train(_bpe(unk_token=_UNKNOWN, fuse_unk=True), _SPACES),
    "BPE like Llama": lambda: _with_two_spaces({**_trained_on_words(added=False), **_LIKE_LLAMA}),
    "BPE like Gemma": lambda: {**_trained_on_words(added=True), **_LIKE_GEMMA},
    "BPE without pre-tokenizer": lambda: _train(_bpe(unk_token=_UNKNOWN, fuse_unk=True)),
    "BPE without unknown piece": lambda: _train(_bpe(), None, pre_tokenizers.Metaspace()),
    "BPE with word ends": lambda: _train(
        _bpe(unk_token=_UNKNOWN, end_of_word_suffix="</w>"),
        normalizers.BertNormalizer(),
        pre_tokenizers.BertPreTokenizer(),
    ),
    "WordPiece with NFKC": lambda: _train(
        _wordpiece(),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]),
        pre_tokenizers.Whitespace(),
        [AddedToken("ew", single_word=True)],
        special=("[CLS]", "[SEP]"),
    ),
    "WordPiece without normalizer": lambda: _train(
        _wordpiece(), None, pre_tokenizers.WhitespaceSplit(), special=("[CLS]", "[SEP]")
    ),
}
"""Functions that return the content of a ``tokenizer.json``, by name."""


@cache
def toy(name: str) -> bytes:
    """Return a ``tokenizer.json``."""
    return json.dumps(TOYS[name](), ensure_ascii=False).encode()


def toy_vocabulary_size(name: str) -> int:
    """Return the number of pieces, added tokens included."""
    return Tokenizer.from_buffer(toy(name)).get_vocab_size()


def write_toy(directory: Path, name: str, **changes: Any) -> Path:
    """Write a tiny BERT with a toy tokenizer, as in multilingual-e5-small, and return it.

    Args:
        directory: Where to write it.
        name: The name of the toy.
        changes: Parts of its ``tokenizer.json`` to replace.
    """
    content = {**json.loads(toy(name)), **changes}
    size = toy_vocabulary_size(name)
    pieces = [f"piece {i}" for i in range(size)]  # only their number matters
    return write_hugging_face(directory, TINY, pieces, tokenizer=content)
