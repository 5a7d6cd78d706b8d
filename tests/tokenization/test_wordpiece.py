"""WordPiece: from words to pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from bert_tokemb.tokenization.basic import basic_tokens
from bert_tokemb.tokenization.vocabulary import Vocabulary
from bert_tokemb.tokenization.wordpiece import PieceTokenizer
from support.cases import CASES, Case
from support.models import minilm_vocabulary
from support.texts import EXAMPLES
from support.tiny import CASED_VOCABULARY, PIECE_IDS, VOCABULARY


def splitter(
    vocabulary: Sequence[str], lower: bool = True, strip: bool | None = None
) -> Callable[[str], list[str]]:
    """Return a function from a word to its pieces."""
    ids = {piece: i for i, piece in enumerate(vocabulary)}
    tokenizer = PieceTokenizer(Vocabulary(ids, lower, lower if strip is None else strip))
    return lambda word: [tokenizer.piece(i) for i in tokenizer.split(word)]


@pytest.mark.parametrize("case", [case for case in CASES if not case.newer], ids=str)
def test_pieces_equal_those_of_the_genuine_server(case: Case) -> None:
    vocabulary = CASED_VOCABULARY if case.cased else VOCABULARY
    split = splitter(vocabulary, lower=not case.cased)
    assert [split(word) for word in case.words] == case.pieces


@pytest.mark.parametrize(
    ("word", "lower", "strip", "expected"),
    [
        ("É", True, True, ["e"]),
        ("É", True, False, ["[UNK]"]),
        ("É", False, False, ["É"]),
        ("É", False, True, ["E"]),
        ("Éa", False, False, ["É", "##a"]),
        ("é", True, False, ["é"]),
        ("HELLO", True, None, ["hello"]),
        ("HELLO", False, None, ["H", "##E", "##L", "##L", "##O"]),
        ("hello" + "\u0301", False, True, ["hello"]),
        ("hello" + "\u0301", True, False, ["[UNK]"]),
    ],
)
def test_words_are_normalized_as_the_vocabulary_says(
    word: str, lower: bool, strip: bool | None, expected: list[str]
) -> None:
    unknown = {"##\u0301", "é"} if expected == ["[UNK]"] else {"##\u0301"}
    vocabulary = [piece for piece in CASED_VOCABULARY if piece not in unknown]
    assert splitter(vocabulary, lower, strip)(word) == expected


@pytest.mark.parametrize("word", ["", "\u200b", "\xad\ufeff", "\x00", "\ufffd", "\ue000", "\u0301"])
def test_words_of_deleted_characters_have_no_pieces(word: str) -> None:
    assert splitter(VOCABULARY)(word) == []


@pytest.mark.parametrize("letters", [64, 65, 99, 100])
def test_words_of_up_to_100_characters_are_split(letters: int) -> None:
    split = splitter(VOCABULARY)
    assert "".join(split("a" * letters)).replace("##", "") == "a" * letters
    assert split("☃" * letters) == ["[UNK]"]


def test_longer_tokens_are_unknown() -> None:
    split = splitter(VOCABULARY)
    assert split("a" * 101) == ["[UNK]"]
    assert split("a" * 100_000) == ["[UNK]"]
    assert split("a" * 100 + "-" + "b" * 101 + "!") == [*split("a" * 100), "-", "[UNK]", "!"]
    # Characters count, not bytes, and not those that are stripped.
    assert split("é" * 100) == ["e", *["##e"] * 99]
    assert split("東" * 300) == ["東"] * 300


def test_ids_and_pieces_are_looked_up() -> None:
    tokenizer = PieceTokenizer(Vocabulary(PIECE_IDS, True, True))
    assert tokenizer.piece(tokenizer.id("hank")) == "hank"
    assert tokenizer.id("no such piece") == tokenizer.unknown == PIECE_IDS["[UNK]"]
    assert (tokenizer.cls, tokenizer.sep) == (PIECE_IDS["[CLS]"], PIECE_IDS["[SEP]"])


def greedy(word: str, vocabulary: Mapping[str, int], lower: bool) -> list[str]:
    """Split like the original implementation, the longest piece first."""
    pieces: list[str] = []
    for token in basic_tokens(word, lower):
        own: list[str] = []
        start = 0
        while start < len(token) <= 100:
            ends = range(len(token), start, -1)
            spelled = (("##" if start else "") + token[start:end] for end in ends)
            found = next((piece for piece in spelled if piece in vocabulary), None)
            if found is None:
                own = []
                break
            own.append(found)
            start += len(found) - 2 * (start > 0)
        pieces += own or ["[UNK]"]
    return pieces


WORDS = st.one_of(
    st.text(st.characters(), max_size=12),
    st.text(st.sampled_from("aehlo wrdsABZ'.-é東#[]\u200b\u0301"), max_size=130),
    st.lists(st.sampled_from(["hello", "play", "ing", "##ing", "un", "aff", "Z"])).map("".join),
)


@EXAMPLES
@pytest.mark.parametrize("cased", [True, False])
def test_longest_pieces_are_taken_first(cased: bool, examples: int) -> None:
    vocabulary = CASED_VOCABULARY if cased else VOCABULARY
    split = splitter(vocabulary, lower=not cased)
    ids = {piece: i for i, piece in enumerate(vocabulary)}

    @settings(max_examples=examples)
    @given(WORDS)
    def check(word: str) -> None:
        assert split(word) == greedy(word, ids, lower=not cased)

    check()


PLAIN = """
It was the best of times, it was the worst of times -- don't you think so? "Well," said
Dr. O'Hara-Smith (aged 47), I've paid $3.50 at https://example.org/a?b=c%20d&e=f#g & 10:30!!!
Les élèves français mangent naïvement à l'hôtel; Øresund, Łódź, İstanbul, straße, Αθήνα.
日本語のテキスト 東京2020 한국어 Привет мир ภาษาไทย नमस्ते שלום مرحبا 😀 ½ ① ﬁ Ｈｅｌｌｏ
"""


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("strip", [True, False, None])
def test_pieces_of_plain_text_equal_those_of_the_library(lower: bool, strip: bool | None) -> None:
    ids = {piece: i for i, piece in enumerate(minilm_vocabulary())}
    library = BertWordPieceTokenizer(ids, lowercase=lower, strip_accents=strip)
    split = splitter(minilm_vocabulary(), lower, strip)
    for word in PLAIN.split():
        assert split(word) == library.encode(word, add_special_tokens=False).tokens
