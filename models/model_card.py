"""The model card in Markdown, and MLflow's page of a version: the card in short, its judgement, its pictures.

The card says what a version is, what it learned from and what it is good at. MLflow shows the pictures of a description
where they are named as its own pages name the files of a run.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any

from attune.clock import shown_time
from models.figures import short, table
from models.metrics import SLICE_WORDS

LIMIT = 5_000
"""Characters that MLflow keeps of a description in every database."""

WHOLE = "Everything that decided it"
"""The section of the card that is for reading in the file alone."""

SPACE = "&emsp;"
"""MLflow's tables have no room between their columns."""

CUT = "\n\n(cut: the whole is the artifact model_card.md)"
COMPARED = ("champion", "anchor", "elder", "popularity")
SHOWN = ("ndcg@10", "hr@10", "mrr", "coverage@10")
PICTURES = {
    "gates": "each gate: measured, with its interval, beside its limit",
    "rolling_hr_at_10": "HR@10 over the hold-out in the order of time",
    "learning": "the learning curve",
}


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
        "A hybrid of a causal sequence network and the sources beside it; the weights were chosen on validation"
        f" ({mix or 'see below'}). Seed {config.get('seed')}, code {config.get('git_commit') or 'unknown'}."
    )


def _window(config: Mapping[str, Any]) -> str:
    window = config.get("window", {})
    rows = [[name, short(window[name])] for name in ("rows", "users", "items", "digest") if name in window]
    times = {**window, **config}
    names = ("first_time", "last_time", "trained_upto_time", "holdout_after_time")
    rows += [[name, shown_time(times[name])] for name in names if times.get(name) is not None]
    rows += [
        [name, str(config.get(name))] for name in ("trained_upto", "holdout_after", "feature_service", "reward_table")
    ]
    return "## Learned from\n\n" + table(rows, ["window", ""])


def _figures(report: Mapping[str, Any], section: str, title: str) -> str:
    """A table of a section of the report: a row for each recommender, a column for each figure that it has."""
    figures = {name: row for name, row in report.get(section, {}).items() if isinstance(row, Mapping)}
    columns = list(dict.fromkeys(column for row in figures.values() for column in row))
    rows = [[name, *(short(row.get(column)) for column in columns)] for name, row in figures.items()]
    return f"## {title}\n\n" + table(rows, ["", *columns]) if rows else ""


def render_page(card: str, run_id: str, pictures: Collection[str], judgement: Mapping[str, Any] | None = None) -> str:
    """The page in Markdown, ``LIMIT`` characters at most, cut at a line's end where it must be.

    ``pictures`` are the names of those that the run has, ``judgement`` is as ``Judgement.as_dict`` gives it.
    """
    first, *others = card.strip().split("\n\n## ")
    judged = [_verdict(judgement), *_pictures(run_id, pictures, "gates", "rolling_hr_at_10")] if judgement else []
    rest = [f"## {section}" for section in others if not section.startswith(WHOLE)]
    lines = "\n\n".join([first, *judged, *rest[:2], *_pictures(run_id, pictures, "learning"), *rest[2:]]).split("\n")
    page = "\n".join(  # with room after each cell of its tables
        line.replace(" |", f"{SPACE}|") if line.startswith("| ") and "---" not in line else line for line in lines
    )
    return page if len(page) <= LIMIT else page[: LIMIT - len(CUT)].rsplit("\n", 1)[0] + CUT


def _verdict(judgement: Mapping[str, Any]) -> str:
    """The verdict, what it rests on, and the figures beside those of the recommenders that it was compared with."""
    reasons = judgement["refused_by"] or judgement["undecided"] or ["nothing speaks for it"]
    verdict = judgement["decision"] + ("" if judgement["accepted"] else f" ({', '.join(reasons)})")
    held = judgement["hold_out"]
    after, upto = shown_time(held["after_time"]), shown_time(held["upto_time"])
    everybody = {"this version": judgement["metrics"], **{n: judgement["baselines"].get(n) for n in COMPARED}}
    part = judgement.get("part", "all")
    rows = [
        [who, *(short(row[part].get(name)) for name in SHOWN), short(row["all"]["ndcg@10"])]
        for who, row in everybody.items()
        if row
    ]
    return (
        f"## Judged: {verdict}\n\nAfter {after} up to {upto}: {held['events']} events of {held['users']} users.\n\n"
        + table(rows, [f"over {SLICE_WORDS[part]}", *SHOWN, "ndcg@10, all targets"])
    )


def _pictures(run_id: str, there: Collection[str], *wanted: str) -> list[str]:
    return [f"![{PICTURES[name]}](get-artifact?path={name}.png&run_uuid={run_id})" for name in wanted if name in there]
