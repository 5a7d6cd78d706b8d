"""A path, or standard input, to lines of text."""

from __future__ import annotations

import codecs
import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .compression import compression_of, of_descriptor, open_input

__all__ = ["Bookmark", "TextInput", "TextSize"]

_CHUNK = 1 << 20
_LONGEST_MAGIC = 6


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a text was read, and what was read."""

    lines: int
    bytes: int
    """Of what came out of it, if it was compressed."""
    digest: str
    """Of these bytes: 128 bits of BLAKE2b."""


@dataclass(frozen=True, slots=True)
class TextSize:
    """How much of a text there is."""

    lines: int
    words: int


class TextInput:
    """The lines of a UTF-8 text, one at a time; use it as a context manager.

    Lines end at ``\\n`` only, as ``wc -l`` counts them: not at U+0085, U+2028 and the others
    at which ``str.splitlines`` ends one. A byte order mark at the start is dropped.

    Args:
        name: A path, or ``-`` for standard input. ``.gz``, ``.bz2``, ``.xz`` and ``.zst`` are
            decompressed.

    Raises:
        InputError: there is no such file, or it cannot be read. While reading: it is not UTF-8.
    """

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == "-" else name
        if name == "-" and sys.stdin is None:
            raise InputError("cannot read standard input: it is closed")
        try:
            opened = of_descriptor(sys.stdin.fileno()) if name == "-" else open_input(name)
        except OSError as error:
            raise InputError(
                f"cannot read {name or repr(name)}: {error.strerror or error}"
            ) from error
        self._file = opened.file
        self._damage = opened.damage
        self._is_plain = opened.is_plain
        self.can_be_read_again = name != "-" and Path(name).is_file()
        self._begin = b""
        self._lines = self._bytes = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._telling():
                line = self._file.readline()
            if not line:
                return
            self._lines += 1
            start, self._bytes = self._bytes, self._bytes + len(line)
            self._hash.update(line)
            if self._lines == 1:
                self._begin = line[:_LONGEST_MAGIC]
                line, start = _without_mark(line, start)
                if not line:
                    return
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.name} is not UTF-8: line {self._lines}, byte offset "
                    f"{start + error.start} ({error.reason}); {self._advice}"
                ) from error

    @property
    def _advice(self) -> str:
        if found := compression_of(self._begin):
            extension, command = found
            return (
                f"it is compressed: give a file whose name ends in {extension}, or send it "
                f"through {command}"
            )
        return "convert it first, for example with iconv"

    def measure(self) -> TextSize | None:
        """Count all words that are still to come, and stay where it is.

        None for what is no plain file: a stream, or compressed.
        """
        if not self._is_plain:
            return None
        lines = words = 0
        with self._telling():
            here = self._file.tell()
            # Whole lines, since a word must not be cut.
            while chunk := self._file.read(_CHUNK) + self._file.readline():
                # What is not UTF-8 is told when it is read.
                words += len(chunk.decode("utf-8", "replace").split())
                lines += chunk.count(b"\n") + (not chunk.endswith(b"\n"))
            self._file.seek(here)
        return TextSize(lines, words)

    def bookmark(self) -> Bookmark:
        """Tell how far it was read."""
        return Bookmark(self._lines, self._bytes, self._hash.hexdigest())

    def skip_to(self, bookmark: Bookmark) -> bool:
        """Go on behind what was read once; False when it is not the same any more."""
        left, last = bookmark.bytes, b"\n"
        with self._telling():
            while left and (read := self._file.read(min(left, _CHUNK))):
                self._hash.update(read)
                left, last = left - len(read), read
            self._lines, self._bytes = bookmark.lines, bookmark.bytes - left
            if self.bookmark() != bookmark:
                return False
            if not last.endswith(b"\n"):  # it was the text's end; more may have come since
                end = self._file.read(1)
                self._bytes += len(end)
                self._hash.update(end)
                return end in (b"", b"\n")
        return True

    def rewind(self) -> None:
        """Go back to the beginning of what can be read again."""
        with self._telling():
            self._file.seek(0)
        self._lines = self._bytes = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except self._damage as error:
            if "not enough memory" in str(error):  # zstd's, for a large window
                raise MemoryError from error
            raise InputError(f"{self.name} is damaged, or cut short: {error}") from error
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror or error}") from error

    def __enter__(self) -> TextInput:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _without_mark(line: bytes, start: int) -> tuple[bytes, int]:
    if not line.startswith(codecs.BOM_UTF8):
        return line, start
    return line[len(codecs.BOM_UTF8) :], start + len(codecs.BOM_UTF8)
