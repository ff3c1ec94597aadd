"""The model card: what a version is, what it learned from, what it is good at, in Markdown."""

import json
from collections.abc import Mapping
from typing import Any

from attune.clock import to_iso
from models.figures import short, table


def render(config: Mapping[str, Any], report: Mapping[str, Any], parent: str | None) -> str:
    """The card from a bundle's config and the report of its training."""
    sections = [
        _what(config, parent),
        _window(config),
        _figures(report, "validation", "On validation: the hybrid and each part alone"),
        _figures(report, "cross_validation", "At earlier moments, judged on what came next: mean and spread"),
        _figures(report, "ablation", "On validation: the network without some of its features"),
        "## Meant for\n\nRanking the items of its catalogue for a user whose latest events are known. Users without"
        " any are answered by popularity, and the answer says so.",
        "## Limits\n\nThe figures above are offline: they count what people chose without this model. A panel of one"
        " user in ten teaches it nothing (item statistics count everybody). Items that came after the window are"
        " unknown to it until the next training.",
        "## Everything that decided it\n\n```json\n" + json.dumps(config, indent=1, sort_keys=True) + "\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def title(config: Mapping[str, Any], parent: str | None) -> str:
    """The version in a few words: its recipe and what it comes from."""
    recipe = config.get("recipe", {}).get("name", "unnamed")
    return f"{recipe}, fine-tuned from v{parent}" if parent else f"{recipe}, trained from nothing"


def _what(config: Mapping[str, Any], parent: str | None) -> str:
    recipe = config.get("recipe", {}).get("name", "unnamed")
    origin = f"fine-tuned from version {parent}" if parent else "trained from nothing"
    mix = ", ".join(f"{name} {short(share)}" for name, share in config.get("mix", {}).items())
    return (
        f"# attune-recommender: recipe {recipe}, {origin}\n\n"
        "A hybrid of a causal sequence network, item-kNN and popularity; the weights were chosen on validation"
        f" ({mix or 'see below'}). Seed {config.get('seed')}, code {config.get('git_commit') or 'unknown'}."
    )


def _window(config: Mapping[str, Any]) -> str:
    window = config.get("window", {})
    rows = [[name, short(window[name])] for name in ("rows", "users", "items", "digest") if name in window]
    rows += [[name, to_iso(window[name])] for name in ("first_time", "last_time") if window.get(name) is not None]
    rows += [
        [name, str(config.get(name))] for name in ("trained_upto", "holdout_after", "feature_service", "reward_table")
    ]
    return "## Learned from\n\n" + table(rows, ["window", ""])


def _figures(report: Mapping[str, Any], section: str, title: str) -> str:
    """A table of a section of the report: a row for each recommender, a column for each figure that it has."""
    found = {name: row for name, row in report.get(section, {}).items() if isinstance(row, Mapping)}
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [[name, *(short(row.get(column)) for column in columns)] for name, row in found.items()]
    return f"## {title}\n\n" + table(rows, ["", *columns]) if rows else ""
