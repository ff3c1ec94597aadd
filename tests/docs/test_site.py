"""The documentation builds without a complaint, and what was built asks for nothing from the network."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
ELSEWHERE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")]+)", re.IGNORECASE)
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


class Fetched(HTMLParser):
    """What a browser would fetch from elsewhere to show a page; ``styled`` keeps what stands between style tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elsewhere: list[str] = [*IN_STYLES.findall(page)]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(FETCHED.get(tag, ""), "") or ""
        named = tag == "link" and given.get("rel") in ("canonical", "next", "prev")
        if ELSEWHERE.match(address) and not named:
            self.elsewhere.append(f"<{tag} {address}>")


@pytest.fixture(scope="module")
def site(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it but into a folder of its own; a warning is an error.

    (With ``--quiet`` mkdocs would not see its own warnings.)
    """
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "infra/mkdocs.yml", "-d", str(folder)]
    done = subprocess.run(
        command, cwd=pytestconfig.rootpath, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert {"index.html", "tutorial.html", "architecture.html"} <= {page.name for page in pages}
    found = {str(page.relative_to(site)): Fetched(page.read_text()).elsewhere for page in pages}
    assert {name: addresses for name, addresses in found.items() if addresses} == {}


def test_styles_fetch_nothing_from_elsewhere(site: Path) -> None:
    found = {style.name: IN_STYLES.findall(style.read_text()) for style in site.rglob("*.css")}
    assert found
    assert {name: addresses for name, addresses in found.items() if addresses} == {}


def test_no_page_draws_what_needs_a_script_from_elsewhere(site: Path) -> None:
    assert not [page.name for page in site.rglob("*.html") if 'class="mermaid"' in page.read_text()]


def test_the_search_works_from_a_disk(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index = ")
    assert "propensities" in index


def test_the_check_sees_what_it_looks_for() -> None:
    page = (
        '<style>@import "https://a.example/x.css";</style><script src="//b.example/y.js"></script><a href="https://c">'
    )
    assert Fetched(page).elsewhere == ["https://a.example/x.css", "<script //b.example/y.js>"]
