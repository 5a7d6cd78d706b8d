"""Files that are read as if they were not compressed: ``.gz``, ``.bz2``, ``.xz``, ``.zst``."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InputError

__all__ = ["Opened", "of_file", "open_input"]

_INSTALL = "pip install 'bert-tokemb[zstd]'"


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that can be read."""

    file: BinaryIO
    is_plain: bool
    """Whether it is a regular file, and read as it is."""
    damage: tuple[type[Exception], ...] = ()
    """What reading raises when the file is damaged or cut short, besides ``OSError``."""


def open_input(name: str) -> Opened:
    """Open a file, and decompress it as its name says.

    Raises:
        OSError: it cannot be opened.
        InputError: a package is missing that decompresses it.
    """
    kind = Path(name).suffix
    if kind == ".gz":
        return _opened(gzip.GzipFile(name), zlib.error)
    if kind == ".bz2":
        return _opened(bz2.BZ2File(name))
    if kind == ".xz":
        return _opened(lzma.LZMAFile(name), lzma.LZMAError)
    if kind == ".zst":
        return _open_zstd(name)
    return of_file(io.BufferedReader(io.FileIO(name)))


def of_file(file: BinaryIO) -> Opened:
    """Take a file that is open already, as it is."""
    return Opened(file, stat.S_ISREG(os.fstat(file.fileno()).st_mode))


def _opened(file: Any, *damage: type[Exception]) -> Opened:
    return Opened(file, False, (EOFError, *damage))


def _open_zstd(name: str) -> Opened:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError as error:
            raise InputError(f"a .zst needs one more package: {_INSTALL}") from error
    return _opened(zstd.ZstdFile(name), zstd.ZstdError)
