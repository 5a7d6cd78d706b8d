"""The campaigns, for a few seconds each; ``python -m tests.campaign`` runs them for minutes."""

from __future__ import annotations

from random import SystemRandom
from typing import NoReturn

import pytest

from campaign import runner
from campaign.runner import CAMPAIGNS, Campaign, RoundError, run_campaign, run_round
from support.failing import crashes, finds_an_error, hangs

SECONDS = 6


def fail(error: RoundError) -> NoReturn:
    raise error


@pytest.mark.slow
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_campaign_finds_nothing(name: str) -> None:
    cases, _ = run_campaign(name, SystemRandom().randrange(10**6), SECONDS, fail)
    assert cases


# --- The campaigns report what they find ------------------------------------------------------


def message_of(monkeypatch: pytest.MonkeyPatch, campaign: Campaign, seed: int = 5) -> str:
    """Run a round of a campaign that fails, and return the message."""
    monkeypatch.setitem(runner.CAMPAIGNS, "test", campaign)
    with pytest.raises(RoundError) as caught:
        run_round("test", seed, 3)
    return str(caught.value)


@pytest.mark.parametrize("forked", [False, True])
def test_failed_round_can_be_repeated(forked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = Campaign(finds_an_error, forked)
    message = message_of(monkeypatch, campaign)
    assert "AssertionError: drew " in message
    assert "\ncase: the number 7\n" in message
    assert "repeat it by: python -m tests.campaign --seed 5 --only test --round 3" in message
    assert message_of(monkeypatch, campaign) == message
    assert message_of(monkeypatch, campaign, seed=6) != message


def test_crash_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "crashed with exit code -9" in message_of(monkeypatch, Campaign(crashes))


def test_hang_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    message = message_of(monkeypatch, Campaign(hangs, timeout=0.5))
    assert "no result after 0.5 seconds" in message
