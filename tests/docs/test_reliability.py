"""docs/reliability.md names existing tests, and all campaigns."""

from __future__ import annotations

import re

from campaign.runner import CAMPAIGNS
from support.command import ROOT
from support.pages import read

PAGE = "docs/reliability.md"


def test_named_tests_exist() -> None:
    names = re.findall(r"`((?:\w+/)*test_\w+\.py)`", read(PAGE))
    assert len(names) > 15
    for name in names:
        assert (ROOT / "tests" / name).exists(), name


def test_every_campaign_is_described_and_has_figures() -> None:
    first_cells = re.findall(r"^\| `(\w+)` \|", read(PAGE), re.MULTILINE)
    assert first_cells == [*CAMPAIGNS, *CAMPAIGNS]
