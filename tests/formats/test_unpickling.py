"""Small pickles that would take all memory, or for ever; and arrays that are in one twice."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats.inspection import inspect
from support.memory import run_and_measure

HEAD = b"\x80\x04"
LARGE = 10_000_000
WAYS = 10
ARRAY = np.array([[1, 2, 3], [0, 0, 0]], np.float32)


def called(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


# Ten times the same, which is ten times the same, and so on.
NESTED = b"K\x00" + (b"q\x000(" + b"h\x00" * WAYS + b"t") * 11
RECONSTRUCT = called("numpy.core.multiarray", "_reconstruct")
NDARRAY = called("numpy", "ndarray")
DTYPE = called("numpy", "dtype") + b"X\x02\x00\x00\x00f2\x85R"
EMPTY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"
TEXT = b"X" + struct.pack("<I", LARGE) + b"a" * LARGE
CONTENT = b"B" + struct.pack("<I", LARGE) + b"a" * LARGE
STATE = b"(K\x01J" + struct.pack("<i", LARGE // 2) + b"K\x01\x86h\x01\x89h\x02tb"
FROM_BUFFER = called("numpy.core.numeric", "_frombuffer")

BOMBS = {
    "the name of a type": HEAD + b"](" + called("numpy", "dtype") + NESTED + b"\x85Re.",
    "a key": HEAD + b"]}" + NESTED + b"K\x00s.",
    "members": HEAD + b"](" + NESTED + b"\x91.",
    "a member": HEAD + b"]\x8f(" + NESTED + b"\x90.",
    "a text over and over": (
        HEAD
        + called("_codecs", "encode")
        + (b"q\x010" + TEXT + b"q\x020" + b"X\x06\x00\x00\x00latin1q\x030")
        + (b"]" + b"h\x01h\x02h\x03\x86R" * 3000 + b".")
    ),
    "content over and over": (
        HEAD + (DTYPE + b"q\x010" + CONTENT + b"q\x020" + b"](") + (EMPTY + STATE) * 30_000 + b"e."
    ),
    "one array over and over": (
        HEAD + (DTYPE + b"q\x010" + CONTENT + b"q\x020" + b"](") + (EMPTY + STATE * 30_000) + b"e."
    ),
    "a number for content": (
        HEAD
        + (b"](" + FROM_BUFFER + b"(\x8a\x05" + (1 << 32).to_bytes(5, "little") + DTYPE)
        + (b"\x8a\x05" + (1 << 31).to_bytes(5, "little") + b"K\x01\x86")
        + b"X\x01\x00\x00\x00CtRe."
    ),
    "a number in its memory": HEAD + b"]r\x00\x00\x00\x10}.",
    "bytes that do not follow": HEAD + b"]\x96" + (1 << 32).to_bytes(8, "little") + b".",
}
SCRIPT = """
import resource, signal
from bert_tokemb.formats.inspection import inspect
resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))  # whatever becomes of it
signal.alarm(30)
try:
    inspect(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_small_pickle_that_becomes_large(bomb: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(bomb)
    told, peak = run_and_measure(SCRIPT, path)
    assert told.startswith(b"InputError ")
    assert b"it asks for" in told or b"is no pickle, or damaged" in told
    assert told.count(b"\n") == 1
    assert len(told) < 300
    assert peak * 1024 < 150e6 + 5 * len(bomb)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_there_several_times_is_counted_so(protocol: int, tmp_path: Path) -> None:
    path, other, blank = tmp_path / "a.pkl", ARRAY[:1] + 6, ARRAY[:0]
    arrays = [other, other, ARRAY, blank, ARRAY, blank, other]
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    seen = inspect(str(path))
    assert (seen.sentences, seen.blank, seen.words, seen.zero) == (7, 2, 7, 2)
    assert [(n, row.tolist()) for n, row in seen.first] == [
        (1, [7, 8, 9]),
        (2, [7, 8, 9]),
        (3, [1, 2, 3]),
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_with_the_same_small_content(protocol: int, tmp_path: Path) -> None:
    """NumPy gives one and the same object for each of one byte, and for each empty one."""
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps([np.zeros((0, 3), "f2")] * 2 + [ARRAY[:0]] * 500, protocol))
    assert inspect(str(path)).blank == 502


WITH_SHAPE = b"(K\x01J%bK%b\x86" + DTYPE + b"\x89C\x00tb"
FILLED = b"(K\x01K\x00K\x03\x86" + DTYPE + b"\x89C\x00tb"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"](" + EMPTY + FILLED + b"e.", None),
        (b"](" + EMPTY + b"e.", "it holds something else"),  # never filled
        (EMPTY + FILLED + b"0].", "it makes others besides"),  # and dropped
        (EMPTY + FILLED + b".", "of NumPy arrays but one array"),
        (b"](" + EMPTY + FILLED + b"e.].", "holds more than one list"),
        (b"](" + EMPTY + FILLED + b"e.x", "holds more than one list, or is damaged"),
        (b"](" + EMPTY + WITH_SHAPE % (b"\xff" * 4, b"\x03") + b"e.", "an array of less than"),
        (b"](" + EMPTY + WITH_SHAPE % (b"\x09\0\0\0", b"\x00") + b"e.", "holds no word vectors"),
        (b"](" + EMPTY + FILLED * 2 + b"e.", "it asks for an array that changes"),
    ],
)
def test_what_is_made_is_listed(content: bytes, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(HEAD + content)
    if message is None:
        assert inspect(str(path)).blank == 1
        return
    with pytest.raises(InputError, match=message):
        inspect(str(path))
