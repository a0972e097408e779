"""The links between the project's own pages lead to files and headings that are there."""

import re
from pathlib import Path

import pytest

from tests.scripts import PROJECT
from tests.test_documented_commands import FENCE, PAGES

LINK = re.compile(r"\]\(([^)\s]+)\)")


def headings(text: str) -> set[str]:
    """The anchors of a page, as GitHub makes them of its headings."""
    titles = (LINK.sub("]", title).lower() for title in re.findall(r"^#+ +(.+)$", FENCE.sub("", text), re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    """The links of a page's text that lead to no file of the project, or to no heading of it."""
    broken = []
    for link in LINK.findall(FENCE.sub("", text)):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / name).resolve() if name else page
        has_anchor = not anchor or (target in PAGES and anchor in headings(target.read_text(encoding="utf-8")))
        if not target.exists() or not has_anchor:
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found():
    links = ["docs/nowhere.md", "README.md#nowhere", "README.md#install", "LICENSE", "LICENSE#mit", "https://x.org/#a"]
    assert broken_links(PROJECT / "README.md", " ".join(f"[x]({link})" for link in links)) == [
        "docs/nowhere.md",
        "README.md#nowhere",
        "LICENSE#mit",
    ]


def test_the_reading_path_is_as_long_as_the_readme_says():
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    path, said = re.search(r"The way of an image through SDP(.*?)These are ([\d,]+) lines", text, re.DOTALL).groups()
    files = re.findall(r"\]\(([\w/]+\.py)\)", path)
    lines = sum(len((PROJECT / file).read_text(encoding="utf-8").splitlines()) for file in files)
    assert -(-lines // 10) * 10 == int(said.replace(",", "")) <= 2000
