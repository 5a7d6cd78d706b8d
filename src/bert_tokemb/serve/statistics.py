"""The statistics of ``server_status``.

Names and meaning are those of ``ServerStatistic`` in ``bert_serving/server/__init__.py``, version
1.10.0.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Mapping
from statistics import fmean
from typing import Any

from .protocol import Command, Request

__all__ = ["Statistics"]

_MAX_CLIENTS = 500
_MAX_SIZES = 10_000
_MAX_INTERVALS = 200
_ACTIVE_SECONDS = 180.0


class Statistics:
    """Counts of requests, in a bounded amount of memory.

    Args:
        now: The current time, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._clients: OrderedDict[bytes, int] = OrderedDict()
        self._forgotten_clients = 0
        self._last_request: OrderedDict[bytes, float] = OrderedDict()
        self._sizes: Counter[int] = Counter()
        self._intervals: deque[float] = deque(maxlen=_MAX_INTERVALS)
        self._latest = now
        self._requests = self._commands = self._sentences = 0

    def add(self, message: Command | Request, now: float) -> None:
        """Count a message."""
        client = message.sender.client
        self._clients[client] = self._clients.get(client, 0) + 1
        self._clients.move_to_end(client)
        if len(self._clients) > _MAX_CLIENTS:
            self._clients.popitem(last=False)
            self._forgotten_clients += 1
        if isinstance(message, Command):
            self._commands += 1
            return
        n = len(message.texts)
        self._requests += 1
        self._sentences += n
        if n in self._sizes or len(self._sizes) < _MAX_SIZES:
            self._sizes[n] += 1
        self._last_request[client] = now
        self._last_request.move_to_end(client)
        if len(self._last_request) > _MAX_CLIENTS:
            self._last_request.popitem(last=False)
        self._intervals.append(now - self._latest)
        self._latest = now

    def values(self, now: float) -> dict[str, Any]:
        """Return all figures by name."""
        rates = [1 / interval for interval in self._intervals if interval]
        mean_size = self._sentences / self._requests if self._requests else None
        active = sum(now - last < _ACTIVE_SECONDS for last in self._last_request.values())
        return {
            "num_data_request": self._requests,
            "num_total_seq": self._sentences,
            "num_sys_request": self._commands,
            "num_total_request": self._requests + self._commands,
            "num_total_client": self._forgotten_clients + len(self._clients),
            "num_active_client": active,
            **_summary("request_per_client", self._clients.values()),
            **_summary("size_per_request", self._sizes, mean_size),
            **_summary("last_two_interval", self._intervals),
            **_summary("request_per_second", rates),
        }


def _summary(
    name: str, values: Collection[float], mean: float | None = None
) -> Mapping[str, float]:
    if not values:
        return {}
    least, most = min(values), max(values)
    return {
        f"avg_{name}": fmean(values) if mean is None else mean,
        f"min_{name}": least,
        f"max_{name}": most,
        f"num_min_{name}": sum(value == least for value in values),
        f"num_max_{name}": sum(value == most for value in values),
    }
