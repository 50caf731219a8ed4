"""Links between pages lead somewhere, and every page can be reached."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import LINKED, PAGES, ROOT, headings, links, slug

MOST_README_WORDS = 700


@pytest.mark.parametrize("page", LINKED)
def test_links_lead_to_a_file_and_a_heading(page: str) -> None:
    here = ROOT / page
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (here.parent / path).resolve() if path else here
        assert target.exists(), f"{page}: {link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{page}: {link} leads out of the repository"
        if anchor and target.suffix == ".md":
            assert anchor in headings(target), f"{page}: {path or page} has no heading #{anchor}"


@pytest.mark.parametrize("page", [page for page in LINKED if page.startswith("docs/")])
def test_every_page_is_in_the_navigation(page: str) -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert f": {page.removeprefix('docs/')}\n" in navigation


def test_the_readme_is_short_and_leads_to_every_guide() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_README_WORDS
    # the glossary is linked below, the home page of the site says what the README says
    guides = {Path(page).name for page in PAGES if page.startswith("docs/")} - {"index.md"}
    missing = {name for name in guides if f"](docs/{name})" not in text}
    assert not missing, f"README.md links to no {missing}"


def test_slugs_are_those_of_the_site() -> None:
    assert slug("When keys change") == "when-keys-change"
    assert slug("A memory, with its `index`!") == "a-memory-with-its-index"
