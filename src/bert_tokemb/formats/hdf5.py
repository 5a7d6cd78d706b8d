"""HDF5 in the layout of AllenNLP's ``elmo`` command, which probing tools read.

A dataset for each sentence, ``(n, c)`` or ``(1, n, c)``, is named by the number of its line,
counted from 0; ``sentence_to_index``, ``(1,)``, holds one string: a JSON object from the text of
a sentence, words joined by a space, to the name of its dataset. Of equal sentences it names the
first (AllenNLP: the last).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, OutputError, TokembError
from ..extras import importing
from ..storage.seekable_file import SeekableFile
from ..types import EmbeddedSentence
from .base import Content, Position
from .begins_anew import BeginsAnew

__all__ = ["Hdf5Output", "Hdf5Reader", "Hdf5Shape"]

Hdf5Shape = Literal["2d", "3d"]
"""``(n, c)``, or ``(1, n, c)`` as of a model with one layer."""

_FORMAT = "bert-tokemb hdf5 1"
_META = "bert_tokemb"
"""The attribute of the root that tells what the file is, a JSON object."""
_INDEX = "sentence_to_index"

# The length of a string has 32 bits in the file.
_LARGEST_INDEX = (1 << 32) - 1

# What h5py was seen to raise for damaged files, or can.
_DAMAGE = (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Hdf5Output(BeginsAnew):
    """Writes an HDF5 file; use it as a context manager.

    Memory grows with ``sentence_to_index`` only, by about the size of the text.

    Raises:
        OutputError: h5py is not installed, or the file cannot be written.
    """

    bytes_per_sentence = 300  # as was measured

    def __init__(self, name: str, shape: Hdf5Shape = "2d") -> None:
        self.name = name
        self._h5py = h5py = _import_h5py(OutputError)
        self._leading = (1,) if shape == "3d" else ()
        self._seen: set[str] = set()
        self._index = bytearray()
        with ExitStack() as closing:
            self._file = SeekableFile(name)
            closing.enter_context(self._file)
            closing.push(self._close)
            with self._file.lent():
                self._hdf5 = h5py.File("file", "w", driver="fileobj", fileobj=self._file)
                self._settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                # The same text gives the same file.
                self._settings.set_obj_track_times(False)
            self._closing = closing.pop_all()

    def begin(self, content: Content, position: Position | None = None) -> bool:
        """Learn what will come; False where it is to go on, which nobody can."""
        if position:
            return False
        self._dtype = content.dtype.newbyteorder("<")
        meta = content.meta(_FORMAT)
        with self._file.lent():
            self._type = self._h5py.h5t.py_create(self._dtype)
            # Of a fixed length, which the reader asks for.
            self._hdf5.attrs[_META] = np.bytes_(json.dumps(meta).encode())
        return True

    def write(self, one: EmbeddedSentence) -> None:
        """Write a sentence's dataset."""
        key = str(one.line - 1)
        values = np.ascontiguousarray(one.array, self._dtype)
        h5d, h5s = self._h5py.h5d, self._h5py.h5s
        # Not create_dataset, which takes twice as long for a sentence of usual length.
        with self._file.lent():
            space = h5s.create_simple((*self._leading, *values.shape))
            dataset = h5d.create(self._hdf5.id, key.encode(), self._type, space, self._settings)
            if values.size:
                dataset.write(h5s.ALL, h5s.ALL, values.reshape(space.shape))
        text = " ".join(one.words)
        if text not in self._seen:
            self._seen.add(text)
            self._index += f'{"," if self._index else ""}{json.dumps(text)}:"{key}"'.encode()
            if len(self._index) + 2 > _LARGEST_INDEX:
                raise OutputError(
                    f"cannot write {self.name}: its {_INDEX} is longer than HDF5 allows, 4 GiB: "
                    "split the text, or choose another format"
                )

    def _finish(self) -> None:
        with self._file.lent():
            text = self._h5py.special_dtype(vlen=str)
            self._hdf5.create_dataset(_INDEX, (1,), text)[0] = b"{" + self._index + b"}"
            self._hdf5.close()

    def _close(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self._file.abandon()
        with self._file.lent():
            self._hdf5.close()


class Hdf5Reader:
    """Reads such a file, one sentence after another; a context manager, and iterable once.

    Also one that is not ours. Iterating it gives ``(n, c)`` for the shape ``(1, n, c)`` too, and
    anything else as it is.

    Attributes:
        about: What the file tells of how it was made.

    Raises:
        InputError: it is none, damaged, or h5py is not installed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._h5py = _import_h5py(InputError)
        with self._telling_damage():
            self._hdf5 = self._h5py.File(os.fsencode(path), "r")

    @property
    def about(self) -> Mapping[str, Any]:
        about = self._meta().get("about")
        return about if isinstance(about, dict) else {}

    def _meta(self) -> Mapping[str, Any]:
        """Return what the file tells of itself; nothing where it is not ours."""
        with self._telling_damage():
            attributes = self._hdf5.attrs
            is_there = _META in attributes and attributes.get_id(_META).dtype.kind == "S"
            meta = json.loads(attributes[_META]) if is_there else {}
        return meta if isinstance(meta, dict) and meta.get("format") == _FORMAT else {}

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        with self._telling_damage():
            names = [name for name in self._hdf5 if name.isascii() and name.isdecimal()]
            names.sort(key=int)
        if not names and not self._meta():
            raise InputError(f"{self.path} has no datasets named by numbers, 0 and so on")
        for name in names:
            with self._telling_damage():
                array = self._read(self._hdf5[name])
            yield array[0] if array.ndim == 3 and len(array) == 1 else array

    def _read(self, dataset: Any) -> npt.NDArray[Any]:
        # Nothing else is looked at: of damaged strings HDF5 was seen to crash.
        if not isinstance(dataset, self._h5py.Dataset) or dataset.dtype.kind != "f":
            raise ValueError(f"{dataset.name} is no dataset of floats")
        return np.asarray(dataset[()])

    def __enter__(self) -> Hdf5Reader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._hdf5.close()

    @contextmanager
    def _telling_damage(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise InputError(f"{self.path} is damaged, or no HDF5 file: {error}") from error


def _import_h5py(missing: type[TokembError]) -> Any:
    with importing("a .h5", "hdf5", missing):
        import h5py
    return h5py
