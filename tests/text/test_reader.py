"""Lines of uncompressed texts: splitting, decoding, measuring, resume points."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

from bert_tokemb.errors import InputError
from bert_tokemb.text.reader import TextInput, TextSize

# --- Lines --------------------------------------------------------------------------------------


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
def test_lines_end_at_line_feeds_only(
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
def test_invalid_utf8_is_reported_with_line_and_byte_offset(
    content: bytes, line: int, offset: int, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    with TextInput(str(path)) as text, pytest.raises(InputError) as caught:
        list(text)
    assert str(caught.value).startswith(f"{path} is not UTF-8: line {line}, byte offset {offset} (")
    assert str(caught.value).endswith("); convert it first, for example with iconv")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no-such-file", "cannot read no-such-file: No such file or directory"),
        (".", "cannot read .: Is a directory"),
        ("", "cannot read '': No such file or directory"),
    ],
)
def test_unreadable_file_is_reported(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        TextInput(name)
    assert str(caught.value) == why


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails")
def test_read_error_is_reported() -> None:
    with TextInput("/proc/self/mem") as text, pytest.raises(InputError) as caught:
        list(text)
    assert str(caught.value) == "cannot read /proc/self/mem: Input/output error"


def test_lines_of_pipe_arrive_as_they_are_written() -> None:
    read_end, write_end = os.pipe()
    name = f"/dev/fd/{read_end}"
    with os.fdopen(write_end, "wb", buffering=0) as writer, TextInput(name) as text:
        assert text.measure() is None
        assert not text.is_rereadable
        lines = iter(text)
        writer.write(b"a\nb")
        assert next(lines) == "a\n"
    os.close(read_end)


# --- Standard input -----------------------------------------------------------------------------


def test_standard_input_is_read_from_its_current_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell may have read its start: ``{ read first; bert-tokemb embed -; } < text``."""
    path = tmp_path / "text"
    path.write_bytes(b"first\n\xef\xbb\xbfa b\nc\n")
    with path.open() as stdin:
        stdin.buffer.seek(6)
        monkeypatch.setattr(sys, "stdin", stdin)
        with TextInput("-") as text:
            assert text.name == "standard input"
            assert not text.is_rereadable
            assert text.measure() == TextSize(2, 3)
            assert list(text) == ["a b\n", "c\n"]
        assert not stdin.closed


def test_non_blocking_standard_input_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that shares the pipe may have set ``O_NONBLOCK``."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    parts = [b"a ", b"b\nc", b"\n"]
    wait = select.select

    # The next part arrives only after the reader has found the pipe empty.
    def write_and_wait(*arguments: Sequence[object]) -> object:
        os.write(write_end, parts.pop(0)) if parts else os.close(write_end)
        return wait(*arguments)

    monkeypatch.setattr(select, "select", write_and_wait)
    with os.fdopen(read_end) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with TextInput("-") as text:
            assert list(text) == ["a b\n", "c\n"]
        assert os.fstat(read_end)  # left open


def test_closed_standard_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match=r"^cannot read standard input: it is closed$"):
        TextInput("-")


# --- Measuring ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 10, 1000, 1 << 17])
def test_measure_counts_words_across_blocks(block_size: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    lines = [("é" * (n % 9) + " ") * (n % 30) for n in range(300)]
    words = [len(line.split()) for line in lines]
    path.write_text("\n".join(lines), encoding="utf-8")
    with TextInput(str(path), block_size=block_size) as text:
        assert text.measure() == text.measure() == TextSize(300, sum(words))
        assert [line.rstrip("\n") for line in text] == lines


def test_measure_counts_what_has_not_been_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("a b\nc d e\nf\n")
    with TextInput(str(path)) as text:
        assert next(iter(text)) == "a b\n"
        assert text.measure() == TextSize(2, 4)
        assert list(text) == ["c d e\n", "f\n"]


# --- Resume points ------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [1, 3, 1 << 17])
def test_resume_at_continues_after_the_lines_read_before(block_size: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa b\nc\n\nd\n")
    with TextInput(str(path)) as text:
        assert list(islice(text, 2)) == ["a b\n", "c\n"]
        point = text.resume_point()
    assert (point.lines, point.bytes) == (2, 9)
    with TextInput(str(path), block_size=block_size) as text:
        assert text.is_rereadable
        assert text.resume_at(point)
        assert text.resume_point() == point
        assert list(text) == ["\n", "d\n"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfa b\nC\n\nd\n", b"\xef\xbb\xbfa b\n", b""])
def test_resume_at_detects_changed_text(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xef\xbb\xbfa b\nc\n\nd\n")
    with TextInput(str(path)) as text:
        list(islice(text, 2))
        point = text.resume_point()
    path.write_bytes(content)
    with TextInput(str(path)) as text:
        assert not text.resume_at(point)


@pytest.mark.parametrize(
    ("content", "rest"),
    [
        (b"a\nb", []),
        (b"a\nb\n", []),
        (b"a\nb\nc\n", ["c\n"]),
        (b"a\nb c\n", None),
        (b"a\nbc", None),
        (b"a\n", None),
        (b"a\nc", None),
    ],
)
def test_resume_at_accepts_text_that_grew_after_its_last_line(
    content: bytes, rest: list[str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\nb")
    with TextInput(str(path)) as text:
        assert list(text) == ["a\n", "b"]
        point = text.resume_point()
    path.write_bytes(content)
    with TextInput(str(path)) as text:
        assert text.resume_at(point) == (rest is not None)
        if rest is not None:
            assert list(text) == rest
            with TextInput(str(path)) as whole:
                list(whole)
                assert whole.resume_point() == text.resume_point()
