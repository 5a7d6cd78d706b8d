"""TensorFlow checkpoints: genuine, made by our own writer, and damaged."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bert_tokemb.errors import ModelError
from bert_tokemb.models.checkpoint import Checkpoint
from support.checkpoints import (
    BFLOAT16,
    DOUBLE,
    FLOAT,
    HALF,
    INT32,
    INT64,
    MAGIC,
    STRING,
    block,
    bytes_field,
    entry,
    footer,
    handle,
    header,
    index_of,
    index_path,
    masked,
    number_field,
    pair,
    pairs_of,
    sealed,
    shape_field,
    shard_path,
    table,
    table_of_handles,
    varint,
    write,
)
from support.genuine import SCRIPTS, server_python
from support.models import TINY, as_tensorflow, random_weights, toy_vocabulary

Array = np.ndarray[Any, Any]
Values = dict[str, Array]

TYPED = Path(__file__).parents[1] / "data" / "checkpoint" / "typed.ckpt"
"""Two shards with variables of many data types, by ``tests/genuine/make_typed_checkpoint.py``."""


def read_all(prefix: Path) -> Values:
    """Return all variables of a checkpoint, except those of :data:`TYPED` that are not weights."""
    checkpoint = Checkpoint(prefix)
    skipped = {"global_step", "text", "empty", "parts"}
    return {name: checkpoint.read(name) for name in checkpoint.shapes if name not in skipped}


def copied(prefix: Path, directory: Path) -> Path:
    """Copy a checkpoint, and return the prefix of the copy."""
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        shutil.copy(path, directory)
    return directory / prefix.name


def equal(values: Values, others: Values) -> bool:
    return list(values) == list(others) and all(
        np.array_equal(value, others[name], equal_nan=True) for name, value in values.items()
    )


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of our own writer with several blocks."""
    rng = np.random.default_rng(1)
    shapes = {"a": (3, 4), "a/b": (5,), "c": (2, 2, 2), "d/e": (), "d/f": (7, 1)}
    drawn = {name: rng.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    variables = {name: (FLOAT, np.asarray(value)) for name, value in drawn.items()}
    return write(tmp_path_factory.mktemp("crafted") / "model.ckpt", variables, in_block=2)


@pytest.fixture(params=["crafted", "typed", pytest.param("genuine", marks=pytest.mark.slow)])
def intact(request: pytest.FixtureRequest) -> Path:
    """A checkpoint of our own writer or of TensorFlow."""
    if request.param == "typed":
        return TYPED
    if request.param == "crafted":
        return Path(request.getfixturevalue("crafted"))
    return Path(request.getfixturevalue("uncased_model")) / "bert_model.ckpt"


# --- Written by TensorFlow 1.15 ---------------------------------------------------------------


def test_all_data_types_and_shards_are_read() -> None:
    expected = {
        "brain": [1.5, -3.0, np.inf],
        "double": [np.float32(0.1), -np.inf, np.nan],
        "half": [1.5, -2.0, 65504.0],
        "scalar": 2.5,
        "single": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    }
    checkpoint = Checkpoint(TYPED)
    assert checkpoint.shapes["parts"] == (4, 2)
    assert len(checkpoint.shapes) == 9  # the parts of "parts" are not listed
    for name, value in expected.items():
        read = checkpoint.read(name)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        assert read.shape == checkpoint.shapes[name]
        np.testing.assert_array_equal(read, np.array(value, np.float32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("global_step", "its variable global_step has type int64, which is not supported"),
        ("text", "its variable text has type string, which is not supported"),
        ("empty", "its variable empty is empty"),
        ("parts", "it stores parts in parts; save it without a partitioner"),
        ("other", "it has no variable other"),
    ],
)
def test_variables_that_are_not_weights_are_refused(name: str, message: str) -> None:
    checkpoint = Checkpoint(TYPED)
    with pytest.raises(ModelError) as caught:
        checkpoint.read(name)
    assert str(caught.value) == f"cannot read {index_path(TYPED)}: {message}"


@pytest.mark.slow
def test_committed_checkpoint_is_what_tensorflow_writes(tmp_path: Path) -> None:
    subprocess.run(
        [server_python(), SCRIPTS / "make_typed_checkpoint.py", tmp_path / TYPED.name],
        check=True,
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    committed = sorted(TYPED.parent.glob(f"{TYPED.name}.*"))
    assert len(committed) == 3
    for path in committed:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_model_written_by_tensorflow_is_read(uncased_model: Path) -> None:
    vocabulary = toy_vocabulary(cased=False)
    expected = as_tensorflow(random_weights(TINY, len(vocabulary)))
    checkpoint = Checkpoint(uncased_model / "bert_model.ckpt")
    assert checkpoint.shapes == {name: value.shape for name, value in expected.items()}
    for name, value in expected.items():
        read = checkpoint.read(name)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, value)


# --- Written by our own writer ----------------------------------------------------------------


@pytest.mark.parametrize("in_block", [1, 2, 100])
def test_tables_of_several_blocks_are_read(in_block: int, tmp_path: Path) -> None:
    values = {f"v{i}": np.full((2, i + 1), i, "<f4") for i in range(9)}
    variables = {name: (FLOAT, value) for name, value in values.items()}
    prefix = write(tmp_path / "m.ckpt", variables, in_block=in_block)
    assert equal(read_all(prefix), values)


@pytest.mark.parametrize("elements", [(1 << 18) - 1, 1 << 18, 700_001])
def test_variables_larger_than_a_block_are_read(elements: int, tmp_path: Path) -> None:
    values = {"a": np.arange(3, dtype="<f4"), "b": np.arange(elements, dtype="<f4")}
    variables = {name: (FLOAT, value) for name, value in values.items()}
    assert equal(read_all(write(tmp_path / "m.ckpt", variables)), values)


def test_every_half_and_every_bfloat16_is_converted_exactly(tmp_path: Path) -> None:
    bits = np.arange(1 << 16).astype("<u2")
    prefix = write(tmp_path / "m.ckpt", {"brain": (BFLOAT16, bits), "half": (HALF, bits)})
    values = read_all(prefix)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(values["half"], bits.view("<f2").astype(np.float32))
    upper_half = np.stack([np.zeros_like(bits), bits], axis=1).view("<f4")[:, 0]
    np.testing.assert_array_equal(values["brain"], upper_half)


def test_each_read_returns_a_new_array(crafted: Path, tmp_path: Path) -> None:
    prefix = copied(crafted, tmp_path)
    values = read_all(crafted)
    checkpoint = Checkpoint(prefix)
    first, second = checkpoint.read("a"), checkpoint.read("a")
    shard_path(prefix).write_bytes(bytes(shard_path(prefix).stat().st_size))
    np.testing.assert_array_equal(first, values["a"])
    first[:] = 0
    np.testing.assert_array_equal(second, values["a"])


def test_data_file_is_opened_when_a_variable_is_read(crafted: Path, tmp_path: Path) -> None:
    prefix = copied(crafted, tmp_path)
    shard = shard_path(prefix)
    shard.rename(tmp_path / "aside")
    checkpoint = Checkpoint(prefix)
    (tmp_path / "aside").rename(shard)
    checkpoint.read("a")
    shard.unlink()
    with pytest.raises(ModelError, match="No such file"):
        checkpoint.read("a")


def test_unknown_fields_are_ignored(tmp_path: Path) -> None:
    later = number_field(100, 5) + bytes_field(101, b"?") + varint(102 << 3 | 1) + bytes(8)
    index_path(tmp_path / "m").write_bytes(index_of(header(1, later), (b"a", entry((1,), later))))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    assert read_all(tmp_path / "m") == {"a": [0.0]}


def test_name_that_is_not_utf8_is_escaped(tmp_path: Path) -> None:
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"\xe4\xff", entry())))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    assert read_all(tmp_path / "m") == {"\\xe4\\xff": [0.0]}


# --- Invalid content with correct checksums ---------------------------------------------------

HEADER = pairs_of([header()])
ENDLESS = b"\xff" * 10
DAMAGED = "it is damaged ({}); download it again"
NO_INDEX = "it is not the index of a TensorFlow checkpoint, or it is cut short; download it again"
BEYOND = DAMAGED.format("a length points beyond the end")
NO_END = DAMAGED.format("a number has no end")
NO_HEADER = DAMAGED.format("it has no header")
NAME_TOO_LONG = DAMAGED.format("a name is too long")
NO_ORDER = DAMAGED.format("its names are not in ascending order")
BLOCK_TOO_SMALL = DAMAGED.format("a block is too small")
NO_FILE = DAMAGED.format("a is stored in a data file that does not exist")
INVALID_SHAPE = DAMAGED.format("a variable has an invalid shape")
DISAGREE = DAMAGED.format("the shape and the size of a disagree")
COMPRESSED = "it is compressed, which is not supported; save it without compression"

INVALID_TABLES = {
    "empty": (b"", NO_INDEX),
    "web page": (b"<html>" * 20, NO_INDEX),
    "shorter than a footer": (bytes(20) + MAGIC, NO_INDEX),
    "too large": (bytes(1 << 21), "it is too large for the index of a TensorFlow checkpoint"),
    "no blocks": (table(), NO_HEADER),
    "empty block": (table(block(b"")), NO_HEADER),
    "no header": (index_of((b"a", entry())), NO_HEADER),
    "descending names": (index_of(header(), (b"b", entry()), (b"a", entry())), NO_ORDER),
    "equal names": (index_of(header(), (b"a", entry()), (b"a", entry())), NO_ORDER),
    "repeated block": (
        table_of_handles(block(HEADER), *[handle(0, len(block(HEADER)) - 5)] * 2),
        NO_ORDER,
    ),
    "shared prefix too long": (table(block(HEADER + pair(b"a", entry(), 1))), NAME_TOO_LONG),
    "long name": (index_of(header(), (b"a" * 1025, entry())), NAME_TOO_LONG),
    "growing names": (
        table(block(HEADER + pair(b"a" * 1000, entry()) + pair(b"a" * 25, entry(), 1000))),
        NAME_TOO_LONG,
    ),
    "name beyond its block": (table(block(HEADER + b"\0\x7f\0abc")), BEYOND),
    "value beyond its block": (table(block(HEADER + b"\0\1\x7fabc")), BEYOND),
    "endless length": (table(block(HEADER + b"\0\0" + ENDLESS + b"\1")), NO_END),
    "length cut short": (table(block(HEADER + b"\0\x80")), NO_END),
    "block beyond the file": (table_of_handles(b"", handle(0, 5000)), BEYOND),
    "block far away": (table_of_handles(b"", handle(2**64 - 1, 2**64 - 1)), BEYOND),
    "empty handle": (table_of_handles(b"", b""), NO_END),
    "endless handle": (footer(ENDLESS), NO_END),
    "index beyond the file": (footer(handle(0, 0) + handle(0, 100)), BEYOND),
    "more restarts than content": (table(sealed(HEADER + b"\xff\xff\xff\xff")), BLOCK_TOO_SMALL),
    "block without restarts": (table(sealed(b"\1")), BLOCK_TOO_SMALL),
    "compressed block": (table(sealed(HEADER, kind=1)), COMPRESSED),
    "compressed index": (sealed(b"", kind=1) + footer(handle(0, 0) * 2), COMPRESSED),
    "wrong checksum": (
        table(block(HEADER)[:-1] + b"?"),
        DAMAGED.format("a block has a wrong checksum"),
    ),
}

INVALID_HEADERS = {
    "big-endian": (
        header(1, number_field(2, 1)),
        "it was written on a big-endian machine; save it on a little-endian one",
    ),
    "newer format": (
        header(1, bytes_field(3, number_field(2, 2))),
        "it has a newer format than this program supports",
    ),
    "no shards": (header(0), NO_FILE),
    "endless number": (header(1, b"\x08" + ENDLESS), NO_END),
    "number of 65 bits": (header(1, b"\x08" + b"\xff" * 9 + b"\2"), NO_END),
    "number of 11 bytes": (header(1, b"\x08" + b"\x80" * 10 + b"\0"), NO_END),
    "tag without a value": (header(1, b"\x08"), NO_END),
    "submessage beyond its end": (header(1, b"\x1a\5a"), BEYOND),
    "submessage one byte beyond": (header(1, b"\x1a\1"), BEYOND),
    "invalid submessage": (header(1, b"\x1a\2\x1a\5"), BEYOND),
    "group": (header(1, b"\x0b\x0c"), DAMAGED.format("a field has an unknown encoding")),
}

INVALID_ENTRIES = {
    "missing shard": (entry(shard=1), NO_FILE),
    "negative shard": (entry(shard=-1), NO_FILE),
    "negative dimension": (entry((-1, -1), size=4), INVALID_SHAPE),
    "negative dimension of a string": (entry((-1,), dtype=STRING, size=3), INVALID_SHAPE),
    "unknown rank": (entry((), bytes_field(2, number_field(3, 1))), INVALID_SHAPE),
    "too many dimensions": (entry((1,) * 33), INVALID_SHAPE),
    "size too small": (entry((2,), size=4), DISAGREE),
    "size too large": (entry((2,), size=12), DISAGREE),
    "size of another data type": (entry((2,), dtype=HALF, size=8), DISAGREE),
    "negative size": (entry((1,), size=-4), DISAGREE),
    "product of more than 64 bits": (entry((2**62, 2**62, 2**62), size=0), DISAGREE),
    "checksum beyond its end": (b"\x35\0", BEYOND),
}

INVALID_INDICES = {
    **INVALID_TABLES,
    **{n: (index_of(head, (b"a", entry())), said) for n, (head, said) in INVALID_HEADERS.items()},
    **{n: (index_of(header(), (b"a", one)), said) for n, (one, said) in INVALID_ENTRIES.items()},
}


@pytest.mark.parametrize("name", INVALID_INDICES)
def test_invalid_index_is_refused(name: str, tmp_path: Path) -> None:
    content, message = INVALID_INDICES[name]
    index_path(tmp_path / "m").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        Checkpoint(tmp_path / "m")
    assert str(caught.value) == f"cannot read {index_path(tmp_path / 'm')}: {message}"


CUT_SHORT = "it is cut short before the values of a; download it again"
INVALID_OFFSETS = {
    "after the end": (entry(offset=1), CUT_SHORT),
    "far away": (entry(offset=2**40), CUT_SHORT),
    "negative": (entry(offset=-4), CUT_SHORT),
    "more than fits into memory": (entry((2**50,)), CUT_SHORT),
    "64 bits": (entry((2**60 - 1, 4)), CUT_SHORT),
    "wrong checksum": (entry(crc=bytes(4)), DAMAGED.format("a has a wrong checksum")),
}


@pytest.mark.parametrize("name", INVALID_OFFSETS)
def test_values_must_match_the_data_file(name: str, tmp_path: Path) -> None:
    message_of_entry, message = INVALID_OFFSETS[name]
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"a", message_of_entry)))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    checkpoint = Checkpoint(tmp_path / "m")
    with pytest.raises(ModelError) as caught:
        checkpoint.read("a")
    assert str(caught.value) == f"cannot read {shard_path(tmp_path / 'm')}: {message}"


@pytest.mark.parametrize(
    ("dtype", "kind"), [(0, "TensorFlow's type 0"), (INT32, "int32"), (77, "TensorFlow's type 77")]
)
def test_other_data_types_are_refused(dtype: int, kind: str, tmp_path: Path) -> None:
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"a", entry(dtype=dtype))))
    checkpoint = Checkpoint(tmp_path / "m")
    with pytest.raises(ModelError, match=f"its variable a has type {kind}, which is not supported"):
        checkpoint.read("a")


# --- Unreadable files -------------------------------------------------------------------------


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


UNREADABLE = [
    (Path.unlink, "No such file or directory"),
    (make_directory, "Is a directory"),
    (make_loop, "Too many levels of symbolic links"),
    pytest.param(
        lambda path: path.chmod(0),
        "Permission denied",
        marks=pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything"),
    ),
]


@pytest.mark.parametrize(("spoil", "reason"), UNREADABLE)
def test_unreadable_index_is_reported(
    spoil: Callable[[Path], None], reason: str, crafted: Path, tmp_path: Path
) -> None:
    prefix = copied(crafted, tmp_path)
    spoil(index_path(prefix))
    with pytest.raises(ModelError) as caught:
        Checkpoint(prefix)
    assert str(caught.value) == f"cannot read {index_path(prefix)}: {reason}"


@pytest.mark.parametrize(("spoil", "reason"), UNREADABLE)
def test_unreadable_data_file_is_reported(
    spoil: Callable[[Path], None], reason: str, crafted: Path, tmp_path: Path
) -> None:
    prefix = copied(crafted, tmp_path)
    spoil(shard_path(prefix))
    checkpoint = Checkpoint(prefix)
    with pytest.raises(ModelError) as caught:
        checkpoint.read("a")
    assert str(caught.value) == f"cannot read {shard_path(prefix)}: {reason}"


def test_missing_shard_affects_its_variables_only(tmp_path: Path) -> None:
    prefix = copied(TYPED, tmp_path)
    shard_path(prefix, 1, 2).unlink()
    checkpoint = Checkpoint(prefix)
    assert checkpoint.read("single").shape == (2, 3)
    with pytest.raises(ModelError, match=r"data-00001-of-00002: No such file"):
        checkpoint.read("scalar")


# --- Damaged files ----------------------------------------------------------------------------


def test_index_cut_short_anywhere_is_refused(intact: Path, tmp_path: Path) -> None:
    prefix = copied(intact, tmp_path)
    content = index_path(intact).read_bytes()
    for size in range(len(content)):
        index_path(prefix).write_bytes(content[:size])
        with pytest.raises(ModelError, match=NO_INDEX):
            Checkpoint(prefix)


@pytest.mark.parametrize("flip", [0xFF, 0x80, 0x01])
def test_index_with_any_byte_changed_is_refused(flip: int, intact: Path, tmp_path: Path) -> None:
    prefix = copied(intact, tmp_path)
    values = read_all(intact)
    content = bytearray(index_path(intact).read_bytes())
    unread = 0
    for i in range(len(content)):
        content[i] ^= flip
        index_path(prefix).write_bytes(content)
        content[i] ^= flip
        try:
            assert equal(read_all(prefix), values)
            unread += 1
        except ModelError:
            pass
    # Not read: the empty block of filters, its handle, and the padding of the footer.
    assert unread <= 13 + 40


ONE_SHARD = pytest.mark.parametrize(
    "intact", ["crafted", pytest.param("genuine", marks=pytest.mark.slow)], indirect=True
)


@ONE_SHARD
def test_data_file_cut_short_is_refused(intact: Path, tmp_path: Path) -> None:
    prefix = copied(intact, tmp_path)
    values = read_all(intact)
    size = shard_path(intact).stat().st_size
    cuts = {0, 1, size // 3, size // 2, size - 1}
    for cut in sorted(cuts, reverse=True):
        os.truncate(shard_path(prefix), cut)
        refused, read = refused_and_read(prefix, values, "it is cut short before the values of {};")
        assert read <= cut
        assert refused >= size - cut


@ONE_SHARD
@pytest.mark.parametrize("seed", range(20))
def test_data_file_with_a_bit_changed_is_refused(seed: int, intact: Path, tmp_path: Path) -> None:
    prefix = copied(intact, tmp_path)
    values = read_all(intact)
    content = bytearray(shard_path(intact).read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 1 << seed % 8
    shard_path(prefix).write_bytes(content)
    refused, read = refused_and_read(prefix, values, "it is damaged ({} has a wrong checksum);")
    assert refused > 0
    assert refused + read == len(content)
    assert refused in {value.nbytes for value in values.values()}  # a single variable


def refused_and_read(prefix: Path, values: Values, message: str) -> tuple[int, int]:
    """Return how many bytes of values are refused, and how many are read correctly."""
    refused = read = 0
    checkpoint = Checkpoint(prefix)
    for name, value in values.items():
        try:
            np.testing.assert_array_equal(checkpoint.read(name), value)
            read += value.nbytes
        except ModelError as error:
            expected = f"cannot read {shard_path(prefix)}: {message.format(name)}"
            assert str(error).startswith(expected)  # noqa: PT017
            refused += value.nbytes
    return refused, read


# --- Random content: nothing but a ModelError is raised ---------------------------------------


@pytest.fixture(scope="module")
def any_prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prefix of a checkpoint that has 64 zero bytes of data, and no index yet."""
    prefix = tmp_path_factory.mktemp("any") / "m"
    shard_path(prefix).write_bytes(bytes(64))
    return prefix


def readable(prefix: Path, index: bytes) -> int:
    """Return how many variables of an index can be read."""
    index_path(prefix).write_bytes(index)
    count = 0
    try:
        checkpoint = Checkpoint(prefix)
    except ModelError:
        return 0
    for name, shape in checkpoint.shapes.items():
        try:
            assert checkpoint.read(name).shape == shape
            count += 1
        except ModelError:
            pass
    return count


NUMBERS = st.one_of(st.integers(0, 20), st.sampled_from([2**31, 2**32 - 1, 2**63, 2**64 - 1]))
FIELDS = st.one_of(
    st.builds(number_field, st.integers(0, 8), NUMBERS),
    st.builds(bytes_field, st.integers(0, 8), st.binary(max_size=8)),
    st.builds(lambda sizes: shape_field(*sizes), st.lists(NUMBERS, max_size=4)),
    st.binary(max_size=4),
)
MESSAGES = st.lists(FIELDS, max_size=6).map(b"".join)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_as_an_index(any_prefix: Path, content: bytes) -> None:
    assert readable(any_prefix, content) == 0


@given(st.binary(max_size=40))
def test_random_footers_are_refused(any_prefix: Path, handles: bytes) -> None:
    assert readable(any_prefix, block(HEADER) + footer(handles)) == 0


@given(st.lists(st.binary(max_size=40).map(sealed), max_size=3))
def test_random_blocks_are_read_or_refused(any_prefix: Path, blocks: list[bytes]) -> None:
    readable(any_prefix, table(*blocks))


@given(st.binary(max_size=40))
def test_random_pairs_are_read_or_refused(any_prefix: Path, pairs: bytes) -> None:
    readable(any_prefix, table(block(HEADER + pairs)))


@given(MESSAGES, st.lists(MESSAGES, max_size=4))
def test_random_messages_are_read_or_refused(
    any_prefix: Path, head: bytes, messages: list[bytes]
) -> None:
    pairs = ((b"%d" % i, message) for i, message in enumerate(messages))
    readable(any_prefix, index_of((b"", head), *pairs))


@given(
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([FLOAT, DOUBLE, INT64, BFLOAT16, HALF]),
    st.integers(0, 80),
)
def test_random_entries_are_read_only_if_valid(
    any_prefix: Path, shape: list[int], dtype: int, offset: int
) -> None:
    """A variable is read exactly if it lies within the data and has its checksum."""
    itemsize = {FLOAT: 4, DOUBLE: 8, BFLOAT16: 2, HALF: 2, INT64: 8}[dtype]
    size = math.prod(shape) * itemsize
    crc = masked(google_crc32c.value(bytes(size)))
    message = entry(shape, dtype=dtype, offset=offset, size=size, crc=crc)
    is_readable = dtype != INT64 and 0 < size <= 64 - offset
    assert readable(any_prefix, index_of(header(), (b"a", message))) == is_readable
