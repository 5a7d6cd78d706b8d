"""Lines of a UTF-8 text."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import pytest

try:
    from compression import zstd
except ImportError:
    from backports import zstd

from bert_tokemb import extras as packages
from bert_tokemb.errors import InputError
from bert_tokemb.text.reader import TextInput, TextSize


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [[]]),
        (b"a b\nc\n", [["a", "b"], ["c"]]),
        (b"a b\nc", [["a", "b"], ["c"]]),
        (b"a\r\n\r\nb\r\n", [["a"], [], ["b"]]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [["a"], ["\ufeffb"]]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [[]]),
        ("a\u2028b\u0085c\x0b\x1cd\re\n".encode(), [["a", "b", "c", "d", "e"]]),
        ("a\u00a0b\u3000c\x00d\n".encode(), [["a", "b", "c\x00d"]]),
    ],
)
def test_lines_are_those_that_wc_counts(
    content: bytes, lines: list[list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with TextInput(str(path)) as text:
        size = text.measure()
        assert [line.split() for line in text] == lines
    if not content.startswith(b"\xef\xbb\xbf"):
        assert size == TextSize(len(lines), sum(map(len, lines)))


@pytest.mark.parametrize(
    ("content", "line", "offset"),
    [
        (b"\xff", 1, 0),
        (b"ab\ncd\xe4", 2, 5),
        (b"\xef\xbb\xbfab\xc3\n", 1, 5),
        (b"a\r\nb\xe4b\r\n", 2, 4),
        (b"a\n\xed\xa0\x80", 2, 2),
    ],
)
def test_what_is_not_utf8(content: bytes, line: int, offset: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with TextInput(str(path)) as text, pytest.raises(InputError) as caught:
        list(text)
    assert f"{path} is not UTF-8: line {line}, byte offset {offset} " in str(caught.value)


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa b\n")
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with TextInput("-") as text:
            assert text.name == "standard input"
            assert list(text) == ["a b\n"]


def test_standard_input_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have set that for all who share it; what is to come is no end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    with os.fdopen(read_end) as stdin, ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(sys, "stdin", stdin)
        with TextInput("-") as text:
            read = pool.submit(list, text)
            for part in (b"a ", b"b\nc", b"\n"):
                time.sleep(0.05)
                os.write(write_end, part)
            os.close(write_end)
            assert read.result(60) == ["a b\n", "c\n"]
        assert os.fstat(read_end)  # it is whoever opened it who closes it


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="cannot read standard input: it is closed"):
        TextInput("-")


@pytest.mark.parametrize("name", ["no-such-file", "."])
def test_what_cannot_be_opened(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"cannot read {name}: "):
        TextInput(name)


COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": partial(zstd.compress, options={zstd.CompressionParameter.checksum_flag: 1}),
}


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_texts(kind: str, tmp_path: Path) -> None:
    """Of several members, as `cat a.gz b.gz` and parallel compressors make them."""
    path = tmp_path / f"text{kind}"
    compress = COMPRESS[kind]
    path.write_bytes(compress("a \u00e9\nb".encode()) + compress(b"c\n" * 100_000))
    with TextInput(str(path)) as text:
        assert text.measure() is None
        assert list(text) == ["a \u00e9\n", "bc\n", *["c\n"] * 99_999]


@pytest.mark.parametrize("kind", COMPRESS)
def test_compressed_texts_by_another_name(kind: str, tmp_path: Path) -> None:
    """They are not converted by iconv, as other bytes that are no UTF-8 may be."""
    path = tmp_path / f"TEXT{kind.upper()}"
    path.write_bytes(COMPRESS[kind]("a \u00e9\n".encode()))
    with TextInput(str(path)) as text:
        assert list(text) == ["a \u00e9\n"]
    other = path.rename(tmp_path / "text")
    advice = (
        f"it is compressed: give a file whose name ends in {kind}, or send it through [a-z2]+ -dc"
    )
    with TextInput(str(other)) as text, pytest.raises(InputError, match=advice):
        list(text)
    other.write_bytes(b"\xff\n")
    with TextInput(str(other)) as text, pytest.raises(InputError, match="convert it first"):
        list(text)


@pytest.mark.parametrize("kind", COMPRESS)
def test_damaged_compressed_texts(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    whole = COMPRESS[kind](bytes(Random(1).choices(b"abc\n", k=100_000)))
    turned = bytearray(whole)
    turned[len(whole) // 2] ^= 255
    early = bytearray(whole)
    early[10] ^= 255
    cut = whole[: len(whole) // 2], whole[:3]
    for content in (*cut, bytes(turned), bytes(early), b"plain text\n"):
        path.write_bytes(content)
        assert_damaged(path)


def assert_damaged(path: Path) -> None:
    with pytest.raises(InputError) as caught, TextInput(str(path)) as text:
        list(text)
    assert str(caught.value).startswith(f"{path} is damaged, or cut short: ")


@pytest.mark.parametrize("kind", COMPRESS)
def test_damage_behind_the_first_stream(kind: str, tmp_path: Path) -> None:
    """It is no end: what is behind it would be missing."""
    path = tmp_path / f"text{kind}"
    first, second = COMPRESS[kind](b"a\n"), COMPRESS[kind](b"b\n" * 1000)
    for place in (0, -6):
        turned = bytearray(second)
        turned[place] ^= 255
        path.write_bytes(first + turned)
        assert_damaged(path)
    for rest in (second[:3], second[:-3], b"plain text\n"):
        path.write_bytes(first + rest)
        assert_damaged(path)


@pytest.mark.parametrize("block", [1, 7, None])
def test_padding_of_xz(block: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros, by fours, wherever a block of what is read ends; `xz` refuses others too."""
    if block:
        monkeypatch.setattr("bert_tokemb.text.compression._BLOCK", block)
    path = tmp_path / "text.xz"
    a, b = lzma.compress(b"a\n"), lzma.compress(b"b\n")
    for zeros in (4, 8, 300_000):
        path.write_bytes(a + bytes(zeros) + b + bytes(zeros))
        with TextInput(str(path)) as text:
            assert [list(text), list(text)] == [["a\n", "b\n"], []]
    for odd in (
        a + bytes(3),
        a + bytes(5) + b,
        a + bytes(4) + b + bytes(2),
        bytes(4) + a,
        bytes(4),
    ):
        path.write_bytes(odd)
        assert_damaged(path)
    path = tmp_path / "text.bz2"
    path.write_bytes(bz2.compress(b"a\n") + bytes(4))
    assert_damaged(path)


@pytest.mark.parametrize("kind", COMPRESS)
def test_nothing_at_all_is_no_compressed_text(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    path.touch()
    assert_damaged(path)
    path.write_bytes(COMPRESS[kind](b""))
    with TextInput(str(path)) as text:
        assert list(text) == []


def long_zstd(log: int) -> bytes:
    """Return a text with the window that `zstd --long=LOG` writes into the header."""
    compressor = zstd.ZstdCompressor()
    frame = bytearray(compressor.compress(b"a\n") + compressor.flush())
    assert not frame[4] & 0x20  # "single segment", without such a window
    frame[5] = (log - 10) << 3
    return bytes(frame)


@pytest.mark.parametrize("log", [27, 28, 30, 31])
def test_zstd_with_a_large_window(log: int, tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(long_zstd(log))
    with TextInput(str(path)) as text:
        assert list(text) == ["a\n"]


WITH_LITTLE_MEMORY = """
import resource, sys
from bert_tokemb.text.reader import TextInput
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    list(TextInput(sys.argv[1]))
except MemoryError:
    print("too little")
"""


def test_too_little_memory_for_zstd_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(long_zstd(31))
    done = subprocess.run(
        [sys.executable, "-c", WITH_LITTLE_MEMORY, path], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("too little\n", "")


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_text_is_known_again(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{kind}"
    lines = [f"{n} {'x' * (n % 100)}\n" for n in range(20_000)]
    halves = "".join(lines[:9000]).encode(), "".join(lines[9000:]).encode()
    path.write_bytes(b"".join(map(COMPRESS[kind], halves)))
    with TextInput(str(path)) as text:
        reading = iter(text)
        assert [next(reading) for _ in range(12_000)] == lines[:12_000]
        mark = text.bookmark()
        text.rewind()
        assert text.skip_to(mark)
        assert list(text) == lines[12_000:]
        text.rewind()
        assert list(text) == lines
    path.write_bytes(COMPRESS[kind](halves[0]))
    with TextInput(str(path)) as text:
        assert not text.skip_to(mark)
        text.rewind()
        assert list(text) == lines[:9000]


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_compressed_text_from_a_pipe(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"pipe{kind}"
    os.mkfifo(path)
    content = COMPRESS[kind](b"a\n" * 1000)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(path.write_bytes, content)
        with TextInput(str(path)) as text:
            assert list(text) == ["a\n"] * 1000
        pool.submit(path.write_bytes, b"")
        with pytest.raises(InputError, match=f"pipe{kind} is damaged, or cut short: "):
            list(TextInput(str(path)))


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python brings it")
def test_zstd_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.touch()
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    message = r"a \.zst needs one more package: pip install backports\.zstd \(or the extra zstd\)"
    with pytest.raises(InputError, match=message):
        TextInput(str(path))


def test_lines_come_as_they_are_read(tmp_path: Path) -> None:
    """The text is never held as a whole, and a pipe's lines are there when they are sent."""
    read_end, write_end = os.pipe()
    name = f"/dev/fd/{read_end}"
    with os.fdopen(write_end, "wb", buffering=0) as writer, TextInput(name) as text:
        assert text.measure() is None
        lines = iter(text)
        writer.write(b"a\nb")
        assert next(lines) == "a\n"
    os.close(read_end)


def test_words_are_counted_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they fall into blocks; and reading begins where it would have begun."""
    path = tmp_path / "text"
    lines = [("é" * (n % 9) + " ") * (n % 700) for n in range(9000)]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert path.stat().st_size > 10 << 20
    with TextInput(str(path)) as text:
        assert text.measure() == TextSize(9000, sum(len(line.split()) for line in lines))
        assert [line.rstrip("\n") for line in text] == lines
    with path.open(encoding="utf-8") as file:  # another may have read its begin
        file.buffer.seek(len("\n".join(lines[:5000]).encode()) + 1)
        monkeypatch.setattr(sys, "stdin", file)
        with TextInput("-") as text:
            size = TextSize(4000, sum(len(line.split()) for line in lines[5000:]))
            assert text.measure() == text.measure() == size
            assert [line.rstrip("\n") for line in text] == lines[5000:]


def test_what_was_read_is_known_again(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa b\nc\n\nd\n")
    with TextInput(str(path)) as text:
        start = text.bookmark()
        reading = iter(text)
        next(reading)
        next(reading)
        mark = text.bookmark()
    with TextInput(str(path)) as text:
        assert text.skip_to(mark)
        assert list(text) == ["\n", "d\n"]
    for other in (b"\xef\xbb\xbfa b\nC\n\nd\n", b"\xef\xbb\xbfa b\n"):
        path.write_bytes(other)
        with TextInput(str(path)) as text:
            assert not text.skip_to(mark)
            text.rewind()
            assert next(iter(text)) == "a b\n"
            text.rewind()
            assert text.bookmark() == start


@pytest.mark.parametrize("ending", [".gz", ""])
def test_a_last_line_that_became_longer_is_another(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"text{ending}"

    def write(content: bytes) -> None:
        path.write_bytes(gzip.compress(content) if ending else content)

    write(b"a\nb")
    with TextInput(str(path)) as text:
        assert list(text) == ["a\n", "b"]
        mark = text.bookmark()
    for content, rest in ((b"a\nb", []), (b"a\nb\n", []), (b"a\nb\nc\n", ["c\n"])):
        write(content)
        with TextInput(str(path)) as text:
            assert text.skip_to(mark)
            assert list(text) == rest
            after = text.bookmark()
            text.rewind()
            list(text)
            assert text.bookmark() == after
    for content in (b"a\nb c\n", b"a\nbc", b"a\n", b"a\nc"):
        write(content)
        with TextInput(str(path)) as text:
            assert not text.skip_to(mark)
