"""What a server is started with, under the names of bert-as-service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .pooling import Pooling

__all__ = ["Settings"]


_DECIDING = (
    "max_seq_len",
    "show_tokens_to_client",
    "max_batch_size",
    "mask_cls_sep",
    "no_special_token",
    "fixed_embed_length",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What decides the replies; the names are those of the original's flags."""

    pooling_strategy: Pooling
    max_seq_len: int | None
    """The length of every sentence, ``[CLS]`` and ``[SEP]`` included; None for that of the
    longest in a part of a request, up to what the model takes."""
    show_tokens_to_client: bool
    max_batch_size: int = 256
    """Sentences in a part; longer requests are cut into parts, each as long as its longest."""
    mask_cls_sep: bool = False
    no_special_token: bool = False
    fixed_embed_length: bool = False
    echo: Mapping[str, Any] = field(default_factory=dict)
    """All that clients are told of the flags, by name."""

    more: Mapping[str, Any] = field(default_factory=dict)
    """What they are told besides."""

    @classmethod
    def of(cls, flags: Mapping[str, Any], more: Mapping[str, Any]) -> Settings:
        """Take what decides the replies from all flags by name."""
        strategy = Pooling[flags["pooling_strategy"]]
        return cls(
            pooling_strategy=strategy,
            echo={**flags, "pooling_strategy": strategy.value},
            more=more,
            **{name: flags[name] for name in _DECIDING},
        )
