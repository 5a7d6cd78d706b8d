"""Compressed texts: concatenated streams, padding, damage, pipes, resume points."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random

import pytest

try:
    from compression import zstd
except ImportError:
    from backports import zstd

from bert_tokemb.errors import InputError, MissingPackageError
from bert_tokemb.text.compression import BLOCK_SIZE
from bert_tokemb.text.reader import TextInput

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
}

ALL_KINDS = pytest.mark.parametrize("kind", COMPRESS)


def assert_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught, TextInput(str(path)) as text:
        list(text)
    assert str(caught.value).startswith(f"{path} is damaged or truncated: ")


def inverted(data: bytes, place: int) -> bytes:
    """Return the data with all bits of one byte inverted."""
    changed = bytearray(data)
    changed[place] ^= 255
    return bytes(changed)


@ALL_KINDS
def test_concatenated_streams_are_read_as_one_text(kind: str, tmp_path: Path) -> None:
    """``cat a.gz b.gz`` and parallel compressors write such files."""
    path = tmp_path / f"text{kind}"
    compress = COMPRESS[kind]
    path.write_bytes(compress("a \u00e9\nb".encode()) + compress(b"c\n" * BLOCK_SIZE))
    with TextInput(str(path)) as text:
        assert text.measure() is None
        assert list(text) == ["a \u00e9\n", "bc\n", *["c\n"] * (BLOCK_SIZE - 1)]


@ALL_KINDS
def test_extension_is_recognized_in_capitals(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"TEXT{kind.upper()}"
    path.write_bytes(COMPRESS[kind]("a \u00e9\n".encode()))
    with TextInput(str(path)) as text:
        assert list(text) == ["a \u00e9\n"]


@ALL_KINDS
def test_compressed_file_without_extension_is_recognized(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(COMPRESS[kind]("a \u00e9\n".encode()))
    command = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}[kind]
    with TextInput(str(path)) as text, pytest.raises(InputError) as caught:
        list(text)
    assert str(caught.value).endswith(
        f"; it is compressed: give a file whose name ends in {kind}, or pipe it through "
        f"{command} -dc"
    )


# --- Damage -------------------------------------------------------------------------------------


@ALL_KINDS
def test_damage_and_truncation_are_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    whole = COMPRESS[kind](bytes(Random(1).choices(b"abc\n", k=20_000)))
    middle = len(whole) // 2
    for content in (
        whole[:middle],
        whole[:3],
        inverted(whole, middle),
        inverted(whole, 10),
        b"plain text\n",
    ):
        assert_damaged(path, content)


@ALL_KINDS
def test_damage_after_the_first_stream_is_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    first, second = COMPRESS[kind](b"a\n"), COMPRESS[kind](b"b\n" * 1000)
    for rest in (
        inverted(second, 0),
        inverted(second, -6),
        second[:3],
        second[:-3],
        b"plain text\n",
    ):
        assert_damaged(path, first + rest)


@ALL_KINDS
def test_empty_compressed_file_is_reported(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    assert_damaged(path, b"")
    path.write_bytes(COMPRESS[kind](b""))  # an empty text, compressed
    with TextInput(str(path)) as text:
        assert list(text) == []


A, B = lzma.compress(b"a\n"), lzma.compress(b"b\n")


@pytest.mark.parametrize("block_size", [1, 7, BLOCK_SIZE])
@pytest.mark.parametrize("zeros", [4, 8, 1000])
def test_padding_of_xz_is_skipped(zeros: int, block_size: int, tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    path.write_bytes(A + bytes(zeros) + B + bytes(zeros))
    with TextInput(str(path), block_size=block_size) as text:
        assert list(text) == ["a\n", "b\n"]
        assert list(text) == []


def test_padding_of_xz_may_exceed_a_block(tmp_path: Path) -> None:
    path = tmp_path / "text.xz"
    path.write_bytes(A + bytes(2 * BLOCK_SIZE) + B)
    with TextInput(str(path)) as text:
        assert list(text) == ["a\n", "b\n"]


@pytest.mark.parametrize(
    "content",
    [A + bytes(3), A + bytes(5) + B, A + bytes(4) + B + bytes(2), bytes(4) + A, bytes(4)],
)
def test_padding_that_xz_refuses_is_reported(content: bytes, tmp_path: Path) -> None:
    assert_damaged(tmp_path / "text.xz", content)


def test_padding_of_bz2_is_reported(tmp_path: Path) -> None:
    assert_damaged(tmp_path / "text.bz2", bz2.compress(b"a\n") + bytes(4))


# --- zstd ---------------------------------------------------------------------------------------


def zstd_with_window(log: int) -> bytes:
    """Return a text with the window size that ``zstd --long=LOG`` writes into the header."""
    compressor = zstd.ZstdCompressor()
    frame = bytearray(compressor.compress(b"a\n") + compressor.flush())
    assert not frame[4] & 0x20  # a "single segment" has no window size
    frame[5] = (log - 10) << 3
    return bytes(frame)


@pytest.mark.parametrize("log", [27, 28, 30, 31])
def test_large_zstd_window_is_accepted(log: int, tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(zstd_with_window(log))
    with TextInput(str(path)) as text:
        assert list(text) == ["a\n"]


READ_WITH_LITTLE_MEMORY = """
import resource, sys
from bert_tokemb.text.reader import TextInput
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    list(TextInput(sys.argv[1]))
except MemoryError:
    print("MemoryError")
"""


def test_memory_shortage_in_zstd_is_not_reported_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(zstd_with_window(31))
    command = [sys.executable, "-c", READ_WITH_LITTLE_MEMORY, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("MemoryError\n", "")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library reads zstd")
def test_missing_zstd_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(MissingPackageError) as caught:
        TextInput(str(tmp_path / "text.zst"))
    assert str(caught.value) == (
        "pip install 'bert-tokemb[zstd]': reading .zst files needs the missing package "
        "backports.zstd"
    )


# --- Resuming, pipes ----------------------------------------------------------------------------


@ALL_KINDS
def test_resume_at_works_within_compressed_text(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    lines = [f"{n} {'x' * (n % 100)}\n" for n in range(6_000)]
    halves = "".join(lines[:3000]).encode(), "".join(lines[3000:]).encode()
    path.write_bytes(b"".join(map(COMPRESS[kind], halves)))
    with TextInput(str(path)) as text:
        assert list(islice(text, 4000)) == lines[:4000]
        point = text.resume_point()
    with TextInput(str(path)) as text:
        assert text.resume_at(point)
        assert list(text) == lines[4000:]
    path.write_bytes(COMPRESS[kind](halves[0]))
    with TextInput(str(path)) as text:
        assert not text.resume_at(point)


def test_resume_at_accepts_compressed_text_that_grew(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"a\nb"))
    with TextInput(str(path)) as text:
        list(text)
        point = text.resume_point()
    for content, rest in ((b"a\nb\nc\n", ["c\n"]), (b"a\nbc\n", None)):
        path.write_bytes(gzip.compress(content))
        with TextInput(str(path)) as text:
            assert text.resume_at(point) == (rest is not None)
            assert rest is None or list(text) == rest


@ALL_KINDS
def test_compressed_text_is_read_from_named_pipe(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"pipe{kind}"
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(path.write_bytes, COMPRESS[kind](b"a\n" * 1000))
        with TextInput(str(path)) as text:
            assert not text.is_rereadable
            assert list(text) == ["a\n"] * 1000
        pool.submit(path.write_bytes, b"")
        with pytest.raises(InputError, match=f"pipe{kind} is damaged or truncated: "):
            list(TextInput(str(path)))
