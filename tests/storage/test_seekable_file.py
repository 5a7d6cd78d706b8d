"""The file that HDF5 and Arrow write to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bert_tokemb.errors import OutputError
from bert_tokemb.storage.seekable_file import SeekableFile


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    with (tmp_path / "file").open("w+b") as file:
        yield file.fileno()


def test_seekable_file_reads_and_writes_anywhere(descriptor: int, tmp_path: Path) -> None:
    file = SeekableFile("file", descriptor)
    assert file.write(b"0123456789") == file.tell() == file.size == 10
    assert file.seek(8) == 8
    file.write(memoryview(b"abc"))
    assert file.seek(0, os.SEEK_END) == file.size == 11
    file.seek(7)
    buffer = bytearray(9)
    assert file.readinto(buffer) == 4
    assert buffer[:4] == b"7abc"
    file.truncate(9)
    assert file.seek(0, os.SEEK_END) == file.size == 9
    assert (tmp_path / "file").read_bytes() == b"01234567a"


def test_first_error_is_raised_when_the_library_returns() -> None:
    file = SeekableFile("name", os.open("/dev/full", os.O_RDWR))
    with (  # noqa: PT012
        pytest.raises(OutputError, match="cannot write name: No space left on device"),
        file.lent(),
    ):
        assert file.write(b"x") == 1
        raise RuntimeError("what the library makes of it")
    with pytest.raises(OutputError), file.lent():
        pass


def test_abandoned_file_ignores_writes_and_errors(descriptor: int, tmp_path: Path) -> None:
    full = SeekableFile("name", os.open("/dev/full", os.O_RDWR))
    full.write(b"x")
    full.abandon()
    with full.lent():
        assert full.write(b"xyz") == 3
    file = SeekableFile("file", descriptor)
    file.abandon()
    file.write(b"x")
    file.truncate(100)
    assert (tmp_path / "file").read_bytes() == b""
