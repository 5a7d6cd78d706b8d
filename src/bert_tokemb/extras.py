"""The optional packages, by the extra that installs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from .errors import BrokenPackageError, MissingPackageError, reason
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
"""The modules that each extra installs."""


@contextmanager
def importing(feature: str, extra: str, modules: Sequence[str] | None = None) -> Iterator[None]:
    """Import optional packages within the block.

    Args:
        feature: What needs them, such as ``reading .zst files``.
        extra: The extra that installs them.
        modules: The modules that the block needs, by default all of the extra.

    Raises:
        MissingPackageError: if some of them are not installed; the block is not run.
        BrokenPackageError: if one of them is installed, but cannot be imported.
    """
    needed = EXTRAS[extra] if modules is None else modules
    if missing := [module.replace("_", "-") for module in needed if not _is_installed(module)]:
        raise MissingPackageError(feature, extra, missing)
    try:
        with hold_signals():
            yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == __package__:  # a bug
            raise
        raise BrokenPackageError(feature, extra, reason(error) or type(error).__name__) from error


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
