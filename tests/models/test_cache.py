"""Quantized parameters on disk: made once, never wrong, and never in the way."""

from __future__ import annotations

import pwd
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from filecmp import cmp
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from bert_tokemb.model import engine
from bert_tokemb.model.cache import cache_directory, remembered
from bert_tokemb.model.engine import Engine, Precision
from bert_tokemb.model.parameters import Parameter
from bert_tokemb.model.source import load_model

from support.checkpoints import write_google
from support.models import TINY, random_weights, toy_vocabulary, write_hugging_face

Vectors = npt.NDArray[np.float32]

VOCABULARY = toy_vocabulary(cased=False)
# Every piece and every place, so that each weight counts.
IDS = np.resize(np.arange(len(VOCABULARY), dtype=np.int32), (len(VOCABULARY) // 64 + 1, 64))


@pytest.fixture(autouse=True)
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where quantized parameters are kept; not there yet."""
    directory = tmp_path / "some" / "cache"
    monkeypatch.setenv("BERT_TOKEMB_CACHE", str(directory))
    return directory


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Tell how many times parameters were made."""
    calls = []
    make = engine.parameters

    def parameters(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return make(*arguments, **options)

    monkeypatch.setattr(engine, "parameters", parameters)
    return lambda: len(calls)


def vectors_of(
    directory: Path,
    layers: tuple[int, ...] = (-2,),
    precision: Precision = "int8",
    ids: npt.NDArray[np.int32] = IDS,
) -> Vectors:
    started = Engine(load_model(str(directory), cased=False), layers, precision=precision)
    vectors: Vectors = started.run(ids, np.zeros_like(ids), np.ones_like(ids))
    return vectors


def entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.exists() else []


def only_entry(directory: Path) -> Path:
    (entry,) = entries(directory)
    return entry


# Made once.


def test_made_once_and_used_again(tiny: Path, cached: Path, count: Callable[[], int]) -> None:
    first = vectors_of(tiny)
    stat = only_entry(cached).stat()
    for _ in range(2):
        np.testing.assert_array_equal(vectors_of(tiny), first)
    assert count() == 1
    assert only_entry(cached).stat() == stat


def test_what_is_made_does_not_change_what_comes(tiny: Path, tmp_path: Path) -> None:
    """Neither the first run nor the next differs from one without a cache."""
    twice = [vectors_of(tiny), vectors_of(tiny)]
    (tmp_path / "file").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERT_TOKEMB_CACHE", str(tmp_path / "file"))
        without = vectors_of(tiny)
    for vectors in twice:
        np.testing.assert_array_equal(vectors, without)


def test_full_precision_is_not_kept(tiny: Path, cached: Path) -> None:
    vectors_of(tiny, precision="fp32")
    assert entries(cached) == []


def test_layers_of_the_same_depth_share_an_entry(
    tiny: Path, cached: Path, count: Callable[[], int]
) -> None:
    for layers in ((-2,), (1,), (0, -2), (1, 0)):
        vectors_of(tiny, layers)
    assert len(entries(cached)) == count() == 1


def test_another_depth_has_another_entry(
    tiny: Path, cached: Path, count: Callable[[], int]
) -> None:
    for layers in ((0,), (1,), (2,), (2, 0)):
        vectors_of(tiny, layers)
    assert len(entries(cached)) == count() == 3


def test_another_number_of_bits_has_another_entry(
    tiny: Path, cached: Path, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the cache lies in a home that several machines share."""
    made = []
    for bits in (8, 7, 8, 7):
        monkeypatch.setattr(engine, "exact_bits", lambda bits=bits: bits)
        made.append(vectors_of(tiny))
    assert len(entries(cached)) == count() == 2
    np.testing.assert_array_equal(made[0], made[2])
    np.testing.assert_array_equal(made[1], made[3])
    assert np.abs(made[0] - made[1]).max() > 0.001


def test_another_model_has_another_entry(
    tiny: Path, tmp_path: Path, cached: Path, count: Callable[[], int]
) -> None:
    """Also one whose weights are the same: it may be changed any time."""
    other = write_hugging_face(tmp_path / "other", TINY, VOCABULARY)
    np.testing.assert_array_equal(vectors_of(tiny), vectors_of(other))
    assert len(entries(cached)) == count() == 2


def test_a_model_by_another_name_is_the_same(
    tiny: Path, tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    for directory in (tiny, tmp_path / "link", Path("model"), Path("model/../link")):
        vectors_of(directory)
    assert len(entries(cached)) == 1


@pytest.mark.parametrize(
    ("shards", "which"), [(1, "query"), (3, "query"), (3, "key"), (3, "value")]
)
def test_weights_that_were_changed(
    shards: int, which: str, tmp_path: Path, count: Callable[[], int]
) -> None:
    """In one file only, whose size is as it was."""
    directory = write_hugging_face(tmp_path / "model", TINY, VOCABULARY, shards=shards)
    before = vectors_of(directory)
    change(directory, f"encoder.layer.0.attention.self.{which}.weight", shards)
    after = vectors_of(directory)
    assert count() == 2
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_array_equal(vectors_of(directory), after)
    assert count() == 2


def change(directory: Path, name: str, shards: int) -> None:
    weights = random_weights(TINY, len(VOCABULARY))
    weights[name] = weights[name] / 2
    other = write_hugging_face(directory.parent / name, TINY, VOCABULARY, weights, shards=shards)
    changed = [path for path in other.iterdir() if not cmp(path, directory / path.name, False)]
    assert len(changed) == 1
    changed[0].replace(directory / changed[0].name)


def test_a_configuration_that_was_changed(tiny: Path, count: Callable[[], int]) -> None:
    before = vectors_of(tiny)
    write_hugging_face(tiny, {**TINY, "num_attention_heads": 8}, VOCABULARY)
    assert np.abs(vectors_of(tiny) - before).max() > 0.01
    assert count() == 2


@pytest.mark.parametrize("name", ["bert_model.ckpt", "model.ckpt-100", "model[1].ckpt", "a*b"])
def test_a_checkpoint_that_was_changed(name: str, tmp_path: Path, count: Callable[[], int]) -> None:
    directory = tmp_path / "google"
    weights = random_weights(TINY, len(VOCABULARY))
    write_google(directory, TINY, VOCABULARY, weights, name)
    before = vectors_of(directory)
    changed = "encoder.layer.0.attention.self.query.weight"
    weights[changed] = weights[changed] / 2
    write_google(directory, TINY, VOCABULARY, weights, name)
    assert np.abs(vectors_of(directory) - before).max() > 0.01
    assert count() == 2


# Files that were damaged.


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, -4, -1])
def test_an_entry_cut_short_is_made_again(
    size: int, tiny: Path, cached: Path, count: Callable[[], int]
) -> None:
    vectors = vectors_of(tiny)
    content = only_entry(cached).read_bytes()
    only_entry(cached).write_bytes(content[:size])
    np.testing.assert_array_equal(vectors_of(tiny), vectors)
    assert count() == 2
    assert only_entry(cached).read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"?" * 100, bytes(1000), b"\2\0\0\0\0\0\0\0{}", b"\xff" * 8 + b"{}"]
)
def test_an_entry_of_other_content_is_made_again(
    content: bytes, tiny: Path, cached: Path, count: Callable[[], int]
) -> None:
    vectors = vectors_of(tiny)
    only_entry(cached).write_bytes(content)
    np.testing.assert_array_equal(vectors_of(tiny), vectors)
    assert count() == 2


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.999])
def test_an_entry_with_a_byte_wrong_is_made_again(part: float, tiny: Path, cached: Path) -> None:
    vectors = vectors_of(tiny, (-1,))
    entry = only_entry(cached)
    content = bytearray(entry.read_bytes())
    at = int(len(content) * part)
    content[at : at + 8] = (byte ^ 0x40 for byte in content[at : at + 8])
    entry.write_bytes(content)
    np.testing.assert_array_equal(vectors_of(tiny, (-1,)), vectors)


def test_a_directory_in_place_of_an_entry(tiny: Path, cached: Path) -> None:
    vectors = vectors_of(tiny)
    entry = only_entry(cached)
    entry.unlink()
    entry.mkdir()
    np.testing.assert_array_equal(vectors_of(tiny), vectors)
    assert only_entry(cached).is_dir()


# Directories that take nothing.


def no_parent(path: Path) -> Path:
    path.touch()
    return path / "below"


def a_file(path: Path) -> Path:
    path.touch()
    return path


def a_loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(
    "make",
    [no_parent, a_file, a_loop, lambda path: Path("/proc/none"), lambda path: path / ("x" * 300)],
)
def test_a_directory_that_cannot_be_written(
    make: Callable[[Path], Path],
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: Callable[[], int],
) -> None:
    vectors = vectors_of(tiny)
    monkeypatch.setenv("BERT_TOKEMB_CACHE", str(make(tmp_path / "place")))
    for _ in range(2):
        np.testing.assert_array_equal(vectors_of(tiny), vectors)
    assert count() == 3


def test_a_full_disk(tiny: Path, cached: Path) -> None:
    """No file may be larger than half of what is to be kept."""
    vectors = vectors_of(tiny)
    (entry,) = entries(cached)
    most = entry.stat().st_size // 2
    entry.unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        np.testing.assert_array_equal(vectors_of(tiny), vectors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert entries(cached) == []
    np.testing.assert_array_equal(vectors_of(tiny), vectors)
    assert len(entries(cached)) == 1


# Where it is.


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_TOKEMB_CACHE", "/a/b")
    assert cache_directory() == Path("/a/b")
    monkeypatch.setenv("BERT_TOKEMB_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert cache_directory() == Path("/c/bert-tokemb")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory() == Path("/home/somebody/.cache/bert-tokemb")


def test_a_user_without_a_home(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers have them: a number that no file knows."""

    def nobody(uid: int) -> object:
        raise KeyError(uid)

    vectors = vectors_of(tiny)
    for name in ("BERT_TOKEMB_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    np.testing.assert_array_equal(vectors_of(tiny), vectors)


# Several at once.


def made(value: float) -> dict[str, Parameter]:
    return {"a": np.full((200, 300), value, np.float32), "b": np.arange(5, dtype=np.int8)}


def test_two_threads_that_write_the_same(tmp_path: Path, cached: Path) -> None:
    (tmp_path / "weights").touch()
    together = threading.Barrier(2, timeout=30)
    results = []

    def make() -> dict[str, Parameter]:
        together.wait()
        return made(1.5)

    def work() -> None:
        results.append(remembered((tmp_path / "weights",), 1, make))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.append(remembered((tmp_path / "weights",), 1, dict))
    assert len(results) == 3
    for result in results:
        assert result.keys() == {"a", "b"}
        for name, value in made(1.5).items():
            np.testing.assert_array_equal(result[name], value)
            assert result[name].dtype == value.dtype
    only_entry(cached)


START = """
import sys
import numpy as np
from bert_tokemb.model.engine import Engine, Precision
from bert_tokemb.model.source import load_model

model = load_model(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
ids = np.arange(60, dtype=np.int32)[None]
vectors = Engine(model, precision="int8").run(ids, np.zeros_like(ids), np.ones_like(ids))
print(vectors.tobytes().hex())
"""


def test_two_processes_that_start_together(tiny: Path, cached: Path) -> None:
    command = [sys.executable, "-c", START, str(tiny)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = [process.communicate("go\n", timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    vectors = vectors_of(tiny, ids=np.arange(60, dtype=np.int32)[None])
    assert said == [vectors.tobytes().hex() + "\n"] * 2
    only_entry(cached)


# Whatever is made.


def test_what_is_kept_is_what_was_made(tmp_path: Path) -> None:
    (tmp_path / "weights").touch()
    kinds: dict[str, Parameter] = {
        "int8": np.arange(-128, 128, dtype=np.int8).reshape(16, 16),
        "float32": np.array([0.0, -0.0, 1e-45, 3.4e38], np.float32),
        "of one": np.array([7.0], np.float32),
    }
    for _ in range(2):
        kept = remembered((tmp_path / "weights",), 1, lambda: dict(kinds))
        assert kept.keys() == kinds.keys()
        for name, value in kinds.items():
            assert kept[name].dtype == value.dtype
            assert kept[name].tobytes() == value.tobytes()
            assert kept[name].shape == value.shape


def test_a_file_that_is_gone(tmp_path: Path, cached: Path) -> None:
    """Whoever makes parameters finds that out, and says so."""
    kept = remembered((tmp_path / "gone",), 1, lambda: made(2.5))
    np.testing.assert_array_equal(kept["a"], made(2.5)["a"])
    assert entries(cached) == []


def test_an_error_while_making_is_told(tmp_path: Path, cached: Path) -> None:
    (tmp_path / "weights").touch()
    calls = []

    def fail() -> dict[str, Parameter]:
        calls.append(1)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        remembered((tmp_path / "weights",), 1, fail)
    assert len(calls) == 1
    assert entries(cached) == []
