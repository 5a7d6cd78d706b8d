"""The lines of a UTF-8 text: a file, compressed or not, or standard input."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, translate
from .compression import BLOCK_SIZE, OpenedFile, detect_compression, open_file

__all__ = ["ResumePoint", "TextInput", "TextSize"]

_MAGIC_SIZE = 6  # enough first bytes to recognize a compressed file


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """How far a text has been read, and a digest that identifies this part of it."""

    lines: int
    bytes: int
    """Bytes of the decompressed text."""
    digest: str
    """128 bits of BLAKE2b over these bytes."""


@dataclass(frozen=True, slots=True)
class TextSize:
    """The size of a text."""

    lines: int
    words: int


class TextInput:
    """The lines of a UTF-8 text, one at a time; use it as a context manager.

    Lines end at ``\\n`` only, so that their numbers agree with ``wc -l``; ``str.splitlines`` would
    also split at U+0085, U+2028 and others. A byte order mark at the start is dropped.

    Args:
        name: A path, or ``-`` for standard input. Files that end in ``.gz``, ``.bz2``, ``.xz`` or
            ``.zst`` are decompressed.
        block_size: Bytes that are read at a time.

    Raises:
        InputError: if the file does not exist or cannot be read; while reading, if it is damaged
            or not UTF-8.
        MissingPackageError: if no package can decompress the file.
    """

    def __init__(self, name: str, *, block_size: int = BLOCK_SIZE) -> None:
        self.name = "standard input" if name == "-" else name
        with translate(InputError, f"read {self.name or repr(name)}"):
            opened = _open_stdin(block_size) if name == "-" else open_file(name, block_size)
        self.is_rereadable = name != "-" and Path(name).is_file()
        """Whether the text can be read again from the start, now or by a later run."""
        self._file = opened.file
        self._damage = opened.damage
        self._is_plain = not opened.is_compressed and _is_regular(self._file)
        self._block_size = block_size
        self._magic = b""
        self._lines = self._bytes = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[str]:
        with self._translated_errors():
            while line := self._file.readline():
                start = self._bytes
                self._lines += 1
                self._bytes += len(line)
                self._hash.update(line)
                if self._lines == 1:
                    self._magic = line[:_MAGIC_SIZE]
                    line, start = _without_byte_order_mark(line, start)
                    if not line:
                        return
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.name} is not UTF-8: line {self._lines}, byte offset "
                        f"{start + error.start} ({error.reason}); {self._advice()}"
                    ) from error

    def _advice(self) -> str:
        if compression := detect_compression(self._magic):
            extension, command = compression
            return (
                f"it is compressed: give a file whose name ends in {extension}, or pipe it through "
                f"{command}"
            )
        return "convert it first, for example with iconv"

    def measure(self) -> TextSize | None:
        """Count the lines and words that have not been read, without changing the position.

        Returns None for a stream, and for a compressed file.
        """
        if not self._is_plain:
            return None
        lines = words = 0
        with self._translated_errors():
            position = self._file.tell()
            # Blocks end at the end of a line, so that no word is counted twice.
            while block := self._file.read(self._block_size) + self._file.readline():
                # Invalid UTF-8 is reported when it is read.
                words += len(block.decode("utf-8", "replace").split())
                lines += block.count(b"\n") + (not block.endswith(b"\n"))
            self._file.seek(position)
        return TextSize(lines, words)

    def resume_point(self) -> ResumePoint:
        """Return how far the text has been read."""
        return ResumePoint(self._lines, self._bytes, self._hash.hexdigest())

    def resume_at(self, point: ResumePoint) -> bool:
        """Skip what was read before ``point`` was recorded; call it on a text that is unread.

        Returns False if the text has changed up to there; the position is then undefined.
        """
        left, last = point.bytes, b"\n"
        with self._translated_errors():
            while left and (block := self._file.read(min(left, self._block_size))):
                self._hash.update(block)
                left, last = left - len(block), block
            self._lines, self._bytes = point.lines, point.bytes - left
            if self.resume_point() != point:
                return False
            if not last.endswith(b"\n"):  # the text ended here, but may have grown since
                end = self._file.read(1)
                self._bytes += len(end)
                self._hash.update(end)
                return end in (b"", b"\n")
        return True

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        damaged = f"{self.name} is damaged or truncated"
        with translate(InputError, f"read {self.name}", damage=self._damage, damaged=damaged):
            try:
                yield
            except self._damage as error:
                if "not enough memory" in str(error):  # zstd, for a large window
                    raise MemoryError from error
                raise

    def __enter__(self) -> TextInput:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class _BlockingFile(io.FileIO):
    """A file that waits for data even if its descriptor is set to ``O_NONBLOCK``.

    Python takes the lack of data for the end of the file.
    """

    def readinto(self, buffer: Any) -> int:
        while (size := super().readinto(buffer)) is None:
            select.select([self], [], [])
        return size


def _open_stdin(block_size: int) -> OpenedFile:
    if sys.stdin is None:
        raise InputError("cannot read standard input: it is closed")
    file = _BlockingFile(sys.stdin.fileno(), closefd=False)
    return OpenedFile(io.BufferedReader(file, block_size))


def _is_regular(file: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _without_byte_order_mark(line: bytes, start: int) -> tuple[bytes, int]:
    if not line.startswith(codecs.BOM_UTF8):
        return line, start
    return line[len(codecs.BOM_UTF8) :], start + len(codecs.BOM_UTF8)
