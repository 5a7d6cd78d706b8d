"""A path, or standard input, to lines of text."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator

from .compression import of_file, open_input
from .errors import InputError

__all__ = ["TextInput"]


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
            opened = of_file(sys.stdin.buffer) if name == "-" else open_input(name)
        except OSError as error:
            raise InputError(
                f"cannot read {name or repr(name)}: {error.strerror or error}"
            ) from error
        self._file = opened.file
        self._damage = opened.damage
        self.size = opened.size
        """Bytes in all, or None for what is no regular file, or compressed."""

    def __iter__(self) -> Iterator[str]:
        number = offset = 0
        while True:
            try:
                line = self._file.readline()
            except OSError as error:
                raise InputError(f"cannot read {self.name}: {error.strerror or error}") from error
            except self._damage as error:
                raise InputError(f"{self.name} is damaged, or cut short: {error}") from error
            if not line:
                return
            number += 1
            start, offset = offset, offset + len(line)
            if number == 1:
                line, start = _without_mark(line, start)
                if not line:
                    return
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.name} is not UTF-8: line {number}, byte offset {start + error.start} "
                    f"({error.reason}); convert it first, for example with iconv"
                ) from error

    def __enter__(self) -> TextInput:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


def _without_mark(line: bytes, start: int) -> tuple[bytes, int]:
    if not line.startswith(codecs.BOM_UTF8):
        return line, start
    return line[len(codecs.BOM_UTF8) :], start + len(codecs.BOM_UTF8)
