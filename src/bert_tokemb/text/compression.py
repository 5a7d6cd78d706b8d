"""Files that are read as if they were not compressed: ``.gz``, ``.bz2``, ``.xz``, ``.zst``."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ..errors import InputError
from ..extras import importing

__all__ = ["Opened", "compression_of", "of_descriptor", "open_input"]

_Decompressor: TypeAlias = "bz2.BZ2Decompressor | lzma.LZMADecompressor"

# What files begin with, and the command that decompresses them.
_BEGINNINGS = {
    b"\x1f\x8b": (".gz", "gzip -dc"),
    b"BZh": (".bz2", "bzip2 -dc"),
    b"\xfd7zXZ\0": (".xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": (".zst", "zstd -dc"),
}

# Bytes read, and decompressed, at a time.
_BLOCK = 1 << 17

# What may lie behind a stream of .xz is as many zeros as a multiple of this.
_XZ_PADDING = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that can be read."""

    file: BinaryIO
    is_plain: bool
    """Whether it is a regular file, and read as it is."""
    damage: tuple[type[Exception], ...] = ()
    """What reading raises when the file is damaged or cut short; some may be an ``OSError``."""


def compression_of(begin: bytes) -> tuple[str, str] | None:
    """Tell how a file is compressed that begins so: its extension, a command; None if it is not."""
    return next((told for magic, told in _BEGINNINGS.items() if begin.startswith(magic)), None)


def open_input(name: str) -> Opened:
    """Open a file, and decompress it as its name says.

    Raises:
        OSError: it cannot be opened.
        InputError: it is an empty .gz, or a package is missing that decompresses it.
    """
    kind = Path(name).suffix.lower()
    if kind == ".gz":
        return _open_gzip(name)
    if kind == ".bz2":
        return _open_streams(name, bz2.BZ2Decompressor)
    if kind == ".xz":
        return _open_streams(name, lzma.LZMADecompressor, padding=_XZ_PADDING)
    if kind == ".zst":
        return _open_zstd(name)
    return of_file(io.BufferedReader(io.FileIO(name)))


def of_file(file: BinaryIO) -> Opened:
    """Take a file that is open already, as it is."""
    return Opened(file, stat.S_ISREG(os.fstat(file.fileno()).st_mode))


def of_descriptor(descriptor: int) -> Opened:
    """Take what was opened by somebody else, as it is, and leave it open."""
    return of_file(io.BufferedReader(_Awaited(descriptor, closefd=False)))


class _Awaited(io.FileIO):
    """A file that is waited for, even if whoever opened it did not want to (O_NONBLOCK).

    Python would take what is not there yet for the end.
    """

    def readinto(self, buffer: Any) -> int:
        while (size := super().readinto(buffer)) is None:
            select.select([self], [], [])
        return size


def _opened(file: Any, *damage: type[Exception]) -> Opened:
    return Opened(file, False, (EOFError, *damage))


def _open_gzip(name: str) -> Opened:
    file: Any = gzip.GzipFile(name)
    # To Python that is an empty text; gzip, and all other kinds, take it for one that was cut.
    if not file.fileobj.peek(1):
        file.close()
        raise InputError(f"{name} is damaged, or cut short: nothing is in it")
    return _opened(file, gzip.BadGzipFile, zlib.error)


def _open_streams(name: str, start: Callable[[], _Decompressor], *, padding: int = 0) -> Opened:
    streams = _Streams(name, start, padding)
    return _opened(io.BufferedReader(streams, _BLOCK), _DamagedError)


class _DamagedError(Exception):
    """What was read is not what a compressor has written."""


class _Streams(io.RawIOBase):
    """The streams of a compressed file, one behind the other, read as one.

    Python's own ``BZ2File`` and ``LZMAFile`` take what follows a stream, and is not the begin of
    another, for the end: behind damage, and behind padding, text would be missing, and nobody
    told.

    Args:
        name: A path.
        start: Gives what decompresses a stream.
        padding: Zeros in multiples of this may follow a stream; 0 where none may.

    Raises:
        OSError: it cannot be read.
        EOFError: it ends within a stream, or before the first.
        _DamagedError: something in it is no stream.
    """

    def __init__(self, name: str, start: Callable[[], _Decompressor], padding: int) -> None:
        self._file = io.FileIO(name)
        self._start = start
        self._padding = padding
        self._begin()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Tell whether it can be read again."""
        return self._file.seekable()

    def tell(self) -> int:
        """Return how many bytes came out of it."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go back to the beginning, and nowhere else."""
        if offset or whence != os.SEEK_SET:
            raise io.UnsupportedOperation("a compressed file can be read from its beginning only")
        self._file.seek(0)
        self._begin()
        return 0

    def readinto(self, buffer: Any) -> int:
        """Decompress into a buffer; 0 at the end."""
        data = b""
        while not data and not self._is_done:
            if self._stream.eof:
                self._go_behind_stream()
            else:
                data = self._decompress(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _begin(self) -> None:
        self._stream = self._start()
        self._unread = b""  # of the stream, and read from the file already
        self._is_done = False
        self._position = 0

    def _decompress(self, most: int) -> bytes:
        """Return some of the stream; perhaps nothing, though more is to come."""
        block = b""
        if self._stream.needs_input:
            block, self._unread = self._unread or self._file.read(_BLOCK), b""
            if not block:
                raise EOFError("it ends within a stream")
        try:
            return self._stream.decompress(block, most)
        except (OSError, lzma.LZMAError) as error:  # bz2 has no error of its own
            raise _DamagedError(error) from error

    def _go_behind_stream(self) -> None:
        """Go to the next stream, or to the end of the file."""
        zeros, rest = 0, self._stream.unused_data
        while block := rest or self._file.read(_BLOCK):
            rest = block.lstrip(b"\0") if self._padding else block
            zeros += len(block) - len(rest)
            if rest:
                break
        if zeros and zeros % self._padding:
            raise _DamagedError("the zeros behind a stream are not as many as they must be")
        self._stream, self._unread, self._is_done = self._start(), rest, not rest


def _open_zstd(name: str) -> Opened:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        with importing("a .zst", "zstd", InputError):
            from backports import zstd
    # What `zstd --long=31` makes, too: of its 2 GiB, what the text fills takes memory.
    largest = zstd.DecompressionParameter.window_log_max
    file = zstd.ZstdFile(name, options={largest: largest.bounds()[1]})
    return _opened(file, zstd.ZstdError)
