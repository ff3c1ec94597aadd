"""What MLflow's page of a version says: the model card in short, how the version was judged, and its pictures.

MLflow shows a description's pictures when they are named as its own pages name a run's files.
"""

from collections.abc import Collection, Mapping
from typing import Any

from models.figures import short, table

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


def render(card: str, run_id: str, pictures: Collection[str], judgement: Mapping[str, Any] | None = None) -> str:
    """The page in Markdown, ``LIMIT`` characters at most, cut at a line's end where it must be.

    ``pictures`` are the names of those that the run has, ``judgement`` is as ``Judgement.as_dict`` gives it.
    """
    first, *others = card.strip().split("\n\n## ")
    judged = [_judged(judgement), *_pictures(run_id, pictures, "gates", "rolling_hr_at_10")] if judgement else []
    rest = [f"## {section}" for section in others if not section.startswith(WHOLE)]
    page = _spaced("\n\n".join([first, *judged, *rest[:2], *_pictures(run_id, pictures, "learning"), *rest[2:]]))
    return page if len(page) <= LIMIT else page[: LIMIT - len(CUT)].rsplit("\n", 1)[0] + CUT


def _judged(found: Mapping[str, Any]) -> str:
    """The verdict, on what it rests, and the figures beside those of whom it was compared with."""
    reasons = [f"{one['name']} {one['verdict']}" for one in found["gates"] if one["name"] in found["refused_by"]]
    verdict = "accepted" if found["accepted"] else f"refused ({', '.join(reasons) or 'nothing speaks for it'})"
    held = found["hold_out"]
    everybody = {"this version": found["metrics"], **{n: found["baselines"].get(n) for n in COMPARED}}
    rows = [[who, *(short(row["all"].get(name)) for name in SHOWN)] for who, row in everybody.items() if row]
    return (
        f"## Judged: {verdict}\n\nOn positions {held['after'] + 1} to {held['upto']} of the event log: {held['events']}"
        f" events of {held['users']} users.\n\n" + table(rows, ["all targets", *SHOWN])
    )


def _pictures(run_id: str, there: Collection[str], *wanted: str) -> list[str]:
    return [f"![{PICTURES[name]}](get-artifact?path={name}.png&run_uuid={run_id})" for name in wanted if name in there]


def _spaced(page: str) -> str:
    """The page with room after each cell of its tables."""
    lines = page.split("\n")
    return "\n".join(
        one.replace(" |", f"{SPACE}|") if one.startswith("| ") and "---" not in one else one for one in lines
    )
