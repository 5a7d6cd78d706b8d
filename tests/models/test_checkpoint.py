"""Weights out of TensorFlow's checkpoints: genuine ones, crafted ones, and damaged ones."""

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
from support.genuine import server_python
from support.models import TINY, as_tensorflow, random_weights, toy_vocabulary

Values = dict[str, np.ndarray[Any, Any]]


def read_all(prefix: Path) -> Values:
    checkpoint = Checkpoint(prefix)
    return {name: checkpoint.read(name) for name in checkpoint.shapes}


def copied(prefix: Path, directory: Path) -> Path:
    for path in (index_path(prefix), shard_path(prefix)):
        shutil.copy(path, directory)
    return directory / prefix.name


def same(values: Values, others: Values) -> bool:
    return list(values) == list(others) and all(
        np.array_equal(value, others[name]) for name, value in values.items()
    )


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    shapes = {"a": (3, 4), "a/b": (5,), "c": (2, 2, 2), "d/e": (), "d/f": (7, 1)}
    drawn = {name: rng.normal(size=shape).astype("<f4") for name, shape in shapes.items()}
    variables = {name: (FLOAT, np.asarray(value)) for name, value in drawn.items()}
    return write(tmp_path_factory.mktemp("crafted") / "model.ckpt", variables, in_block=2)


@pytest.fixture(params=["crafted", "genuine"])
def whole(request: pytest.FixtureRequest) -> Path:
    """A checkpoint without a fault, of our writer and of TensorFlow."""
    if request.param == "crafted":
        return Path(request.getfixturevalue("crafted"))
    return Path(request.getfixturevalue("uncased_model")) / "bert_model.ckpt"


# What TensorFlow 1.15 wrote.

WRITE_MANY = """
import sys
import numpy as np
import tensorflow as tf

with tf.device("/cpu:0"):
    tf.get_variable("single", initializer=np.arange(6, dtype=np.float32).reshape(2, 3))
    tf.get_variable("half", initializer=np.array([1.5, -2.0, 65504.0], np.float16))
    tf.get_variable("global_step", initializer=np.int64(7))
    tf.get_variable("text", initializer=tf.constant(["a", "bc"]))
    tf.get_variable("empty", initializer=np.zeros((0, 3), np.float32))
with tf.device("/cpu:1"):
    tf.get_variable("brain", initializer=tf.constant([1.5, -3.0, np.inf], tf.bfloat16))
    tf.get_variable("double", initializer=np.array([0.1, -1e300, np.nan]))
    tf.get_variable("scalar", initializer=np.float32(2.5))
    in_two = tf.fixed_size_partitioner(2)
    tf.get_variable("parts", (4, 2), initializer=tf.ones_initializer(), partitioner=in_two)
with tf.Session(config=tf.ConfigProto(device_count={"CPU": 2})) as session:
    session.run(tf.global_variables_initializer())
    tf.train.Saver(sharded=True).save(session, sys.argv[1], write_meta_graph=False)
"""


@pytest.fixture(scope="module")
def many_types(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in two shards that TensorFlow wrote, with variables of many types."""
    prefix = tmp_path_factory.mktemp("many") / "many.ckpt"
    subprocess.run(
        [server_python(), "-c", WRITE_MANY, prefix],
        check=True,
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    )
    return prefix


def test_a_model_that_tensorflow_wrote(uncased_model: Path) -> None:
    drawn = as_tensorflow(random_weights(TINY, len(toy_vocabulary(cased=False))))
    checkpoint = Checkpoint(uncased_model / "bert_model.ckpt")
    assert checkpoint.shapes == {name: value.shape for name, value in drawn.items()}
    for name, value in drawn.items():
        read = checkpoint.read(name)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, value)


def test_shards_and_types_that_tensorflow_wrote(many_types: Path) -> None:
    expected = {
        "brain": [1.5, -3.0, np.inf],
        "double": [np.float32(0.1), -np.inf, np.nan],
        "half": [1.5, -2.0, 65504.0],
        "scalar": 2.5,
        "single": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
    }
    checkpoint = Checkpoint(many_types)
    assert checkpoint.shapes["parts"] == (4, 2)
    assert len(checkpoint.shapes) == 9  # and none for the parts of "parts"
    for name, value in expected.items():
        read = checkpoint.read(name)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        assert read.shape == checkpoint.shapes[name]
        np.testing.assert_array_equal(read, np.array(value, np.float32))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("global_step", "holds global_step as int64, which is no type of weights"),
        ("text", "holds text as text, which is no type of weights"),
        ("empty", "holds empty without a single value"),
        ("parts", "holds parts in parts; save it again without a partitioner"),
        ("other", "has no variable other"),
        ("", "has no variable "),
    ],
)
def test_what_holds_no_weights(name: str, message: str, many_types: Path) -> None:
    checkpoint = Checkpoint(many_types)
    with pytest.raises(ModelError) as caught:
        checkpoint.read(name)
    assert str(caught.value) == f"{index_path(many_types)} {message}"


# What our own writer wrote.


@pytest.mark.parametrize("in_block", [1, 2, 100])
def test_tables_of_several_blocks(in_block: int, tmp_path: Path) -> None:
    values = {f"v{i}": np.full((2, i + 1), i, "<f4") for i in range(9)}
    variables = {name: (FLOAT, value) for name, value in values.items()}
    prefix = write(tmp_path / "m.ckpt", variables, in_block=in_block)
    assert same(read_all(prefix), values)


@pytest.mark.parametrize("elements", [(1 << 18) - 1, 1 << 18, 700_001])
def test_variables_of_more_than_a_chunk(elements: int, tmp_path: Path) -> None:
    values = {"a": np.arange(3, dtype="<f4"), "b": np.arange(elements, dtype="<f4")}
    variables = {name: (FLOAT, value) for name, value in values.items()}
    assert same(read_all(write(tmp_path / "m.ckpt", variables)), values)


def test_every_half_and_every_bfloat16(tmp_path: Path) -> None:
    bits = np.arange(1 << 16).astype("<u2")
    prefix = write(tmp_path / "m.ckpt", {"brain": (BFLOAT16, bits), "half": (HALF, bits)})
    values = read_all(prefix)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(values["half"], bits.view("<f2").astype(np.float32))
    upper_half = np.stack([np.zeros_like(bits), bits], axis=1).view("<f4")[:, 0]
    np.testing.assert_array_equal(values["brain"], upper_half)


def test_values_have_memory_of_their_own(crafted: Path, tmp_path: Path) -> None:
    prefix = copied(crafted, tmp_path)
    values = read_all(crafted)
    checkpoint = Checkpoint(prefix)
    first, second = checkpoint.read("a"), checkpoint.read("a")
    shard_path(prefix).write_bytes(bytes(shard_path(prefix).stat().st_size))
    np.testing.assert_array_equal(first, values["a"])
    first[:] = 0
    np.testing.assert_array_equal(second, values["a"])


def test_a_data_file_is_opened_late(crafted: Path, tmp_path: Path) -> None:
    prefix = copied(crafted, tmp_path)
    shard = shard_path(prefix)
    shard.rename(tmp_path / "aside")
    checkpoint = Checkpoint(prefix)
    (tmp_path / "aside").rename(shard)
    checkpoint.read("a")
    shard.unlink()
    with pytest.raises(ModelError, match="No such file"):
        checkpoint.read("a")


def test_fields_that_are_not_known_are_passed_over(tmp_path: Path) -> None:
    later = number_field(100, 5) + bytes_field(101, b"?") + varint(102 << 3 | 1) + bytes(8)
    index_path(tmp_path / "m").write_bytes(index_of(header(1, later), (b"a", entry((1,), later))))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    assert read_all(tmp_path / "m") == {"a": [0.0]}


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"\xe4\xff", entry())))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    assert read_all(tmp_path / "m") == {"\\xe4\\xff": [0.0]}


# Lies, each with checksums that are right.

HEADER = pairs_of([header()])
ENDLESS = b"\xff" * 10
NO_INDEX = "is not the index of a TensorFlow checkpoint, or is cut short; download it again"
BEYOND = "is damaged: a length in it points beyond the end; download it again"
NO_END = "is damaged: a number in it has no end; download it again"
NO_HEADER = "is damaged: it has no header; download it again"
NO_NAME = "is damaged: a name in it cannot be; download it again"
NO_ORDER = "is damaged: its names are not in order; download it again"
NO_FILE = "is damaged: a lies in a data file that there is not; download it again"
NO_SHAPE = "is damaged: the shape of a variable cannot be; download it again"
DISAGREE = "is damaged: the shape and the size of a disagree; download it again"
COMPRESSED = "is compressed, which is not supported; save it again without"

LIES_OF_TABLES = {
    "nothing": (b"", NO_INDEX),
    "a web page": (b"<html>" * 20, NO_INDEX),
    "less than an end": (bytes(20) + MAGIC, NO_INDEX),
    "too large": (bytes(1 << 21), "is too large for the index of a TensorFlow checkpoint"),
    "no blocks": (table(), NO_HEADER),
    "no pairs": (table(block(b"")), NO_HEADER),
    "no header": (index_of((b"a", entry())), NO_HEADER),
    "names in no order": (index_of(header(), (b"b", entry()), (b"a", entry())), NO_ORDER),
    "a name twice": (index_of(header(), (b"a", entry()), (b"a", entry())), NO_ORDER),
    "a block twice": (
        table_of_handles(block(HEADER), *[handle(0, len(block(HEADER)) - 5)] * 2),
        NO_ORDER,
    ),
    "more shared than there is": (table(block(HEADER + pair(b"a", entry(), 1))), NO_NAME),
    "a long name": (index_of(header(), (b"a" * 1025, entry())), NO_NAME),
    "a name that grows": (
        table(block(HEADER + pair(b"a" * 1000, entry()) + pair(b"a" * 25, entry(), 1000))),
        NO_NAME,
    ),
    "a name beyond its block": (table(block(HEADER + b"\0\x7f\0abc")), BEYOND),
    "a value beyond its block": (table(block(HEADER + b"\0\1\x7fabc")), BEYOND),
    "an endless length": (table(block(HEADER + b"\0\0" + ENDLESS + b"\1")), NO_END),
    "a length cut short": (table(block(HEADER + b"\0\x80")), NO_END),
    "a block beyond the file": (table_of_handles(b"", handle(0, 5000)), BEYOND),
    "a block far away": (table_of_handles(b"", handle(2**64 - 1, 2**64 - 1)), BEYOND),
    "no handle": (table_of_handles(b"", b""), NO_END),
    "an endless handle": (footer(ENDLESS), NO_END),
    "an index beyond the file": (footer(handle(0, 0) + handle(0, 100)), BEYOND),
    "more restarts than block": (
        table(sealed(HEADER + b"\xff\xff\xff\xff")),
        "is damaged: a block of it is too small; download it again",
    ),
    "a block without an end": (table(sealed(b"\1")), "is damaged: a block of it is too small"),
    "a compressed block": (table(sealed(HEADER, kind=1)), COMPRESSED),
    "a compressed index": (sealed(b"", kind=1) + footer(handle(0, 0) * 2), COMPRESSED),
    "a wrong checksum": (
        table(block(HEADER)[:-1] + b"?"),
        "is damaged: the checksum of a block is wrong; download it again",
    ),
}

LIES_OF_HEADERS = {
    "big-endian": (
        header(1, number_field(2, 1)),
        "was written on a big-endian machine; save it again on another one",
    ),
    "newer": (
        header(1, bytes_field(3, number_field(2, 2))),
        "is of a format newer than this program",
    ),
    "no shards": (header(0), NO_FILE),
    "an endless number": (header(1, b"\x08" + ENDLESS), NO_END),
    "a number of 65 bits": (header(1, b"\x08" + b"\xff" * 9 + b"\2"), NO_END),
    "a number of 11 bytes": (header(1, b"\x08" + b"\x80" * 10 + b"\0"), NO_END),
    "a tag alone": (header(1, b"\x08"), NO_END),
    "a part beyond its end": (header(1, b"\x1a\5a"), BEYOND),
    "a part one byte beyond": (header(1, b"\x1a\1"), BEYOND),
    "a part of a part": (header(1, b"\x1a\2\x1a\5"), "is damaged: "),
    "a group": (
        header(1, b"\x0b\x0c"),
        "is damaged: it holds a field of no known kind; download it again",
    ),
}

LIES_OF_ENTRIES = {
    "another shard": (entry(shard=1), NO_FILE),
    "a negative shard": (entry(shard=-1), NO_FILE),
    "a negative dimension": (entry((-1, -1), size=4), NO_SHAPE),
    "a negative dimension of a text": (entry((-1,), dtype=STRING, size=3), NO_SHAPE),
    "an unknown rank": (entry((), bytes_field(2, number_field(3, 1))), NO_SHAPE),
    "many dimensions": (entry((1,) * 33), NO_SHAPE),
    "a size too small": (entry((2,), size=4), DISAGREE),
    "a size too large": (entry((2,), size=12), DISAGREE),
    "a size of another type": (entry((2,), dtype=HALF, size=8), DISAGREE),
    "a negative size": (entry((1,), size=-4), DISAGREE),
    "a product beyond 64 bits": (entry((2**62, 2**62, 2**62), size=0), DISAGREE),
    "a checksum beyond its end": (b"\x35\0", BEYOND),
}

LIES = {
    **LIES_OF_TABLES,
    **{n: (index_of(lie, (b"a", entry())), said) for n, (lie, said) in LIES_OF_HEADERS.items()},
    **{n: (index_of(header(), (b"a", lie)), said) for n, (lie, said) in LIES_OF_ENTRIES.items()},
}


@pytest.mark.parametrize("name", LIES)
def test_lies_of_an_index(name: str, tmp_path: Path) -> None:
    lie, said = LIES[name]
    index_path(tmp_path / "m").write_bytes(lie)
    with pytest.raises(ModelError) as caught:
        Checkpoint(tmp_path / "m")
    assert str(caught.value).startswith(f"{tmp_path / 'm'}.index {said}")


CUT_SHORT = "is cut short: it ends before the values of a; download it again"
LIES_OF_PLACES = {
    "beyond the end": (entry(offset=1), CUT_SHORT),
    "far away": (entry(offset=2**40), CUT_SHORT),
    "negative": (entry(offset=-4), CUT_SHORT),
    "more than fits into any memory": (entry((2**50,)), CUT_SHORT),
    "of 64 bits": (entry((2**60 - 1, 4)), CUT_SHORT),
    "of another checksum": (
        entry(crc=bytes(4)),
        "is damaged: the checksum of a is wrong; download it again",
    ),
}


@pytest.mark.parametrize("name", LIES_OF_PLACES)
def test_lies_of_a_place(name: str, tmp_path: Path) -> None:
    lie, said = LIES_OF_PLACES[name]
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"a", lie)))
    shard_path(tmp_path / "m").write_bytes(bytes(4))
    checkpoint = Checkpoint(tmp_path / "m")
    with pytest.raises(ModelError) as caught:
        checkpoint.read("a")
    assert str(caught.value) == f"{shard_path(tmp_path / 'm')} {said}"


@pytest.mark.parametrize(
    ("dtype", "kind"), [(0, "TensorFlow's type 0"), (INT32, "int32"), (77, "TensorFlow's type 77")]
)
def test_types_that_are_no_weights(dtype: int, kind: str, tmp_path: Path) -> None:
    index_path(tmp_path / "m").write_bytes(index_of(header(), (b"a", entry(dtype=dtype))))
    said = f"holds a as {kind}, which is no type of weights"
    checkpoint = Checkpoint(tmp_path / "m")
    with pytest.raises(ModelError, match=said):
        checkpoint.read("a")


# Files that cannot be read.


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
def test_an_index_that_cannot_be_read(
    spoil: Callable[[Path], None], reason: str, crafted: Path, tmp_path: Path
) -> None:
    prefix = copied(crafted, tmp_path)
    spoil(index_path(prefix))
    with pytest.raises(ModelError) as caught:
        Checkpoint(prefix)
    assert str(caught.value) == f"cannot read {index_path(prefix)}: {reason}"


@pytest.mark.parametrize(("spoil", "reason"), UNREADABLE)
def test_a_data_file_that_cannot_be_read(
    spoil: Callable[[Path], None], reason: str, crafted: Path, tmp_path: Path
) -> None:
    prefix = copied(crafted, tmp_path)
    spoil(shard_path(prefix))
    checkpoint = Checkpoint(prefix)
    with pytest.raises(ModelError) as caught:
        checkpoint.read("a")
    assert str(caught.value) == f"cannot read {shard_path(prefix)}: {reason}"


def test_one_data_file_of_two_is_missing(many_types: Path, tmp_path: Path) -> None:
    shutil.copytree(many_types.parent, tmp_path, dirs_exist_ok=True)
    prefix = tmp_path / many_types.name
    shard_path(prefix, 1, 2).unlink()
    checkpoint = Checkpoint(prefix)
    assert checkpoint.read("single").shape == (2, 3)
    with pytest.raises(ModelError, match=r"data-00001-of-00002: No such file"):
        checkpoint.read("scalar")


# Files that were damaged on their way.


def test_an_index_cut_anywhere(whole: Path, tmp_path: Path) -> None:
    prefix = copied(whole, tmp_path)
    content = index_path(whole).read_bytes()
    for size in range(len(content)):
        index_path(prefix).write_bytes(content[:size])
        with pytest.raises(ModelError, match=NO_INDEX):
            Checkpoint(prefix)


@pytest.mark.parametrize("flip", [0xFF, 0x80, 0x01])
def test_an_index_with_any_byte_wrong(flip: int, whole: Path, tmp_path: Path) -> None:
    prefix = copied(whole, tmp_path)
    values = read_all(whole)
    content = bytearray(index_path(whole).read_bytes())
    unread = 0
    for i in range(len(content)):
        content[i] ^= flip
        index_path(prefix).write_bytes(content)
        content[i] ^= flip
        try:
            assert same(read_all(prefix), values)
            unread += 1
        except ModelError:
            pass
    # The empty block of filters, its handle, and what fills the footer up: no one reads them.
    assert unread <= 13 + 40


def test_a_data_file_cut_short(whole: Path, tmp_path: Path) -> None:
    prefix = copied(whole, tmp_path)
    values = read_all(whole)
    size = shard_path(whole).stat().st_size
    cuts = {0, 1, size // 3, size // 2, size - 1}
    for cut in sorted(cuts, reverse=True):
        os.truncate(shard_path(prefix), cut)
        lost, kept = lost_and_kept(prefix, values, "is cut short: it ends before the values of ")
        assert kept <= cut
        assert lost >= size - cut


@pytest.mark.parametrize("seed", range(20))
def test_a_data_file_with_a_byte_wrong(seed: int, whole: Path, tmp_path: Path) -> None:
    prefix = copied(whole, tmp_path)
    values = read_all(whole)
    content = bytearray(shard_path(whole).read_bytes())
    content[random.Random(seed).randrange(len(content))] ^= 1 << seed % 8
    shard_path(prefix).write_bytes(content)
    lost, kept = lost_and_kept(prefix, values, "is damaged: the checksum of ")
    assert lost > 0
    assert lost + kept == len(content)
    assert lost in {value.nbytes for value in values.values()}  # one variable, not more


def lost_and_kept(prefix: Path, values: Values, said: str) -> tuple[int, int]:
    """Return how many bytes of values are refused, and how many are as they were."""
    lost = kept = 0
    checkpoint = Checkpoint(prefix)
    for name, value in values.items():
        try:
            np.testing.assert_array_equal(checkpoint.read(name), value)
            kept += value.nbytes
        except ModelError as error:
            assert str(error).startswith(f"{shard_path(prefix)} {said}{name}")  # noqa: PT017
            lost += value.nbytes
    return lost, kept


# Whatever else: nothing but a ModelError comes out.


@pytest.fixture(scope="module")
def any_prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def test_random_bytes(any_prefix: Path, content: bytes) -> None:
    assert readable(any_prefix, content) == 0


@given(st.binary(max_size=40))
def test_random_footers(any_prefix: Path, handles: bytes) -> None:
    assert readable(any_prefix, block(HEADER) + footer(handles)) == 0


@given(st.lists(st.binary(max_size=40).map(sealed), max_size=3))
def test_random_blocks(any_prefix: Path, blocks: list[bytes]) -> None:
    readable(any_prefix, table(*blocks))


@given(st.binary(max_size=40))
def test_random_pairs(any_prefix: Path, pairs: bytes) -> None:
    readable(any_prefix, table(block(HEADER + pairs)))


@given(MESSAGES, st.lists(MESSAGES, max_size=4))
def test_random_messages(any_prefix: Path, head: bytes, messages: list[bytes]) -> None:
    pairs = ((b"%d" % i, message) for i, message in enumerate(messages))
    readable(any_prefix, index_of((b"", head), *pairs))


@given(
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from([FLOAT, DOUBLE, INT64, BFLOAT16, HALF]),
    st.integers(0, 80),
)
def test_random_entries(any_prefix: Path, shape: list[int], dtype: int, offset: int) -> None:
    """What lies within the 64 bytes of data and has their checksum is read, and nothing else."""
    itemsize = {FLOAT: 4, DOUBLE: 8, BFLOAT16: 2, HALF: 2, INT64: 8}[dtype]
    size = math.prod(shape) * itemsize
    crc = masked(google_crc32c.value(bytes(size)))
    message = entry(shape, dtype=dtype, offset=offset, size=size, crc=crc)
    within = dtype != INT64 and 0 < size <= 64 - offset
    assert readable(any_prefix, index_of(header(), (b"a", message))) == within
