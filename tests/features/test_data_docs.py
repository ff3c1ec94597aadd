"""The Data Docs ask for nothing beyond their own folder, and only the latest results stay."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from attune.clock import DAY, SECOND
from attune.event_log import EventLog
from attune.events import Interaction, Item
from features import data_docs
from features.data_docs import Result, mended, publish
from features.expectations import validate
from features.lake import Lake

NOW = 20_000 * DAY


class Asked(HTMLParser):
    """Collects what a browser would fetch to show a page, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.resources: list[str] = []
        self.links: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        asked = given.get("src") or (given.get("href") if tag == "link" else None)
        if asked:
            self.resources.append(asked)
        elif tag == "a" and (target := given.get("href")):
            self.links.append(target)


@pytest.fixture
def frame(log: EventLog, lake: Lake, act: Callable[..., Interaction]) -> pd.DataFrame:
    log.append([Item(event_id="i", event_timestamp=0, item_id="i", attributes={})])
    log.append([act(f"u{number % 7}", "i", number, "rating", 4.0) for number in range(120)])
    lake.ingest(log)
    return lake.events().to_pandas()


def test_a_browser_without_a_network_finds_everything(frame: pd.DataFrame, tmp_path: Path) -> None:
    site = tmp_path / "docs"
    validate(frame, ["i"], NOW, site, "good <batch>")
    broken = frame.assign(value=frame["value"].where(frame["position"] != 30, 17.0))
    assert not validate(broken, ["i"], NOW + SECOND, site, "positions 1 to 121").ok
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 1 + 2 + 4
    for page in pages:
        asked = Asked(page)
        assert len(asked.resources) >= 6
        for resource in asked.resources:
            assert (page.parent / resource).is_file(), f"{page}: {resource}"
        for link in asked.links:
            assert link.startswith("#") or (page.parent / link).is_file(), f"{page}: {link}"
        style = re.sub(r"<(?!style).*?>", "", page.read_text())
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", style)
    front = (site / "index.html").read_text()
    assert front.index("positions 1 to 121") < front.index("good &lt;batch&gt;")
    assert "not true of 1 rows, such as 17.0" in front
    assert (front.count(">broken<"), front.count(">passed<")) == (1, 1)
    assert not list(site.glob(".draft*"))


def built(site: Path, number: int) -> tuple[Path, Result]:
    """What Great Expectations would have built for a batch, in short."""
    draft = site / f".draft-{number}"
    page = draft / "validations" / "events" / f"batch-{number}" / "time" / "events.html"
    page.parent.mkdir(parents=True)
    page.write_text(f"<html><head></head><body>{number}</body></html>")
    for image in data_docs.IMAGES:
        (draft / "static" / "images").mkdir(parents=True, exist_ok=True)
        (draft / "static" / "images" / image).write_bytes(b"x")
    return draft, Result(f"batch {number}", number, 1, [], [], [["events", str(page.relative_to(draft))]])


def test_only_the_latest_results_stay(tmp_path: Path) -> None:
    stray = tmp_path / "validations" / "events" / "__none__" / "of-a-killed-one.html"
    stray.parent.mkdir(parents=True)
    stray.write_text("<html></html>")
    for number in range(5):
        draft, result = built(tmp_path, number)
        publish(draft, tmp_path, result, kept=3)
    kept = sorted(path.parent.parent.name for path in tmp_path.glob("validations/*/*/*/*.html"))
    assert kept == ["batch-2", "batch-3", "batch-4"]
    front = (tmp_path / "index.html").read_text()
    assert re.findall(r"batch \d", front) == ["batch 4", "batch 3", "batch 2"]
    assert not (tmp_path / "validations" / "events" / "__none__").exists()


def test_a_damaged_list_of_results_is_begun_anew(tmp_path: Path) -> None:
    for number in range(2):
        draft, result = built(tmp_path, number)
        publish(draft, tmp_path, result)
        (tmp_path / "results.json").write_text("{")
    assert re.findall(r"batch \d", (tmp_path / "index.html").read_text()) == ["batch 1"]


def test_what_great_expectations_asks_of_others_is_left_out() -> None:
    page = (
        '<html><head><link rel="stylesheet" href="https://x/y.css"/><link href="//x/z.css">'
        '<script src="http://x/y.js" integrity="sha"></script>\n'
        '<style>a { background: url( "https://x/i.png") }</style>'
        '<link rel="shortcut icon" href="../static/images/favicon.ico"/></head>'
        '<body><img src="https://x/logo.png?d=1"><script>let kept = 1</script><footer>a newsletter</footer>'
        "</body></html>"
    )
    found = mended(page, depth=3)
    assert "//x/" not in found
    assert "newsletter" not in found
    assert "let kept = 1" in found
    assert 'href="../../../static/favicon.ico"' in found
    assert '<img src="../../../static/logo-long.png">' in found
    assert found.index("bootstrap.min.css") < found.index("<style>") < found.index("data_docs.css")
