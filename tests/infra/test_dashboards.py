"""The dashboard and the alerts name metrics that the endpoint has, with labels that these have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "dashboards"
METRIC = re.compile(r"\b(attune_[a-z_]+)")
PROMETHEUS_ITSELF = {"le", "instance", "job"}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]]


def board() -> dict[str, Any]:
    return json.loads((FOLDER / "attune-endpoint.json").read_text())


def queries() -> list[str]:
    panels = [target["expr"] for panel in board()["panels"] for target in panel["targets"]]
    return panels + [rule["expr"] for rule in alerts()]


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Every name in the exposition with its labels, each metric used once."""
    metrics = Metrics()
    labels: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        names = getattr(metric, "_labelnames", ())
        if names:
            metric.labels(*("x" for _ in names))
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        suffixes = ("_bucket", "_count", "_sum") if family.type == "histogram" else ("",)
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
        assert all(family.name + suffix in labels or family.type == "counter" for suffix in suffixes)
    return labels


@pytest.mark.parametrize("query", queries())
def test_what_is_asked_for_exists(exposed: dict[str, set[str]], query: str) -> None:
    names = set(METRIC.findall(query))
    assert names <= set(exposed), f"{query}: the endpoint has no {names - set(exposed)}"
    known = set().union(*(exposed[name] for name in names)) | PROMETHEUS_ITSELF
    used = {label.strip() for found in re.findall(r"by \(([^)]*)\)", query) for label in found.split(",")}
    used |= set(re.findall(r"[{,]\s*([a-z_]+)\s*=", query))
    assert used <= known, f"{query}: no such label: {used - known}"
    assert query.count("(") == query.count(")")


def test_every_metric_is_watched(exposed: dict[str, set[str]]) -> None:
    shown = set(METRIC.findall(" ".join(queries())))
    forgotten = {name for name in exposed if not name.endswith(("_created", "_count", "_sum"))} - shown
    assert not forgotten, f"neither the dashboard nor an alert shows {forgotten}"


def test_the_dashboard_has_no_overlapping_panels() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_reads_the_rules_and_the_page_explains_each() -> None:
    assert yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"] == ["alerts.yml"]
    page = (ROOT / "docs" / "how-to" / "monitoring.md").read_text()
    described = set(re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE))
    assert described == {rule["alert"] for rule in alerts()}
