"""What ``server_status`` tells of the requests so far.

The names and their meaning are those of ``ServerStatistic`` in ``bert_serving/server/
__init__.py``, version 1.10.0.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Mapping
from statistics import fmean
from typing import Any

from .protocol import Command, Request

__all__ = ["Statistics"]

_MOST_CLIENTS = 500  # remembered one by one
_MOST_SIZES = 10_000
_MOST_INTERVALS = 200
_ACTIVE = 180.0  # seconds


class Statistics:
    """Tally requests; takes a bounded amount of memory however many there are."""

    def __init__(self, now: float) -> None:
        self._clients: OrderedDict[bytes, int] = OrderedDict()
        self._forgotten_clients = 0
        self._active: OrderedDict[bytes, float] = OrderedDict()
        self._sizes: Counter[int] = Counter()
        self._intervals: deque[float] = deque(maxlen=_MOST_INTERVALS)
        self._last = now
        self._data_requests = self._commands = self._sentences = 0

    def note(self, message: Command | Request, now: float) -> None:
        """Count a message."""
        client = message.sender.client
        self._clients[client] = self._clients.get(client, 0) + 1
        self._clients.move_to_end(client)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
            self._forgotten_clients += 1
        if isinstance(message, Command):
            self._commands += 1
            return
        n = len(message.texts)
        self._data_requests += 1
        self._sentences += n
        if n in self._sizes or len(self._sizes) < _MOST_SIZES:
            self._sizes[n] += 1
        self._active[client] = now
        self._active.move_to_end(client)
        if len(self._active) > _MOST_CLIENTS:
            self._active.popitem(last=False)
        self._intervals.append(now - self._last)
        self._last = now

    def values(self, now: float) -> dict[str, Any]:
        """Return all figures by name."""
        rates = [1 / interval for interval in self._intervals if interval]
        mean_size = self._sentences / self._data_requests if self._data_requests else None
        return {
            "num_data_request": self._data_requests,
            "num_total_seq": self._sentences,
            "num_sys_request": self._commands,
            "num_total_request": self._data_requests + self._commands,
            "num_total_client": self._forgotten_clients + len(self._clients),
            "num_active_client": sum(now - then < _ACTIVE for then in self._active.values()),
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
