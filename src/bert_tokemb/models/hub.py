"""Downloads models from the Hugging Face hub."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from ..errors import ModelError, reason

__all__ = ["download"]

_FILES = (
    "config.json",
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    # Not used, but a model that has one of these instead of tokenizer.json is refused by name.
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*.safetensors",
)


def download(name: str, snapshot_download: Callable[..., str] | None = None) -> Path:
    """Return the directory of a model, downloaded unless it is in the hub's cache.

    ``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and the like have their usual meaning.

    Args:
        name: The id of the model.
        snapshot_download: :func:`huggingface_hub.snapshot_download` or a replacement.

    Raises:
        ModelError: if there is no such model, or the hub cannot be reached.
    """
    import huggingface_hub  # here, since it is slow to import and only needed for this
    from huggingface_hub import errors

    fetch = snapshot_download or huggingface_hub.snapshot_download
    try:
        return Path(fetch(name, allow_patterns=list(_FILES)))
    except errors.HFValidationError as error:
        raise ModelError(f"the model {name} is neither a directory nor an id on the hub") from error
    except errors.GatedRepoError as error:
        raise ModelError(
            f"the model {name} is gated: ask for access on the hub, and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"there is no directory {name}, and no model of that name on the hub, unless it is "
            "private (then log in with `hf auth login`)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            f"there is no directory {name}, no model of that name is in the hub's cache, and the "
            f"hub cannot be reached ({reason(error.__cause__ or error)})"
        ) from error
    except _all_exceptions(errors) as error:
        raise ModelError(f"cannot download {name} from the hub: {reason(error)}") from error


def _all_exceptions(errors: ModuleType) -> tuple[type[Exception], ...]:
    """Return what downloading may raise, in any version of the library.

    That is what ``huggingface_hub.errors`` defines or imports, errors of the system, invalid
    replies, and invalid URLs. The HTTP library is requests in old versions, then httpx.
    """
    found = (value for value in vars(errors).values() if isinstance(value, type))
    http = sys.modules[errors.HTTPError.__module__]
    return (
        OSError,
        ValueError,
        http.InvalidURL,
        *(kind for kind in found if issubclass(kind, Exception)),
    )
