"""Opening files, and decompressing ``.gz``, ``.bz2``, ``.xz`` and ``.zst`` by their extension."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from ..errors import InputError
from ..extras import importing

__all__ = ["BLOCK_SIZE", "OpenedFile", "detect_compression", "open_file"]

BLOCK_SIZE = 1 << 17
"""Bytes that are read, or decompressed, at a time."""

_Decompressor: TypeAlias = "bz2.BZ2Decompressor | lzma.LZMADecompressor"

# First bytes of compressed files: the extension, and a command that decompresses them.
_MAGIC_NUMBERS = {
    b"\x1f\x8b": (".gz", "gzip -dc"),
    b"BZh": (".bz2", "bzip2 -dc"),
    b"\xfd7zXZ\0": (".xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": (".zst", "zstd -dc"),
}

_XZ_PADDING = 4  # zero bytes, or a multiple of it, that may follow a stream


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An open file, decompressed if necessary."""

    file: BinaryIO
    is_compressed: bool = False
    damage: tuple[type[Exception], ...] = ()
    """Exceptions of reading that mean damaged data; some are subclasses of ``OSError``."""


def detect_compression(start: bytes) -> tuple[str, str] | None:
    """Return the extension and the decompressing command of a file that starts like this.

    >>> detect_compression(b"BZh91AY")
    ('.bz2', 'bzip2 -dc')
    """
    found = (kind for magic, kind in _MAGIC_NUMBERS.items() if start.startswith(magic))
    return next(found, None)


def open_file(name: str, block_size: int = BLOCK_SIZE) -> OpenedFile:
    """Open a file, and decompress it if its extension says that it is compressed.

    Raises:
        OSError: if the file cannot be opened.
        InputError: if the file is an empty ``.gz``.
        MissingPackageError: if the file is a ``.zst`` and no package can decompress it.
    """
    match Path(name).suffix.lower():
        case ".gz":
            return _open_gzip(name)
        case ".bz2":
            return _open_streams(name, bz2.BZ2Decompressor, block_size)
        case ".xz":
            return _open_streams(name, lzma.LZMADecompressor, block_size, is_padded=True)
        case ".zst":
            return _open_zstd(name)
    return OpenedFile(io.BufferedReader(io.FileIO(name), block_size))


def _open_gzip(name: str) -> OpenedFile:
    file: Any = gzip.GzipFile(name)
    # Python reads an empty file as an empty text. To gzip itself, it is a truncated one.
    if not file.fileobj.peek(1):
        file.close()
        raise InputError(f"{name} is damaged or truncated: it is empty")
    return OpenedFile(file, True, (EOFError, gzip.BadGzipFile, zlib.error))


def _open_zstd(name: str) -> OpenedFile:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        with importing("reading .zst files", "zstd"):
            from backports import zstd
    # Accept the largest windows, of 2 GiB. They take memory only as far as the text fills them.
    window_log = zstd.DecompressionParameter.window_log_max
    file: Any = zstd.ZstdFile(name, options={window_log: window_log.bounds()[1]})
    return OpenedFile(file, True, (EOFError, zstd.ZstdError))


def _open_streams(
    name: str,
    decompressor: Callable[[], _Decompressor],
    block_size: int,
    *,
    is_padded: bool = False,
) -> OpenedFile:
    streams = _StreamReader(name, decompressor, block_size, is_padded)
    return OpenedFile(io.BufferedReader(streams, block_size), True, (EOFError, _StreamError))


class _StreamError(Exception):
    """Data that is not a valid stream of a compressor."""


class _StreamReader(io.RawIOBase):
    """The concatenated streams of a ``.bz2`` or ``.xz`` file, decompressed.

    ``bz2.BZ2File`` and ``lzma.LZMAFile`` silently ignore everything after the first stream that
    is not another valid stream. Damage there, or padding, would cut the text without an error.

    Args:
        name: Path of the file.
        decompressor: Creates the decompressor of one stream.
        block_size: Bytes that are read and decompressed at a time.
        is_padded: Whether zero bytes, a multiple of four, may follow a stream.

    Raises:
        OSError: if the file cannot be read.
        EOFError: while reading, if the file ends within a stream or is empty.
        _StreamError: while reading, if anything in the file is not a valid stream.
    """

    def __init__(
        self, name: str, decompressor: Callable[[], _Decompressor], block_size: int, is_padded: bool
    ) -> None:
        self._file = io.FileIO(name)
        self._decompressor = decompressor
        self._block_size = block_size
        self._is_padded = is_padded
        self._blocks = self._decompressed()
        self._block = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read decompressed bytes into a buffer and return their number, 0 at the end."""
        if not self._block:
            self._block = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._block))
        buffer[:size], self._block = self._block[:size], self._block[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _decompressed(self) -> Iterator[bytes]:
        """Yield the content of all streams in blocks, none of them empty."""
        data = self._file.read(self._block_size)
        while True:
            stream = self._decompressor()
            while not stream.eof:
                if stream.needs_input and not data:
                    data = self._file.read(self._block_size)
                    if not data:
                        raise EOFError("the file ends within a compressed stream")
                try:
                    block = stream.decompress(data, self._block_size)
                except (OSError, lzma.LZMAError) as error:  # bz2 raises OSError
                    raise _StreamError(error) from error
                data = b""
                if block:
                    yield block
            data = self._skip_padding(stream.unused_data)
            if not data:
                return

    def _skip_padding(self, data: bytes) -> bytes:
        """Return the first bytes of the next stream, or nothing at the end of the file."""
        zeros = 0
        while block := data or self._file.read(self._block_size):
            data = block.lstrip(b"\0") if self._is_padded else block
            zeros += len(block) - len(data)
            if data:
                break
        if zeros % _XZ_PADDING:
            raise _StreamError(f"the number of zero bytes after a stream is {zeros}")
        return data
