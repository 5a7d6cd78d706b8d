"""Figures that the server reports about its requests."""

from __future__ import annotations

import pytest

from bert_tokemb.serve.protocol import Command, Request, Sender
from bert_tokemb.serve.statistics import Statistics


def test_values_summarize_requests_commands_and_clients() -> None:
    statistics = Statistics(100.0)
    one, other = (Sender(client, b"1") for client in (b"one", b"other"))
    statistics.add(Request(one, ["a"], 1), 101.0)
    statistics.add(Request(one, ["a", "b", "c"], 3), 103.0)
    statistics.add(Request(other, ["a", "b"], 2), 107.0)
    statistics.add(Command(other, "SHOW_STATUS"), 108.0)
    values = statistics.values(109.0)
    counts = {
        "num_data_request": 3,
        "num_total_seq": 6,
        "num_sys_request": 1,
        "num_total_request": 4,
        "num_total_client": 2,
        "num_active_client": 2,
    }
    assert {name: values[name] for name in counts} == counts
    expected = {
        "request_per_client": (2, 2, 2),
        "size_per_request": (2, 1, 3),
        "last_two_interval": (7 / 3, 1, 4),
        "request_per_second": ((1 + 1 / 2 + 1 / 4) / 3, 1 / 4, 1),
    }
    for name, summary in expected.items():
        found = [values[f"{kind}_{name}"] for kind in ("avg", "min", "max")]
        assert found == pytest.approx(summary), name


def test_values_without_requests_have_no_summaries() -> None:
    values = Statistics(0.0).values(1.0)
    assert set(values) == {name for name in values if name.startswith("num_")}
    assert not any(values.values())
