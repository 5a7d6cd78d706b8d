"""Links between pages, and from pages to files and headings, lead somewhere."""

from __future__ import annotations

import pytest

from support.command import ROOT
from support.pages import PAGES, anchors, links

LOCAL_LINKS = [
    (page, link) for page in PAGES for link in links(page) if not link.startswith("https://")
]


@pytest.mark.parametrize(("page", "link"), LOCAL_LINKS)
def test_link_leads_to_a_file_and_a_heading(page: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(str(target.relative_to(ROOT)))


def test_readme_links_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert linked >= {*PAGES} - {"README.md"}


def test_external_links_are_encrypted() -> None:
    assert not [link for page in PAGES for link in links(page) if link.startswith("http:")]
