"""What a server returns for a request, and how much memory and time it spends on clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .pooling import Pooling

__all__ = ["DEFAULT_LIMITS", "Limits", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings that determine replies, named as the flags of ``bert-serving-start``."""

    pooling_strategy: Pooling = Pooling.NONE
    max_seq_len: int | None = None
    """The length of every sentence, ``[CLS]`` and ``[SEP]`` included; None for the longest
    sentence of each part of a request, up to what the model accepts."""
    max_batch_size: int = 256
    """Sentences of a part. Longer requests are cut into parts, each padded to its own length."""
    show_tokens_to_client: bool = False
    mask_cls_sep: bool = False
    no_special_token: bool = False
    fixed_embed_length: bool = False
    reported: Mapping[str, Any] = field(default_factory=dict)
    """What ``server_config`` returns about the settings; JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on memory and time, so that no client can exhaust the server or delay its end."""

    request_bytes: int = 64 << 20
    """The largest frame of a request."""
    reply_bytes: int = 2 << 30
    """The largest reply. The replies of several clients are in memory at a time."""
    kept_bytes: int = 256 * 10**6
    """The most bytes of unread replies, and of unanswered requests, of one client."""
    in_progress_bytes: int = 1 << 30
    """The most bytes of large replies that are computed at a time, not counting the largest."""
    small_reply_bytes: int = 4 << 20
    """The size up to which a reply does not count as large."""
    absence: float = 10.0
    """Seconds without a subscription after which a client is gone."""
    quiet: float = 0.3
    """Seconds without a request after which a stopping server assumes that all have arrived."""
    last_requests: float = 3.0
    """The most seconds for which a stopping server accepts requests."""
    unread: float = 10.0
    """Seconds for which a stopping server waits until a client reads, in addition to the time
    that the unread bytes take on a slow line."""


DEFAULT_LIMITS = Limits()
