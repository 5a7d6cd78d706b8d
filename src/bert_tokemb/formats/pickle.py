"""A pickled list of arrays, written as a stream and read without unpickling it.

Writing: an unpickler does not notice whether a list was pickled by one ``pickle.dump``. Here the
list is opened, the opcodes of each array follow as it arrives, and the list is closed. Memory stays
flat, and an interrupted file can be continued after its last whole array. Protocol 4 is read by
Python 3.4 and later. Arrays refer to ``numpy.core.multiarray._reconstruct`` as NumPy 1 wrote them:
NumPy 1 and 2 load that without a warning, whereas NumPy before 1.26 does not know the
``numpy._core`` of NumPy 2.

Reading: a pickle is a program, and one of unknown origin can do anything. :class:`PickleReader`
therefore interprets the opcodes itself. It knows only those of a list of numeric arrays, as any
version of Python 3 and NumPy pickles it, and calls nothing.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError, translate
from ..humanize import printable
from ..storage.byte_writer import ByteWriter
from ..types import EmbeddedSentence
from .base import Content, OpenFile, Position, Reader, Writer

__all__ = ["PickleReader", "PickleWriter"]

T = TypeVar("T")


# --- Writing ----------------------------------------------------------------------------------


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


_OPEN_LIST = pickle.PROTO + b"\x04" + pickle.EMPTY_LIST
_CLOSE_LIST = pickle.STOP

# What every array refers to is stored once in the unpickler's memo, under these indices.
_RECONSTRUCT, _NDARRAY, _DTYPE = range(3)


def _memoize(dtype: np.dtype[Any]) -> bytes:
    values = (
        _global("numpy.core.multiarray", "_reconstruct"),
        _global("numpy", "ndarray"),
        _dtype(dtype),
    )
    return b"".join(value + pickle.MEMOIZE + pickle.POP for value in values)


# _reconstruct(ndarray, (0,), b"b"), then its state: version 1, shape, data type, C order, data.
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


# Everything of an array that comes before its data: rows, columns, size in bytes.
_HEAD = struct.Struct(f"<{len(_ARRAY)}s c i c i {len(_STATE)}s Q")


def _head(rows: int, columns: int, size: int) -> bytes:
    return _HEAD.pack(_ARRAY, pickle.BININT, rows, pickle.BININT, columns, _STATE, size)


class PickleWriter(Writer):
    """Writes ``(n, c)`` arrays of one data type as one pickled list.

    >>> import tempfile
    >>> from ..types import EmbeddedSentence
    >>> with tempfile.TemporaryFile() as file:
    ...     content = Content(3, np.dtype(np.float32))
    ...     writer = PickleWriter("example", lambda **_: file.fileno(), content)
    ...     writer.write(EmbeddedSentence(1, ["a", "b"], np.ones((2, 3), np.float32)))
    ...     writer.finish()
    ...     _ = file.seek(0)
    ...     pickle.load(file)
    [array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)]
    """

    is_resumable = True
    is_streamable = True
    bytes_per_sentence = 50

    def __init__(
        self, name: str, open_file: OpenFile, content: Content, position: Position | None = None
    ) -> None:
        kept, crc32 = (position["bytes"], position["crc32"]) if position else (0, 0)
        self._file = ByteWriter(name, open_file(keep=kept, crc32=crc32), kept, crc32)
        self._dtype = content.dtype.newbyteorder("<")
        if not kept:
            self._file.write(_OPEN_LIST + _memoize(content.dtype))

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, sentence: EmbeddedSentence) -> None:
        """Append the array of a sentence to the list."""
        values = np.ascontiguousarray(sentence.array, self._dtype)
        rows, columns = values.shape
        self._file.write(_head(rows, columns, values.nbytes))
        if values.size:
            self._file.write(values.data)
        self._file.write(_SET_AND_APPEND)

    def position(self) -> Position:
        """Return the number of bytes and their checksum."""
        self._file.flush()
        return {"bytes": self._file.size, "crc32": self._file.crc32}

    def finish(self) -> None:
        """Close the list."""
        self._file.write(_CLOSE_LIST)
        self._file.flush()


# --- Reading ----------------------------------------------------------------------------------


class PickleReader(Reader):
    """Reads a pickled list of arrays of unknown origin safely.

    Args:
        path: The path of the pickle; also its name in messages.
        file: An open file to read instead, such as a pipe.
    """

    description = "a pickled list of arrays"

    def __init__(self, path: str, file: BinaryIO | None = None) -> None:
        super().__init__(path)
        with self._parsing():
            self._file = file or Path(path).open("rb")  # noqa: SIM115 - see close

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        # Holds the arrays that pickle.dump lists together; map does not.
        return self.map(lambda array: array)

    def map(self, function: Callable[[npt.NDArray[Any]], T]) -> Iterator[T]:
        """Yield ``function(array)`` for each array, in order, without keeping the arrays.

        ``function`` is called as soon as an array has been read, whereas ``pickle.dump`` lists
        arrays a thousand at a time. It is called once for an array that is listed several times.

        Raises:
            InputError: if the pickle is damaged, or is not a plain list of numeric arrays.
        """
        for array in self._read():
            if array.values is None:
                yield array.result
            else:
                array.result = function(array.values)
                array.values = None

    def _read(self) -> Iterator[_Array]:
        refusing = translate(
            InputError,
            f"read {self.path}",
            damage=(_UnsupportedError,),
            damaged=f"{self.path} is not a plain list of NumPy arrays",
        )
        with self._parsing(), refusing:
            yield from _Machine().run(self._file)
            if self._file.read(1):
                raise _UnsupportedError("data follows the end of the pickle")

    def close(self) -> None:
        self._file.close()


class _UnsupportedError(Exception):
    """The pickle contains something that lists of numeric arrays do not."""


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}

_THE_LIST = object()
"""Stands for the list on the stack; its arrays are not kept."""

_NDARRAY_TYPE = object()
"""Stands for ``numpy.ndarray``, an argument of ``_reconstruct``."""

_NUMERIC = re.compile("[biuf][1248]")

_MAX_SHARED = 256
"""Bytes or characters of values that may be used several times; see :class:`_Data`."""


class _Machine:
    """Executes the opcodes of one pickle.

    A hostile pickle can nest tuples by reference, so that traversing them takes forever. Values
    are therefore not hashed, formatted or compared with each other before their type is checked.
    """

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []  # heights of the stack
        self._memo: dict[int, Any] = {}
        self._has_list = False
        self._unlisted = 0

    def run(self, file: BinaryIO) -> Iterator[_Array]:
        """Yield each array when its values have been read, and again whenever it is listed."""
        # Without a method `tell`, which pipes do not support.
        source: Any = SimpleNamespace(read=file.read, readline=file.readline)
        for opcode, argument, _ in pickletools.genops(source):
            if arrays := self._execute(opcode.name, argument):
                yield from arrays

    def _execute(self, opcode: str, argument: Any) -> Sequence[_Array]:
        """Execute an opcode, and return the arrays to yield."""
        stack = self._stack
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "BINGET" | "GET" | "LONG_BINGET":
                if argument not in self._memo:
                    raise ValueError(f"its memo has no value {argument}")
                stack.append(self._memo[argument])
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINPUT" | "PUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1" | "LONG4":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE" | "EMPTY_TUPLE":
                stack.append(_CONSTANTS[opcode])
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(_data_if_large(argument))
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8" | "UNICODE":
                stack.append(_data_if_large(argument))
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "GLOBAL":
                stack.append(_find(argument))
            case "STACK_GLOBAL":
                stack.append(_find(" ".join(self._pop(2))))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(function(*arguments))
                return self._made_array()
            case "BUILD":
                (state,) = self._pop(1)
                if not isinstance(stack[-1], _Array | _Dtype):
                    raise ValueError("it sets the state of something other than an array")
                stack[-1].set_state(*state)
                return self._made_array()
            case "EMPTY_LIST":
                self._open_list()
            case "LIST":
                items = self._pop_to_mark()
                self._open_list()
                return self._append(items)
            case "APPEND":
                return self._append(self._pop(1))
            case "APPENDS":
                return self._append(self._pop_to_mark())
            case "POP":
                self._pop(1)
            case "STOP":
                self._check_result(stack[-1])
            case _:
                raise _UnsupportedError(f"it uses the pickle opcode {opcode}")
        return ()

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise ValueError("its stack is empty")
        values = self._stack[-count:]
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _open_list(self) -> None:
        if self._has_list:
            raise _UnsupportedError("it contains a second list")
        self._has_list = True
        self._stack.append(_THE_LIST)

    def _made_array(self) -> Sequence[_Array]:
        array = self._stack[-1]
        if not isinstance(array, _Array) or array.values is None:
            return ()
        self._unlisted += 1
        return (array,)

    def _append(self, items: Sequence[Any]) -> Sequence[_Array]:
        if self._stack[-1] is not _THE_LIST:
            raise ValueError("it appends to something other than a list")
        for item in items:
            if not isinstance(item, _Array) or not item.is_complete:
                raise _UnsupportedError("it contains something other than arrays")
            self._unlisted -= not item.is_listed
            item.is_listed = True
        return items

    def _check_result(self, result: object) -> None:
        if isinstance(result, _Array):
            raise _UnsupportedError("it is a single array")
        if result is not _THE_LIST:
            raise _UnsupportedError(f"it is of type {type(result).__name__}")
        if self._unlisted:
            raise _UnsupportedError("it contains arrays outside of the list")


class _Array:
    """An array of the pickle."""

    __slots__ = ("is_complete", "is_listed", "result", "values")

    def __init__(self) -> None:
        self.values: npt.NDArray[Any] | None = None
        """The array, until the caller has seen it."""
        self.result: Any = None
        """What the caller made of it."""
        self.is_complete = self.is_listed = False

    def set_state(
        self, version: object, shape: object, dtype: object, is_fortran: object, data: object
    ) -> None:
        if self.is_complete:
            raise _UnsupportedError("it changes an array")
        if isinstance(data, _Data):
            data = data.take()
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
            raise _UnsupportedError("it contains an array of something other than numbers")
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise _UnsupportedError("it contains an array without a valid shape")
        values = np.frombuffer(data, dtype.dtype)
        # The data of an array in Fortran order are those of its transpose in C order.
        self.values = values.reshape(shape[::-1]).T if is_fortran else values.reshape(shape)
        self.is_complete = True


class _Dtype:
    """The data type of an array."""

    __slots__ = ("dtype",)

    def __init__(self, name: object, *flags: object) -> None:
        if not isinstance(name, str):
            raise _UnsupportedError("it contains an array of a data type without a name")
        if not _NUMERIC.fullmatch(name):
            raise _UnsupportedError(f"it contains an array of data type {name[:40]!r}")
        self.dtype: np.dtype[Any] = np.dtype(name)

    def set_state(self, version: object, order: object, *structure: object) -> None:
        if order == "<" or order == ">":
            self.dtype = self.dtype.newbyteorder(order)


class _Data:
    """The data of an array: bytes, or in old protocols text; it can be taken once.

    ``pickle.dump`` memoizes it, although nothing refers to it again. Freeing it when it is taken
    keeps the memory flat. Besides, a small pickle cannot use the same data many times.
    """

    __slots__ = ("_data",)

    def __init__(self, data: str | bytes | bytearray) -> None:
        self._data: str | bytes | bytearray | None = data

    def take(self) -> str | bytes | bytearray:
        data, self._data = self._data, None
        if data is None:
            raise _UnsupportedError("it uses the data of an array twice")
        return data


def _data_if_large(value: str | bytes | bytearray) -> object:
    return value if len(value) <= _MAX_SHARED else _Data(value)


def _reconstruct(kind: object, shape: object, typecode: object) -> _Array:
    """Make an empty array, whose state follows (protocols 0 to 4)."""
    return _Array()


def _frombuffer(data: object, dtype: object, shape: object, order: object, *axes: object) -> _Array:
    """Make an array (protocol 5)."""
    if order != "C" and order != "F":
        raise _UnsupportedError("it contains an array in an unusual memory order")
    array = _Array()
    array.set_state(None, shape, dtype, order == "F", data)
    return array


def _encode(text: object, encoding: object) -> object:
    """Turn text into the bytes that protocols 0 to 2 write as text."""
    if isinstance(text, _Data):
        text = text.take()
    if not isinstance(text, str) or encoding != "latin1":
        raise _UnsupportedError("it contains text in an unusual encoding")
    return _data_if_large(text.encode("latin1"))


# By module and name. The only callable values that a pickle can obtain.
_GLOBALS = {
    "numpy ndarray": _NDARRAY_TYPE,
    "numpy dtype": _Dtype,
    "numpy.core.multiarray _reconstruct": _reconstruct,
    "numpy._core.multiarray _reconstruct": _reconstruct,
    "numpy.core.numeric _frombuffer": _frombuffer,
    "numpy._core.numeric _frombuffer": _frombuffer,
    "_codecs encode": _encode,
    "__builtin__ bytes": lambda: b"",
    "builtins bytes": lambda: b"",
}


def _find(name: str) -> object:
    if name not in _GLOBALS:
        raise _UnsupportedError(f"it refers to {printable(name[:80]).replace(' ', '.')}")
    return _GLOBALS[name]
