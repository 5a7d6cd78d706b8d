"""HDF5 in the layout of AllenNLP's ``elmo`` command, which probing tools read.

Each sentence is a dataset, ``(n, c)`` or ``(1, n, c)``, whose name is the line number counted from
0. The dataset ``sentence_to_index``, ``(1,)``, contains one string: a JSON object that maps the
text of a sentence, words joined by a space, to the name of its dataset. Of equal sentences it maps
to the first (AllenNLP: the last). An attribute of the root contains our metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError, OutputError
from ..extras import importing
from ..humanize import format_bytes
from ..storage.seekable_file import SeekableFile
from ..types import EmbeddedSentence, FloatArray
from .base import Content, OpenFile, Position, Reader, Writer, about_of

__all__ = ["Hdf5Reader", "Hdf5Writer"]

_FORMAT = "bert-tokemb hdf5 1"
_METADATA = "bert_tokemb"
"""The attribute of the root that contains the metadata, a JSON object."""
_INDEX = "sentence_to_index"


class Hdf5Writer(Writer):
    """Writes an HDF5 file.

    Memory grows only by ``sentence_to_index``, which is about as large as the text.
    """

    max_index: ClassVar[int] = (1 << 32) - 1
    """The most bytes that ``sentence_to_index`` may have: HDF5 stores its length in 32 bits."""
    bytes_per_sentence = 300  # measured
    has_layers = True

    def __init__(
        self, name: str, open_file: OpenFile, content: Content, position: Position | None = None
    ) -> None:
        self._name = name
        self._h5py = h5py = _import_h5py()
        self._layers = len(content.layers)
        self._seen: set[str] = set()
        self._index = bytearray()
        self._dtype = content.dtype.newbyteorder("<")
        self._file = SeekableFile(name, open_file())
        with self._file.lent():
            self._hdf5 = h5py.File("file", "w", driver="fileobj", fileobj=self._file)
            self._settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            # Without times, the same text results in the same file.
            self._settings.set_obj_track_times(False)
            self._type = h5py.h5t.py_create(self._dtype)
            # A string of fixed length, the only kind that the reader accepts.
            self._hdf5.attrs[_METADATA] = np.bytes_(json.dumps(content.metadata(_FORMAT)).encode())

    @classmethod
    def check_packages(cls) -> None:
        """Raise MissingPackageError if h5py is not installed."""
        _import_h5py()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, sentence: EmbeddedSentence) -> None:
        """Write the dataset of a sentence."""
        key = str(sentence.line - 1)
        values = np.ascontiguousarray(split_layers(sentence.array, self._layers), self._dtype)
        h5d, h5s = self._h5py.h5d, self._h5py.h5s
        # create_dataset takes twice as long for a sentence of average length.
        with self._file.lent():
            space = h5s.create_simple(values.shape)
            dataset = h5d.create(self._hdf5.id, key.encode(), self._type, space, self._settings)
            if values.size:
                dataset.write(h5s.ALL, h5s.ALL, values)
        self._add_to_index(" ".join(sentence.words), key)

    def _add_to_index(self, text: str, key: str) -> None:
        if text in self._seen:
            return
        self._seen.add(text)
        self._index += f'{"," if self._index else ""}{json.dumps(text)}:"{key}"'.encode()
        if len(self._index) + len("{}") > self.max_index:
            raise OutputError(
                f"cannot write {self._name}: its {_INDEX} is longer than HDF5 allows "
                f"({format_bytes(self.max_index)}); split the text, or choose another format"
            )

    def finish(self) -> None:
        """Write the index."""
        with self._file.lent():
            text = self._h5py.special_dtype(vlen=str)
            self._hdf5.create_dataset(_INDEX, (1,), text)[0] = b"{" + self._index + b"}"
            self._hdf5.close()

    def abandon(self) -> None:
        """Close the file without writing."""
        self._file.abandon()
        with self._file.lent():
            self._hdf5.close()


class Hdf5Reader(Reader):
    """Reads the arrays of an HDF5 file whose datasets are named by numbers, in that order.

    The file may come from another program. A dataset of shape ``(layers, n, c)`` is read as
    ``(n, layers * c)``.

    Raises:
        InputError: if h5py is not installed, or the file is damaged or has no such datasets.
    """

    description = "an HDF5 file"
    damage = (OSError, *PARSER_ERRORS)

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._h5py = _import_h5py()
        with self._parsing():
            self._hdf5 = self._h5py.File(os.fsencode(path), "r")

    @property
    def about(self) -> Mapping[str, Any]:
        return about_of(self._metadata(), _FORMAT)

    def _metadata(self) -> Any:
        with self._parsing():
            attributes = self._hdf5.attrs
            # Nothing else is read: HDF5 was seen to crash on damaged strings of variable length.
            if _METADATA in attributes and attributes.get_id(_METADATA).dtype.kind == "S":
                return json.loads(attributes[_METADATA])
        return None

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        with self._parsing():
            names = [name for name in self._hdf5 if name.isascii() and name.isdecimal()]
            names.sort(key=int)
            is_result = bool(names) or _INDEX in self._hdf5
        if not is_result:
            raise InputError(f"{self.path} has no datasets named by numbers (0, 1, ...)")
        for name in names:
            with self._parsing():
                array = self._read(self._hdf5[name])
            yield np.concatenate(array, axis=1) if array.ndim == 3 and len(array) else array

    def _read(self, dataset: Any) -> npt.NDArray[Any]:
        if not isinstance(dataset, self._h5py.Dataset) or dataset.dtype.kind != "f":
            raise ValueError(f"{dataset.name} is not a dataset of floats")
        return np.asarray(dataset[()])

    def close(self) -> None:
        self._hdf5.close()


def split_layers(vectors: FloatArray, layers: int) -> FloatArray:
    """Return ``(layers, n, c)`` for ``(n, layers * c)`` vectors; the vectors themselves for 0.

    >>> split_layers(np.arange(4.0).reshape(1, 4), 2).tolist()
    [[[0.0, 1.0]], [[2.0, 3.0]]]
    """
    if not layers:
        return vectors
    n, width = vectors.shape
    separate: FloatArray = vectors.reshape(n, layers, width // layers).swapaxes(0, 1)
    return separate


def _import_h5py() -> Any:
    with importing("HDF5", "hdf5"):
        import h5py
    return h5py
