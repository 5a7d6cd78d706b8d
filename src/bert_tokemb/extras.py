"""Packages that not everybody has installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from .errors import TokembError
from .signals import hold_signals

__all__ = ["EXTRAS", "importing"]

EXTRAS: Mapping[str, Sequence[str]] = {
    "local": (
        "google_crc32c",
        "huggingface_hub",
        "ml_dtypes",
        "onnx",
        "onnxruntime",
        "safetensors",
        "tokenizers",
    ),
    "hdf5": ("h5py",),
    "parquet": ("pyarrow",),
    "zstd": ("backports.zstd",),
}
"""What each extra of ours brings, by the names that are imported."""


@contextmanager
def importing(
    user: str, extra: str, kind: type[TokembError], *, otherwise: str = ""
) -> Iterator[None]:
    """Import within the block what needs packages that may be missing, or broken.

    Args:
        user: Who needs them.
        extra: Which brings them.
        kind: Of the error.
        otherwise: What else can be done, before ``or``.

    Raises:
        TokembError: one of them is missing, or cannot be imported.
    """
    instead = f"{otherwise}; or " if otherwise else ""
    if missing := [name for name in EXTRAS[extra] if not _is_there(name)]:
        names = " ".join(name.replace("_", "-") for name in missing)
        what = "one more package" if len(missing) == 1 else "more packages"
        raise kind(f"{user} needs {what}: {instead}pip install {names} (or the extra {extra})")
    try:
        with hold_signals():
            yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__:  # a bug
            raise
        raise kind(
            f"{user} cannot use a package that is installed: {instead}mend it: "
            f"{' '.join(str(error).split()) or error.name or 'it cannot be imported'}"
        ) from error


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # what it is within is missing
        return False
