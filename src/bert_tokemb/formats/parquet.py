"""Parquet, for data frames: the columns ``line``, ``words`` and ``vectors``.

``line`` is the line number, from 1; ``words`` is a list of strings, and ``vectors`` a list of as
many lists of ``c`` numbers each. The metadata of the schema contains ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import PARSER_ERRORS, InputError
from ..extras import importing
from ..storage.seekable_file import SeekableFile
from ..types import EmbeddedSentence, FloatArray
from .base import Content, OpenFile, Position, Reader, Writer, about_of

__all__ = ["ParquetReader", "ParquetWriter"]

_FORMAT = "bert-tokemb parquet 1"
_METADATA = "bert_tokemb"
"""The key of the metadata, a JSON object, next to which pandas has its own."""

# Approximate bytes of a sentence and of a word in addition to their numbers and characters.
_PER_SENTENCE = _PER_WORD = 16

# Rows read at a time, since the row groups of other programs may be of any size.
_ROWS_READ = 64

_WORDS = "words.list.element"
_VECTORS = "vectors"
_LAYER = "layer_"


class ParquetWriter(Writer):
    """Writes a Parquet file."""

    row_group: ClassVar[int] = 32 << 20
    """The most bytes of a row group, unless a single sentence is larger.

    A writer holds one in memory, and so does a reader.
    """
    bytes_per_sentence = 100  # mostly words
    has_layers = True

    def __init__(
        self, name: str, open_file: OpenFile, content: Content, position: Position | None = None
    ) -> None:
        self._pa, pq = _import_pyarrow()
        self._group = _RowGroup()
        pa = self._pa
        columns = [f"{_LAYER}{layer}" for layer in content.layers] or [_VECTORS]
        self._row = pa.list_(pa.from_numpy_dtype(content.dtype), content.width // len(columns))
        schema = pa.schema(
            {
                "line": pa.int64(),
                "words": pa.list_(pa.string()),
                **{column: pa.large_list(self._row) for column in columns},
            },
            metadata={_METADATA: json.dumps(content.metadata(_FORMAT))},
        )
        self._file = SeekableFile(name, open_file())
        # zstd saves 7 % of BERT's vectors and costs no time. With BYTE_STREAM_SPLIT it would be
        # 15 %, but then pyarrow 16 cannot read blank lines, and DuckDB cannot read float16.
        with self._file.lent():
            self._writer = pq.ParquetWriter(
                pa.PythonFile(self._file, mode="w"),
                schema,
                compression="zstd",
                use_dictionary=[_WORDS],
                write_statistics=["line"],
            )

    @classmethod
    def check_packages(cls) -> None:
        """Raise MissingPackageError if pyarrow is not installed."""
        _import_pyarrow()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.size

    def write(self, sentence: EmbeddedSentence) -> None:
        """Append a row."""
        if self._group.lines and self._group.size + _size(sentence) > self.row_group:
            self._write_group()
        self._group.append(sentence)

    def finish(self) -> None:
        """Write the last row group and the footer."""
        self._write_group()
        with self._file.lent():
            self._writer.close()

    def abandon(self) -> None:
        """Close the file without writing."""
        self._file.abandon()
        with self._file.lent():
            self._writer.close()

    def _write_group(self) -> None:
        group, self._group = self._group, _RowGroup()
        if group.lines:
            with self._file.lent():
                table = group.table(self._pa, self._row, self._writer.schema)
                del group  # the table has copies of its arrays
                self._writer.write_table(table, row_group_size=len(table))


class _RowGroup:
    """Sentences that are written together."""

    def __init__(self) -> None:
        self.size = 0
        self.lines: list[int] = []
        self._words: list[Sequence[str]] = []
        self._arrays: list[FloatArray] = []

    def append(self, one: EmbeddedSentence) -> None:
        """Append a sentence."""
        self.lines.append(one.line)
        self._words.append(one.words)
        self._arrays.append(one.array)
        self.size += _size(one)

    def table(self, pa: Any, row: Any, schema: Any) -> Any:
        """Return a ``pyarrow.Table``; ``row`` is the Arrow type of a vector."""
        offsets = pa.array(np.cumsum([0, *map(len, self._arrays)], dtype=np.int64))
        columns = [
            pa.LargeListArray.from_arrays(
                offsets,
                pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=row),
            )
            for values in np.split(np.concatenate(self._arrays), len(schema) - 2, axis=1)
        ]
        return pa.table([pa.array(self.lines), pa.array(self._words), *columns], schema=schema)


def _size(one: EmbeddedSentence) -> int:
    words = sum(map(len, one.words)) + _PER_WORD * len(one.words)
    return one.array.nbytes + words + _PER_SENTENCE


class ParquetReader(Reader):
    """Reads the arrays in the column ``vectors``, or those of the layers, of a Parquet file.

    The vectors of several layers are put side by side.

    Raises:
        InputError: if pyarrow is not installed, or the file is damaged or has no such column.
    """

    description = "a Parquet file"

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._pa, pq = _import_pyarrow()
        self.damage = (OSError, *PARSER_ERRORS, self._pa.ArrowException)
        with self._parsing():
            # pyarrow accepts a path that is not UTF-8 only as bytes, and only here.
            self._file = self._pa.OSFile(os.fsencode(path))
            self._parquet = pq.ParquetFile(self._file)

    @property
    def about(self) -> Mapping[str, Any]:
        with self._parsing():
            metadata = self._parquet.schema_arrow.metadata or {}
            return about_of(json.loads(metadata.get(_METADATA.encode(), "{}")), _FORMAT)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        with self._parsing():
            columns = self._columns()
            width = self._width(columns)
            batches = self._parquet.iter_batches(_ROWS_READ, columns=columns)
        while True:
            with self._parsing():
                batch = next(batches, None)
                if batch is None:
                    return
                layers = [[_array(row.values, width) for row in column] for column in batch.columns]
                arrays = [np.concatenate(one, axis=1) for one in zip(*layers, strict=True)]
            yield from arrays

    def _columns(self) -> list[str]:
        names = self._parquet.schema_arrow.names
        return [name for name in names if name.startswith(_LAYER)] or [_VECTORS]

    def _width(self, columns: Sequence[str]) -> int:
        """Return the length of the vectors in each of some columns."""
        types, schema = self._pa.types, self._parquet.schema_arrow
        widths = set()
        for column in columns:
            rows = schema.field(column).type if column in schema.names else self._pa.null()
            if types.is_list(rows) or types.is_large_list(rows):
                vector = rows.value_type
                if types.is_fixed_size_list(vector) and types.is_floating(vector.value_type):
                    widths.add(int(vector.list_size))
        if len(widths) == 1:
            return widths.pop()
        raise InputError(f"{self.path} has no column `vectors` of lists of vectors")

    def close(self) -> None:
        self._parquet.close()
        self._file.close()


def _array(vectors: Any, width: int) -> npt.NDArray[Any]:
    """Return ``(n, c)`` for a ``pyarrow.FixedSizeListArray``."""
    if vectors is None or vectors.null_count or vectors.flatten().null_count:
        raise ValueError("some vectors are missing")
    values: npt.NDArray[Any] = vectors.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)


def _import_pyarrow() -> tuple[Any, Any]:
    with importing("Parquet", "parquet"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    return pa, pq
