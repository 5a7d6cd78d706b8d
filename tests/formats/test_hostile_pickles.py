"""Pickles that would do harm, take all memory or never end, and pickles of something else."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.formats.pickle import PickleReader

ARRAYS = [np.array([[1, -2, 3], [0, 0, 0]], np.float32), np.zeros((0, 3), np.float32)]


def read(content: bytes) -> list[np.ndarray]:
    return list(PickleReader("it", io.BytesIO(content)))


# --- Programs and other objects ---------------------------------------------------------------


class Program:
    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, object]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "program",
    [
        Program(os.system, "touch harm"),
        Program(eval, "open('harm', 'w')"),
        Program(getattr, "", "join"),
        Program(np.load, "harm"),
        Program(np.memmap, "harm", "f4", "w+", 0, (1,)),
        Program(np.array, [1.0]),
        Program(np.ndarray, (1,)),
        Program(np.ndarray, print),
        Program(bytes, 10**15),
        Program(bytearray, 10**15),
        np.array([Program(os.system, "touch harm")]),
    ],
)
def test_reader_runs_no_program(
    program: object, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in ([program], program, [*ARRAYS, program], {"a": program}):
        with pytest.raises(InputError, match="it is not a plain list|it is damaged, or not a"):
            read(pickle.dumps(content, protocol=protocol))
    assert not list(tmp_path.iterdir())


def test_reader_names_what_a_program_refers_to() -> None:
    with pytest.raises(InputError, match="not a plain list of NumPy arrays: it refers to posix.sy"):
        read(pickle.dumps([Program(os.system, "touch harm")]))
    with pytest.raises(InputError) as caught:
        read(b"ca\x1b[2J\n" + b"x" * 1000 + b"\n.")
    assert "it refers to a\\x1b[2J.xxx" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "it uses the pickle opcode EMPTY_DICT"),
        ([1], "something other than arrays"),
        (["a"], "something other than arrays"),
        (None, "it is of type NoneType"),
        ([[np.ones(1)]], "a second list"),
        (ARRAYS[0], "it is a single array"),
        ({1: ARRAYS[0]}, "EMPTY_DICT"),
        ([np.array(["a"])], "an array of data type 'U1'"),
        ([np.zeros(1, "V4")], "an array of data type 'V4'"),
        ([np.zeros(1, "M8[s]")], "an array of data type 'M8'"),
        ([np.zeros(1, "f4,f4")], "an array of data type 'V8'"),
        ([np.zeros(1, "O")], "an array of data type 'O8'"),
        ([np.ma.masked_array([1.0])], "it refers to numpy.ma"),
        ([np.zeros((2, 3, 4)).transpose(1, 2, 0)], "an unusual memory order"),
    ],
)
def test_reader_names_what_is_not_a_list_of_arrays(content: object, reason: str) -> None:
    with pytest.raises(InputError, match=f"it is not a plain list of NumPy arrays: .*{reason}"):
        read(pickle.dumps(content, protocol=5))


# --- Assembled by hand ------------------------------------------------------------------------

HEAD = b"\x80\x04"
LARGE = 10_000_000


def called(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


# A tuple of ten times the same tuple, which is ten times the same tuple, and so on.
NESTED = b"K\x00" + (b"q\x000(" + b"h\x00" * 10 + b"t") * 11
# Two such tuples, equal but not the same object, so that comparing them takes forever.
NESTED_PAIR = NESTED + NESTED + b"\x86"
RECONSTRUCT = called("numpy.core.multiarray", "_reconstruct")
NDARRAY = called("numpy", "ndarray")
DTYPE = called("numpy", "dtype") + b"X\x02\x00\x00\x00f2\x85R"
EMPTY = RECONSTRUCT + NDARRAY + b"K\x00\x85C\x01b\x87R"
TEXT = b"X" + struct.pack("<I", LARGE) + b"a" * LARGE
DATA = b"B" + struct.pack("<I", LARGE) + b"a" * LARGE
STATE = b"(K\x01J" + struct.pack("<i", LARGE // 2) + b"K\x01\x86h\x01\x89h\x02tb"
FROM_BUFFER = called("numpy.core.numeric", "_frombuffer")
FILLED = b"(K\x01K\x00K\x03\x86" + DTYPE + b"\x89C\x00tb"
WITH_SHAPE = b"(K\x01J%bK%b\x86" + DTYPE + b"\x89C\x00tb"
SHAPED_BY = b"(K\x01%b" + DTYPE + b"\x89C\x00tb"

BOMBS = {
    "data type": HEAD + b"](" + called("numpy", "dtype") + NESTED + b"\x85Re.",
    "byte order": HEAD + b"](" + DTYPE + b"(K\x03" + NESTED + b"tbe.",
    "name": HEAD + b"](X\x05\x00\x00\x00numpy" + NESTED + b"\x93e.",
    "encoding": HEAD + b"](" + called("_codecs", "encode") + b"X\x00\0\0\0" + NESTED + b"\x86Re.",
    "memory order": HEAD
    + b"]("
    + FROM_BUFFER
    + b"(C\x00"
    + DTYPE
    + b"K\x00\x85"
    + NESTED
    + b"tRe.",
    "shape": HEAD + b"](" + EMPTY + SHAPED_BY % NESTED_PAIR + b"e.",
    "key": HEAD + b"]}" + NESTED + b"K\x00s.",
    "members": HEAD + b"](" + NESTED + b"\x91.",
    "member": HEAD + b"]\x8f(" + NESTED + b"\x90.",
    "result": HEAD + NESTED + b".",
    "same text": (
        HEAD
        + called("_codecs", "encode")
        + (b"q\x010" + TEXT + b"q\x020" + b"X\x06\x00\x00\x00latin1q\x030")
        + (b"]" + b"h\x01h\x02h\x03\x86R" * 3000 + b".")
    ),
    "same data": (
        HEAD + (DTYPE + b"q\x010" + DATA + b"q\x020" + b"](") + (EMPTY + STATE) * 30_000 + b"e."
    ),
    "same array": (
        HEAD + (DTYPE + b"q\x010" + DATA + b"q\x020" + b"](") + (EMPTY + STATE * 30_000) + b"e."
    ),
    "number as data": (
        HEAD
        + (b"](" + FROM_BUFFER + b"(\x8a\x05" + (1 << 32).to_bytes(5, "little") + DTYPE)
        + (b"\x8a\x05" + (1 << 31).to_bytes(5, "little") + b"K\x01\x86")
        + b"X\x01\x00\x00\x00CtRe."
    ),
    "memo index": HEAD + b"]r\x00\x00\x00\x10}.",
    "missing bytes": HEAD + b"]\x96" + (1 << 32).to_bytes(8, "little") + b".",
    "digits": b"L" + b"9" * LARGE + b"L\n.",
    "text of a number": b"F" + b"x" * LARGE + b"\n.",
    "unquoted text": b"S" + b"x" * LARGE + b"\n.",
}
INSPECT = """
import json, re, resource, signal, sys
from pathlib import Path
from bert_tokemb.formats.inspection import inspect
resource.setrlimit(resource.RLIMIT_AS, (1 << 33, 1 << 33))  # whatever happens
for path in map(Path, sys.argv[1:]):
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    signal.alarm(20)
    try:
        message = f"nothing refused: {inspect(str(path))}"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())
    print(json.dumps([path.name, message, int(peak[1]) * 1024]), flush=True)
"""


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, int]]:
    """For each bomb, the error that it causes and the peak of resident memory in bytes."""
    directory = tmp_path_factory.mktemp("bombs")
    for name, bomb in BOMBS.items():
        (directory / name).write_bytes(bomb)
    command = [sys.executable, "-c", INSPECT, *(directory / name for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = map(json.loads, done.stdout.splitlines())
    return {name: (message, peak) for name, message, peak in lines}


@pytest.mark.parametrize("name", BOMBS)
def test_reader_refuses_small_pickles_that_become_large(
    name: str, inspected: dict[str, tuple[str, int]]
) -> None:
    assert name in inspected, "it took forever, or all memory"
    message, peak = inspected[name]
    assert message.startswith("InputError: ")
    assert "is not a plain list" in message or "is damaged, or not a pickled list" in message
    assert "\n" not in message
    assert len(message) < 600
    assert peak < 150e6 + 5 * len(BOMBS[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"](" + EMPTY + FILLED + b"e.", None),
        (b"(" + EMPTY + FILLED + b"l.", None),
        (b"](" + EMPTY + b"e.", "something other than arrays"),  # never filled
        (b"](" + EMPTY + FILLED + b"q\x00eh\x00h\x00a.", "it appends to something other than"),
        (b"]q\x00h\x00a.", "something other than arrays"),  # the list in itself
        (EMPTY + FILLED + b"0].", "arrays outside of the list"),  # dropped
        (b"](" + EMPTY + FILLED + b"q\x00e" + EMPTY + FILLED + b"0.", "arrays outside of the list"),
        (b"](" + EMPTY + FILLED + b"e](" + EMPTY + FILLED + b"e.", "a second list"),
        (EMPTY + FILLED + b".", "of NumPy arrays: it is a single array"),
        (b"](" + EMPTY + FILLED + b"e.].", "data follows the end of the pickle"),
        (b"](" + EMPTY + FILLED + b"e.x", "data follows the end of the pickle"),
        (b"](" + EMPTY + WITH_SHAPE % (b"\xff" * 4, b"\x03") + b"e.", "without a valid shape"),
        (b"](" + EMPTY + SHAPED_BY % b"K\x00" + b"e.", "without a valid shape"),
        (b"](" + EMPTY + FILLED * 2 + b"e.", "it changes an array"),
    ],
)
def test_reader_yields_each_array_of_the_one_list(content: bytes, message: str | None) -> None:
    if message is None:
        assert [array.shape for array in read(HEAD + content)] == [(0, 3)]
        return
    with pytest.raises(InputError, match=message):
        read(HEAD + content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "pickle exhausted before seeing STOP$"),
        (b"\x80\x04]", "pickle exhausted before seeing STOP$"),
        (b"\x80\x04\x8c\x01\xff.", "'utf-8' codec"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", ""),  # more bytes than can exist
        (b"\x80\x04\x8e" + (1 << 62).to_bytes(8, "little") + b".", ""),
        (b"\x80\x04]K\x01K\x01\x86b.", "the state of something other than an array"),
        (b"\x80\x04" + called("numpy", "dtype") + b"K\x01K\x01\x86b.", "the state of something"),
        (b"(" * 10 + b"t" * 20 + b".", ""),
        (b"g5\n.", "its memo has no value 5"),
        (b"R.", "its stack is empty"),
        (b".", ""),
        (b"K\x00K\x00R.", ""),  # a number called
        (b"I" + b"9" * 100_000 + b"\n.", ""),
        (b"hello", "opcode b'h|h"),
        (b"](" + EMPTY + WITH_SHAPE % (b"\x09\0\0\0", b"\x01") + b"e.", "reshape"),
    ],
)
def test_reader_reports_what_pickle_dump_never_writes(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"it is damaged, or not a pickled list.*{reason}"):
        read(content)
