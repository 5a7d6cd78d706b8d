"""Reading a pickled list of arrays that nobody vouches for, one array at a time.

A pickle is a program; one that was sent by somebody else may do anything. Here it may make NumPy
arrays and nothing else. It also need not fit in memory: each array is handed over as soon as it
is read, and then forgotten.
"""

from __future__ import annotations

import io
import pickle
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import InputError

__all__ = ["read_arrays"]

T = TypeVar("T")
See = Callable[[npt.NDArray[Any]], T]

_NUMBERS = re.compile("[biuf][1-8]")
_MODULES = ("numpy.core.", "numpy._core.")
# What reading a damaged pickle was seen to raise, or can.
_DAMAGE = (
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)

# What lists of arrays are made of, in any protocol. No dictionaries and sets: to look up a tuple
# of tuples, ten of them in each and nested by reference, takes for ever.
_ADMITTED = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.DUP),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2),
        *(pickle.LONG, pickle.LONG1, pickle.LONG4),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.UNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.BINUNICODE8),
        *(pickle.SHORT_BINBYTES, pickle.BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE),
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE, pickle.BUILD),
    )
)
# Python's own unpickler, that of C having no such table; and that one makes room for as many
# remembered things as a file of eight bytes pleases to number.
_Machine: Any = pickle._Unpickler

# Stands for the class of arrays, of which NumPy's pickles tell to what makes one.
_NDARRAY = object()

# How much is read at a time.
_CHUNK = 1 << 16


def read_arrays(file: io.BufferedIOBase, name: str, see: See[T]) -> Iterator[T]:
    """Read a pickled list of arrays, and call ``see`` with each as soon as it is read.

    Args:
        file: Holds the pickle.
        name: What it is called in messages.
        see: Is given each array, once; what it does not keep is freed.

    Returns:
        What ``see`` returned of each, in the list's order; of one that is in the list several
        times, as often.

    Raises:
        InputError: it is no such list, asks for anything else, is damaged or cannot be read.
    """
    unpickler = _Unpickler(file, see)
    try:
        found = unpickler.load()
        if unpickler.is_more_to_come():
            raise InputError(
                f"{name} holds more than one list, or is damaged: something follows the first"
            )
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    except _Forbidden as error:
        raise InputError(f"{name} is no plain list of NumPy arrays: it asks for {error}") from error
    except _DAMAGE as error:
        why = ": it ends too early" if isinstance(error, EOFError) else ""
        raise InputError(f"{name} is no pickle, or damaged{why}") from error
    if not isinstance(found, list):
        what = "one array" if isinstance(found, _Array) else f"a {type(found).__name__}"
        raise InputError(f"{name} is no plain list of NumPy arrays but {what}")
    if not all(isinstance(one, _Array) and one.told for one in found):
        raise InputError(f"{name} is no plain list of NumPy arrays: it holds something else")
    if _distinct(found) != unpickler.seen:
        raise InputError(f"{name} is no plain list of NumPy arrays: it makes others besides")
    return (one.told[0] for one in found)


def _distinct(arrays: Sequence[_Array]) -> int:
    """Return how many there are, each counted once; can be called once."""
    count = 0
    # Not by a set, which would be larger than all else that is held of a sentence.
    for one in arrays:
        count += not one.is_counted
        one.is_counted = True
    return count


class _Forbidden(Exception):  # noqa: N818 - it is nobody else's business
    """The pickle asks for something that it may not have."""


class _Counted(io.RawIOBase):
    """A file that knows how much was read of it."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto1(buffer)
        self.size += size
        return size


class _Array:
    """Stands for an array, whose content was seen and forgotten."""

    __slots__ = ("_take", "is_counted", "told")

    def __init__(self, take: See[tuple[Any]]) -> None:
        self._take = take
        self.told: tuple[Any] | tuple[()] = ()
        """What was said of it, if it was seen."""
        self.is_counted = False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Version, shape, type, whether columns come first, content.
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise _Forbidden("an array of something else than numbers")
        if self.told:
            raise _Forbidden("an array that changes")
        if min(shape, default=0) < 0:
            raise _Forbidden("an array of less than nothing")
        values = np.frombuffer(content, dtype.made())
        # Of a transposed array the content is that of its transpose.
        self.told = self._take(values.reshape(shape[::-1]).T if fortran else values.reshape(shape))


class _Unpickler(_Machine):  # type: ignore[misc]
    """Makes nothing but arrays, and has each seen.

    Attributes:
        seen: How many were.
    """

    def __init__(self, file: io.BufferedIOBase, see: See[Any]) -> None:
        self._counted = _Counted(file)
        self._file = io.BufferedReader(self._counted, _CHUNK)
        super().__init__(self._file)
        self._see = see
        self._made = 0
        self.seen = 0

    def is_more_to_come(self) -> bool:
        """Tell whether something stands behind the pickle; ``pickle.load`` would not look."""
        return bool(self._file.read(1))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if module == "_codecs" and name == "encode":  # how old protocols write bytes
            return self._encode
        if module in ("__builtin__", "builtins") and name == "bytes":  # they write none so
            return _no_bytes
        if module.startswith(_MODULES) and name == "_reconstruct":
            return self._reconstruct
        if module.startswith(_MODULES) and name == "_frombuffer":  # protocol 5
            return self._from_buffer
        raise _Forbidden(f"{module}.{name}"[:80].encode("unicode_escape").decode())

    def _reconstruct(self, kind: Any, shape: Any, typecode: Any) -> _Array:
        return _Array(self._take)

    def _from_buffer(self, buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = self._reconstruct(None, None, None)
        array.__setstate__((1, shape, dtype, order == "F", buffer))
        return array

    def _encode(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise _Forbidden("an encoding")
        self._spend(len(text))
        return text.encode("latin1")

    def _take(self, array: npt.NDArray[Any]) -> tuple[Any]:
        self._spend(array.nbytes)
        self.seen += 1
        return (self._see(array),)

    def _spend(self, size: int) -> None:
        """Bound what is made, by what was read.

        What is remembered may be asked for again, by a few bytes of the file each time. Of those
        that NumPy writes each byte is made one of bytes once, and once one of an array.
        """
        self._made += size
        if self._made > 2 * self._counted.size:
            raise _Forbidden("the same content again and again")

    def _load_bytearray(self) -> None:
        # Python's own sets aside as many zeros as the file says that bytes will follow.
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))


def _refuse(unpickler: _Unpickler) -> None:
    raise _Forbidden("something else")


def _wonder(unpickler: _Unpickler) -> None:
    raise pickle.UnpicklingError("it holds what no pickle does")


def _does(code: int) -> Any:
    return _Machine.dispatch[code] if code in _ADMITTED else _refuse


_Unpickler.dispatch = dict.fromkeys(range(256), _wonder)
_Unpickler.dispatch |= {code: _does(code) for code in _Machine.dispatch}
_Unpickler.dispatch[pickle.BYTEARRAY8[0]] = _Unpickler._load_bytearray


class _Dtype:
    """Stands for the type of plain numbers."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: object, *flags: object) -> None:
        if not isinstance(name, str):  # lists of lists by reference are short only in the file
            raise _Forbidden(f"an array of what a {type(name).__name__} says")
        if not _NUMBERS.fullmatch(name):
            raise _Forbidden(f"an array of {name[:40]!r}")
        self._name, self._order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Version, byte order, and what only composed types have.
        self._order = state[1] if state[1] in (">", "<") else "="

    def made(self) -> np.dtype[Any]:
        """Return the type."""
        order: Any = self._order
        dtype: np.dtype[Any] = np.dtype(self._name).newbyteorder(order)
        return dtype


def _no_bytes() -> bytes:
    return b""
