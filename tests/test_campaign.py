"""A short run of every fault campaign."""

from __future__ import annotations

import pytest

from campaign import CAMPAIGNS, run_campaign

SECONDS = 6


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign_finds_no_fault(name: str) -> None:
    assert run_campaign(name, seed=1, seconds=SECONDS) > 0
