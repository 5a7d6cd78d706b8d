"""Word-level contextual embeddings from text.

>>> import bert_tokemb
>>> with bert_tokemb.open_local("sentence-transformers/all-MiniLM-L6-v2") as encoder:
...     for array in bert_tokemb.embed(["Hello World !"], encoder, "avg"):
...         print(array.shape)
(3, 384)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .encoders.local import LocalEncoder, open_local
    from .encoders.server.address import Address
    from .encoders.server.encoder import ServerEncoder
    from .errors import TokembError
    from .formats.npyd import EmbeddedText
    from .formats.npyd import EmbeddedText as open  # noqa: A004, N813 - to be read as bert_tokemb.open
    from .pipeline import embed
    from .strategies import load_strategy
    from .types import Tally

    __version__: str

__all__ = [
    "Address",
    "EmbeddedText",
    "LocalEncoder",
    "ServerEncoder",
    "Tally",
    "TokembError",
    "embed",
    "load_strategy",
    "open",
    "open_local",
]

_HOMES = {
    "Address": ".encoders.server.address",
    "Tally": ".types",
    "EmbeddedText": ".formats.npyd",
    "LocalEncoder": ".encoders.local",
    "ServerEncoder": ".encoders.server.encoder",
    "TokembError": ".errors",
    "embed": ".pipeline",
    "load_strategy": ".strategies",
    "open": ".formats.npyd:EmbeddedText",
    "open_local": ".encoders.local",
}


def __getattr__(name: str) -> Any:
    # Late, so that `bert-tokemb --help` waits for neither numpy nor an engine.
    if name == "__version__":
        from importlib.metadata import version

        return version("bert-tokemb")
    if name in _HOMES:
        from importlib import import_module

        module, _, other = _HOMES[name].partition(":")
        return getattr(import_module(module, __name__), other or name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
