"""A model from the Hugging Face hub; what its package raises becomes a sentence here."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError

__all__ = ["download"]

_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)

# By the package's version these come from httpx or requests, or are not there.
_OTHERS = ("HTTPError", "XetDownloadError")


def download(name: str) -> Path:
    """Return the directory of a model, which is fetched unless it is in the hub's cache.

    ``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the others mean what they mean to every
    user of the hub.

    Raises:
        ModelError: there is no such model, or the hub cannot be reached.
    """
    # Late: a model in a directory needs no hub.
    from huggingface_hub import errors, snapshot_download

    foreign = (OSError, ValueError, *(getattr(errors, name, OSError) for name in _OTHERS))
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except errors.HFValidationError as error:
        raise ModelError(f"--model {name} is neither a directory nor an id on the hub") from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"the model {name} is gated: ask for access on the hub, and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no directory {name}, and no model of that name on the hub, or it is private "
            "(then log in with `hf auth login`)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"there is no directory {name}, no model of that name is in the hub's cache, and the "
            f"hub cannot be reached ({_in_one_line(error.__cause__ or error)})"
        ) from error
    except foreign as error:
        raise ModelError(f"cannot fetch {name} from the hub: {_in_one_line(error)}") from error


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
