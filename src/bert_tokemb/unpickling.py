"""Reading a pickled list of arrays that nobody vouches for, one array at a time.

A pickle is a program; one that was sent by somebody else may do anything. Here it may make NumPy
arrays and nothing else. It also need not fit in memory: each array is handed over as soon as it
is read, and then forgotten.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from .errors import InputError

__all__ = ["read_arrays"]

See = Callable[[npt.NDArray[Any]], None]

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
)


def read_arrays(file: BinaryIO, name: str, see: See) -> int:
    """Read a pickled list of arrays, and call ``see`` with each, in the list's order.

    Args:
        file: Holds the pickle.
        name: What it is called in messages.
        see: Is given each array; what it does not keep is freed.

    Returns:
        The length of the list.

    Raises:
        InputError: it is no such list, asks for anything else, is damaged or cannot be read.
    """
    try:
        found = _Unpickler(file, see).load()
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error
    except _Forbidden as error:
        raise InputError(f"{name} is no plain list of NumPy arrays: it asks for {error}") from error
    except _DAMAGE as error:
        raise InputError(f"{name} is no pickle, or damaged: {error}") from error
    if not isinstance(found, list) or not all(type(one) is _Array for one in found):
        raise InputError(f"{name} is no plain list of NumPy arrays but a {type(found).__name__}")
    return len(found)


class _Forbidden(Exception):  # noqa: N818 - it is nobody else's business
    """The pickle asks for something that it may not have."""


class _Array:
    """Stands for an array, whose content was seen and forgotten."""

    __slots__ = ("_see",)

    def __init__(self, see: See) -> None:
        self._see = see

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Version, shape, type, whether columns come first, content.
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
            raise _Forbidden("an array of something else than numbers")
        values = np.frombuffer(content, dtype.made())
        # Of a transposed array the content is that of its transpose.
        self._see(values.reshape(shape[::-1]).T if fortran else values.reshape(shape))


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, see: See) -> None:
        super().__init__(file)
        self._see = see

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return _Array
        if (module, name) == ("numpy", "dtype"):
            return _Dtype
        if module == "_codecs" and name == "encode":  # how old protocols write bytes
            return _encode
        if module in ("__builtin__", "builtins") and name == "bytes":  # they write none so
            return _no_bytes
        if module.startswith(_MODULES) and name == "_reconstruct":
            return self._reconstruct
        if module.startswith(_MODULES) and name == "_frombuffer":  # protocol 5
            return self._from_buffer
        raise _Forbidden(f"{module}.{name}"[:80].encode("unicode_escape").decode())

    def _reconstruct(self, kind: Any, shape: Any, typecode: Any) -> _Array:
        return _Array(self._see)

    def _from_buffer(self, buffer: Any, dtype: Any, shape: Any, order: Any) -> _Array:
        array = _Array(self._see)
        array.__setstate__((1, shape, dtype, order == "F", bytes(buffer)))
        return array


class _Dtype:
    """Stands for the type of plain numbers."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: object, *flags: object) -> None:
        if not isinstance(name, str) or not _NUMBERS.fullmatch(name):
            raise _Forbidden(f"an array of {name!r:.40}")
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


def _encode(text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Forbidden("an encoding")
    return text.encode("latin1")
