"""Word-level BERT embeddings from text.

>>> import bert_tokemb
>>> with bert_tokemb.ServingEncoder(bert_tokemb.Address("localhost")) as encoder:  # doctest: +SKIP
...     for array in bert_tokemb.embed(["Hello World !"], encoder, "avg"):
...         print(array.shape)
(3, 768)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoders.serving import Address, ServingEncoder
    from .errors import TokembError
    from .pipeline import embed
    from .strategies import load_strategy
    from .types import Counts

    __version__: str

__all__ = ["Address", "Counts", "ServingEncoder", "TokembError", "embed", "load_strategy"]

_HOMES = {
    "Address": ".encoders.serving",
    "Counts": ".types",
    "ServingEncoder": ".encoders.serving",
    "TokembError": ".errors",
    "embed": ".pipeline",
    "load_strategy": ".strategies",
}


def __getattr__(name: str) -> Any:
    # Late, so that `bert-tokemb --help` waits for neither numpy nor an engine.
    if name == "__version__":
        from importlib.metadata import version

        return version("bert-tokemb")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
