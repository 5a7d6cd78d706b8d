"""A pickled list of arrays, written as a stream.

An unpickler does not care whether a list came out of one ``pickle.dump``: here the list is
begun, each array's opcodes follow as it comes, and the list is ended. Memory stays flat, and a
file that was interrupted ends behind its last whole array.

Protocol 4, which Python 3.4 and later read. Arrays are rebuilt by
``numpy.core.multiarray._reconstruct``, as numpy before 2.0 wrote them: numpy 1 and 2 both load
that, without a warning, while numpy before 1.26 does not know the ``numpy._core`` of numpy 2.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Protocol

import numpy as np

from ..types import FloatArray

__all__ = ["PickleOutput"]


def _text(text: str) -> bytes:
    encoded = text.encode("ascii")
    return pickle.SHORT_BINUNICODE + bytes([len(encoded)]) + encoded


def _global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + pickle.STACK_GLOBAL


def _int(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _recall(index: int) -> bytes:
    return pickle.BINGET + bytes([index])


def _dtype(dtype: np.dtype[Any]) -> bytes:
    """``numpy.dtype('f4', False, True)`` and its state: version 3, little-endian."""
    return (
        _global("numpy", "dtype")
        + _text(dtype.str[1:])
        + pickle.NEWFALSE
        + pickle.NEWTRUE
        + pickle.TUPLE3
        + pickle.REDUCE
        + pickle.MARK
        + _int(3)
        + _text("<")
        + pickle.NONE * 3
        + _int(-1) * 2
        + _int(0)
        + pickle.TUPLE
        + pickle.BUILD
    )


_BEGIN = pickle.PROTO + b"\x04" + pickle.EMPTY_LIST
_END = pickle.STOP

# What every array needs is put into the unpickler's memory once, under these numbers.
_RECONSTRUCT, _NDARRAY, _DTYPE = range(3)


def _remember(dtype: np.dtype[Any]) -> bytes:
    things = (
        _global("numpy.core.multiarray", "_reconstruct"),
        _global("numpy", "ndarray"),
        _dtype(dtype),
    )
    return b"".join(thing + pickle.MEMOIZE + pickle.POP for thing in things)


# _reconstruct(ndarray, (0,), b"b"), then its state: version 1, shape, type, C order, bytes.
_ARRAY = (
    _recall(_RECONSTRUCT)
    + _recall(_NDARRAY)
    + _int(0)
    + pickle.TUPLE1
    + pickle.SHORT_BINBYTES
    + b"\x01b"
    + pickle.TUPLE3
    + pickle.REDUCE
    + pickle.MARK
    + _int(1)
)
_STATE = pickle.TUPLE2 + _recall(_DTYPE) + pickle.NEWFALSE + pickle.BINBYTES8
_SET_AND_APPEND = pickle.TUPLE + pickle.BUILD + pickle.APPEND


# Everything of an array that comes before its bytes: rows, columns, size in bytes.
_HEAD = struct.Struct(f"<{len(_ARRAY)}s c i c i {len(_STATE)}s Q")


def _head(rows: int, columns: int, size: int) -> bytes:
    return _HEAD.pack(_ARRAY, pickle.BININT, rows, pickle.BININT, columns, _STATE, size)


class Writable(Protocol):
    """A binary file, as far as it is needed here."""

    def write(self, data: Any, /) -> int:
        """Append bytes, or anything with a buffer."""


class PickleOutput:
    """Writes ``(n, c)`` arrays, all of one type, into a binary file as one pickled list.

    Args:
        file: Is appended to.
        written: Bytes of a list that was begun before, with whole arrays.
        dtype: Of these arrays.

    >>> import io
    >>> file = io.BytesIO()
    >>> output = PickleOutput(file)
    >>> output.write(np.ones((2, 3), np.float32))
    >>> output.end()
    >>> pickle.loads(file.getvalue())
    [array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)]
    """

    def __init__(
        self, file: Writable, *, written: int = 0, dtype: np.dtype[Any] | None = None
    ) -> None:
        self._file = file
        self._dtype: np.dtype[Any] | None = None
        if not written:
            file.write(_BEGIN)
        elif dtype and written > len(_BEGIN):
            self._know(dtype)

    def write(self, array: FloatArray) -> None:
        """Append one ``(n, c)`` array to the list.

        Raises:
            ValueError: it is of another type than the first.
        """
        if self._dtype is None:
            self._know(array.dtype)
            self._file.write(_remember(array.dtype))
        if array.dtype != self._dtype:
            raise ValueError(f"an array of {array.dtype} among {self._dtype}")
        values = np.ascontiguousarray(array, self._stored)
        rows, columns = values.shape
        self._file.write(_head(rows, columns, values.nbytes))
        if values.size:
            self._file.write(values.data)
        self._file.write(_SET_AND_APPEND)

    def _know(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._stored = dtype.newbyteorder("<")

    def end(self) -> None:
        """End the list; without this the file cannot be loaded."""
        self._file.write(_END)
