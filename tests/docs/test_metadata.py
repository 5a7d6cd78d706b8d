"""CITATION.cff, CHANGELOG.md and the README agree with the package."""

from __future__ import annotations

import re
from importlib.metadata import version

import yaml

from support.command import ROOT
from support.pages import read

CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def test_citation_has_the_required_fields() -> None:
    """Those of the Citation File Format 1.2.0."""
    assert CITATION["cff-version"] == "1.2.0"
    assert {"title", "message"} <= CITATION.keys()
    assert CITATION["authors"] == [{"name": "The bert-tokemb authors"}]


def test_versions_agree() -> None:
    assert CITATION["version"] == version("bert-tokemb")
    assert version("bert-tokemb") in re.findall(r"^## .*?([\d.]+)\)?$", read("CHANGELOG.md"), re.M)


def test_readme_is_a_landing_page() -> None:
    assert len(read("README.md").splitlines()) <= 220
