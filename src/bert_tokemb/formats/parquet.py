"""Parquet, for data frames: the columns ``line``, ``words`` and ``vectors``.

``line`` is the number of the line, from 1; ``words`` a list of strings, and ``vectors`` a list
of as many lists of ``c`` numbers each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError, OutputError, TokembError
from ..extras import importing
from ..storage.seekable_file import SeekableFile
from ..types import EmbeddedSentence, FloatArray
from .base import Content, Position
from .begins_anew import BeginsAnew

__all__ = ["ParquetOutput", "ParquetReader"]

_FORMAT = "bert-tokemb parquet 1"
_KEY = "bert_tokemb"
"""What the meta data are called, a JSON object as pandas has one of its own."""

# A row group is what is held in memory, here and by whoever reads it: so many bytes, or a
# sentence that is larger alone.
_ROW_GROUP = 32 << 20
# About what a sentence and a word take besides their numbers and characters.
_PER_SENTENCE = _PER_WORD = 16

# What pyarrow was seen to raise for damaged files, or can, besides its own; and what the JSON
# parser does of brackets only.
_DAMAGE = (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)

# How many rows are read at a time: those of others may lie in groups of any size.
_ROWS_READ = 64

_WORDS = "words.list.element"


class ParquetOutput(BeginsAnew):
    """Writes a Parquet file; use it as a context manager.

    Raises:
        OutputError: pyarrow is not installed, or the file cannot be written.
    """

    bytes_per_sentence = 100  # most of it the words

    def __init__(self, name: str) -> None:
        self.name = name
        self._pa, self._pq = _import_pyarrow(OutputError)
        self._writer: Any = None
        self._group = _RowGroup()
        with ExitStack() as closing:
            self._file = SeekableFile(name)
            closing.enter_context(self._file)
            closing.push(self._close)
            self._closing = closing.pop_all()

    def begin(self, content: Content, position: Position | None = None) -> bool:
        """Learn what will come; False where it is to go on, which nobody can."""
        if position:
            return False
        pa = self._pa
        self._row = pa.list_(pa.from_numpy_dtype(content.dtype), content.width)
        meta = content.meta(_FORMAT)
        schema = pa.schema(
            {
                "line": pa.int64(),
                "words": pa.list_(pa.string()),
                "vectors": pa.large_list(self._row),
            },
            metadata={_KEY: json.dumps(meta)},
        )
        # Of vectors that BERT gives, zstd saves 7 %, and no time is lost. With their bytes split
        # (BYTE_STREAM_SPLIT) it would be 15 %, but then pyarrow 16 cannot read blank lines, and
        # DuckDB no float16.
        with self._file.lent():
            self._writer = self._pq.ParquetWriter(
                pa.PythonFile(self._file, mode="w"),
                schema,
                compression="zstd",
                use_dictionary=[_WORDS],
                write_statistics=["line"],
            )
        return True

    def write(self, one: EmbeddedSentence) -> None:
        """Append a row."""
        if not self._group.has_room(one):
            self._write_group()
        self._group.append(one)

    def _finish(self) -> None:
        self._write_group()
        with self._file.lent():
            self._writer.close()

    def _write_group(self) -> None:
        group, self._group = self._group, _RowGroup()
        if group.lines:
            with self._file.lent():
                table = group.table(self._pa, self._row, self._writer.schema)
                del group  # the arrays lie in the table, too
                self._writer.write_table(table, row_group_size=len(table))

    def _close(self, kind: type[BaseException] | None, *rest: Any) -> None:
        if kind is not None:
            self._file.abandon()
        if self._writer:
            with self._file.lent():
                self._writer.close()


class _RowGroup:
    """Sentences that are written together."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self._words: list[Sequence[str]] = []
        self._arrays: list[FloatArray] = []
        self._size = 0

    def has_room(self, one: EmbeddedSentence) -> bool:
        """Tell whether another sentence fits; into an empty group each does."""
        return not self.lines or self._size + _size(one) <= _ROW_GROUP

    def append(self, one: EmbeddedSentence) -> None:
        """Take a sentence."""
        self.lines.append(one.line)
        self._words.append(one.words)
        self._arrays.append(one.array)
        self._size += _size(one)

    def table(self, pa: Any, row: Any, schema: Any) -> Any:
        """Return a ``pyarrow.Table``; ``row`` is the type of a vector."""
        values = pa.array(np.concatenate(self._arrays).reshape(-1))
        offsets = np.cumsum([0, *map(len, self._arrays)], dtype=np.int64)
        vectors = pa.LargeListArray.from_arrays(
            pa.array(offsets), pa.FixedSizeListArray.from_arrays(values, type=row)
        )
        return pa.table([pa.array(self.lines), pa.array(self._words), vectors], schema=schema)


def _size(one: EmbeddedSentence) -> int:
    words = sum(map(len, one.words)) + _PER_WORD * len(one.words)
    return one.array.nbytes + words + _PER_SENTENCE


class ParquetReader:
    """Reads such a file, one sentence after another; a context manager, and iterable once.

    Attributes:
        about: What the file tells of how it was made.

    Raises:
        InputError: it has no such column ``vectors``, is damaged, or pyarrow is not installed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._pa, self._pq = _import_pyarrow(InputError)
        with self._telling_damage():
            # Opened by bytes: of a name that is no UTF-8 pyarrow takes nothing else.
            self._file = self._pa.OSFile(os.fsencode(path))
            self._parquet = self._pq.ParquetFile(self._file)

    @property
    def about(self) -> Mapping[str, Any]:
        with self._telling_damage():
            told = json.loads((self._parquet.schema_arrow.metadata or {}).get(_KEY.encode(), "{}"))
        ours = isinstance(told, dict) and told.get("format") == _FORMAT
        return dict(told["about"]) if ours and isinstance(told.get("about"), dict) else {}

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        with self._telling_damage():
            width = self._width()
            batches = self._parquet.iter_batches(_ROWS_READ, columns=["vectors"])
        while True:
            with self._telling_damage():
                batch = next(batches, None)
                if batch is None:
                    return
                arrays = [_array(row.values, width) for row in batch.column(0)]
            yield from arrays

    def _width(self) -> int:
        """Return ``c``, if there are vectors of one width."""
        types, found = self._pa.types, self._parquet.schema_arrow
        if "vectors" in found.names:
            rows = found.field("vectors").type
            if types.is_list(rows) or types.is_large_list(rows):
                vector = rows.value_type
                if types.is_fixed_size_list(vector) and types.is_floating(vector.value_type):
                    return int(vector.list_size)
        raise InputError(f"{self.path} has no column `vectors` of lists of vectors")

    def __enter__(self) -> ParquetReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self._parquet.close()
        self._file.close()

    @contextmanager
    def _telling_damage(self) -> Iterator[None]:
        try:
            yield
        except (*_DAMAGE, self._pa.ArrowException) as error:
            raise InputError(f"{self.path} is damaged, or no Parquet file: {error}") from error


def _array(vectors: Any, width: int) -> npt.NDArray[Any]:
    """Return ``(n, c)`` for a ``pyarrow.FixedSizeListArray``."""
    if vectors is None or vectors.null_count or vectors.flatten().null_count:
        raise ValueError("vectors are missing in it")
    values: npt.NDArray[Any] = vectors.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, width)


def _import_pyarrow(missing: type[TokembError]) -> tuple[Any, Any]:
    with importing("a .parquet", "parquet", missing):
        import pyarrow as pa
        import pyarrow.parquet as pq
    return pa, pq
