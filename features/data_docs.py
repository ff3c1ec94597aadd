"""Data Docs as a site that needs no network: pages of the latest results, and a front page that lists them.

Great Expectations' pages load Bootstrap and others from content networks. Here they are built into a draft, changed to
load the files beside them (Bootstrap and jQuery from the package Bootstrap-Flask), and moved into the site. The front
page is our own: Great Expectations builds its own in the browser, from a script that no package brings.
"""

import importlib.util
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path

from attune.clock import to_datetime
from attune.errors import DataContractError
from attune.files import locked, write_whole

KEPT = 20
"""Results whose pages stay."""

DRAFT_SECONDS = 86_400.0
"""A draft older than this is nobody's any more."""

RESULTS, FRONT, STATIC = "results.json", "index.html", "static"
SCRIPTS = ("jquery.min.js", "umd/popper.min.js", "js/bootstrap.min.js")
STYLE = "css/bootstrap.min.css"
OWN_STYLE = Path(__file__).with_suffix(".css")
IMAGES = ("favicon.ico", "logo-long.png")

_ABROAD = r"""=["'](?:https?:)?//[^"']*["']"""
_SCRIPT = re.compile(rf"<script\b[^>]*\bsrc{_ABROAD}[^>]*>\s*</script>", re.IGNORECASE)
_LINK = re.compile(rf"<link\b[^>]*\bhref{_ABROAD}[^>]*>", re.IGNORECASE)
_SOURCE = re.compile(rf"\bsrc{_ABROAD}", re.IGNORECASE)
_STYLE_URL = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_OWN_IMAGE = re.compile(r'href="[./]*static/images/')
_FOOTER = re.compile(r"<footer>.*?</footer>", re.DOTALL)
_DARK = "@media (prefers-color-scheme: dark)"


@dataclass(frozen=True)
class Result:
    """What the front page tells of one batch: when it was judged (microseconds), and its pages as (suite, path)."""

    name: str
    judged_at: int
    rows: int
    broken: list[str]
    warnings: list[str]
    pages: list[list[str]]


def publish(draft: Path, site: Path, result: Result, kept: int = KEPT) -> Path:
    """Move what was built in ``draft``, a hidden folder of the site, to its place; returns the front page.

    The pages of all but the latest ``kept`` results go. Several may publish at once; what one that is killed leaves
    behind is removed by the next one (its draft after a day).
    """
    with locked(site / ".lock"):
        _bring_static(draft, site)
        for page in sorted(draft.rglob("*.html")):
            place = page.relative_to(draft)
            if str(place) != FRONT:
                (site / place).parent.mkdir(parents=True, exist_ok=True)
                write_whole(site / place, mended(page.read_text(), depth=len(place.parts) - 1))
        results = [result, *_results(site)][:kept]
        write_whole(site / RESULTS, json.dumps([asdict(listed) for listed in results], indent=1))
        suites = sorted(page.stem for page in (site / "expectations").glob("*.html"))
        write_whole(site / FRONT, front_page(results, suites))
        listed = {site / path for result in results for _, path in result.pages}
        for page in set((site / "validations").rglob("*.html")) - listed:
            page.unlink()
        for folder in sorted((site / "validations").rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        shutil.rmtree(draft)
        for other in site.glob(".draft-*"):
            if other.stat().st_mtime < time.time() - DRAFT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
    return site / FRONT


def mended(html: str, depth: int) -> str:
    """A page of Great Expectations, so many folders below the site's root, that asks for nothing beyond the site."""
    root = "../" * depth
    for abroad in (_SCRIPT, _LINK, _FOOTER):
        html = abroad.sub("", html)
    html = _SOURCE.sub(f'src="{root}{STATIC}/logo-long.png"', html)
    html = _OWN_IMAGE.sub(f'href="{root}{STATIC}/', _STYLE_URL.sub("none", html))
    html = html.replace(_DARK, "@media not all")
    first, own = _head(root)
    return html.replace("<head>", f"<head>\n{first}", 1).replace("</head>", f"{own}\n</head>", 1)


def front_page(results: list[Result], suites: list[str]) -> str:
    """The list of results, the latest first, with what did not hold and the way to the pages."""
    first, own = _head("")
    expected = ", ".join(f'<a href="expectations/{escape(suite)}.html">{escape(suite)}</a>' for suite in suites)
    rows = "\n".join(map(_row, results))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width, initial-scale=1.0">
<title>Data Docs</title>
<link rel="shortcut icon" href="{STATIC}/favicon.ico">
{first}
{own}
</head>
<body>
<div class="container-fluid results pt-4">
<h3>Data Docs</h3>
<p class="lead">What Great Expectations found in the latest batches of the lake. What is broken stops training; warnings
are reported.</p>
<table class="table table-hover">
<thead><tr><th>Batch</th><th>Judged (UTC)</th><th class="number">Events</th><th>Verdict</th><th>Pages</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p>What is expected: {expected}.</p>
</div>
</body>
</html>
"""


def _row(result: Result) -> str:
    verdict = '<span class="badge badge-danger">broken</span>' if result.broken else ""
    verdict = verdict or '<span class="badge badge-success">passed</span>'
    findings = [f'<li class="text-danger">{escape(finding)}</li>' for finding in result.broken]
    findings += [f'<li class="text-secondary">warning: {escape(finding)}</li>' for finding in result.warnings]
    listed = f"<ul>{''.join(findings)}</ul>" if findings else ""
    pages = " ".join(f'<a href="{escape(path)}">{escape(suite)}</a>' for suite, path in result.pages)
    moment = to_datetime(result.judged_at).strftime("%Y-%m-%d %H:%M:%S")
    cells = f'<td class="text-nowrap">{moment}</td><td class="number">{result.rows:,}</td>'
    return f"<tr><td>{escape(result.name)}</td>{cells}<td>{verdict}{listed}</td><td>{pages}</td></tr>"


def _head(root: str) -> tuple[str, str]:
    """The tags that come before all others of the head, and the one that comes after them."""
    style = f'<link rel="stylesheet" href="{root}{STATIC}/{Path(STYLE).name}">'
    scripts = [f'<script src="{root}{STATIC}/{Path(name).name}"></script>' for name in SCRIPTS]
    own = f'<link rel="stylesheet" href="{root}{STATIC}/{OWN_STYLE.name}">'
    return "\n".join([style, *scripts]), own


def _bring_static(draft: Path, site: Path) -> None:
    """Bootstrap 4 and our own files; the package around Bootstrap is for Flask and is not imported."""
    package = importlib.util.find_spec("flask_bootstrap")
    if package is None or package.origin is None:
        raise DataContractError("the package bootstrap-flask is missing, whose styles Data Docs need: `make install`")
    folder, bootstrap = site / STATIC, Path(package.origin).parent / "static" / "bootstrap4"
    folder.mkdir(exist_ok=True)
    sources = [bootstrap / name for name in (STYLE, *SCRIPTS)]
    for source in (*sources, OWN_STYLE, *(draft / STATIC / "images" / name for name in IMAGES)):
        target = folder / source.name
        if not target.exists() or target.stat().st_size != source.stat().st_size:
            write_whole(target, source.read_bytes())


def _results(site: Path) -> list[Result]:
    """The results that the front page lists; none where there is no list of ours."""
    try:
        return [Result(**row) for row in json.loads((site / RESULTS).read_text())]
    except (FileNotFoundError, ValueError, TypeError):
        return []
