"""The lake's new events are held against their expectations, stretch by stretch; what is critical stops training."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from prefect.artifacts import create_table_artifact

from attune.clock import system_clock
from attune.settings import Settings
from features.validation_results import Verdict, Verdicts
from flows import resources
from flows.automations import BROKEN, LOG, VALIDATED, announce
from flows.steps import flow, progress, step

STRETCH = 250_000
"""Positions judged at once, at most: what is held in memory does not grow with what is to be judged."""


@dataclass(frozen=True)
class Judged:
    """The verdict on one stretch, how many expectations it was held against, and the page that shows all of them."""

    verdict: Verdict
    expectations: int
    docs: str

    @property
    def name(self) -> str:
        """The stretch in words."""
        return f"positions {self.verdict.after + 1:,} to {self.verdict.upto:,}"


@step
def open_batch(after: int | None, upto: int | None) -> tuple[int, int]:
    """The positions to judge: by default what lies between the last passing verdict and the lake's watermark.

    Never beyond the watermark: a verdict is on events that were there.
    """
    settings = Settings()
    start = Verdicts(settings.validation_folder).passed_upto() if after is None else max(after, 0)
    watermark = resources.lake(settings).watermark()
    return start, watermark if upto is None else min(upto, watermark)


def stretches(after: int, upto: int) -> list[tuple[int, int]]:
    """(``after``, ``upto``] cut into equal parts of at most ``STRETCH`` positions."""
    parts = max(-(-(upto - after) // STRETCH), 1)
    return list(pairwise(after + (upto - after) * part // parts for part in range(parts + 1)))


@step
def judge(after: int, upto: int) -> list[Judged]:
    """Run the suites on every stretch, write the Data Docs, and keep a verdict on each for training.

    A killed run leaves the verdicts that it came to; the next one goes on after those that passed.
    """
    from features import expectations

    settings = Settings()
    lake, verdicts = resources.lake(settings), Verdicts(settings.validation_folder)
    described = lake.item_ids(("item",), upto)
    done = progress("validation-progress", "Judging the lake's new events")
    judged = []
    for start, stop in stretches(after, upto):
        batch = lake.events(start, stop, columns=expectations.COLUMNS)
        name = f"positions {start + 1:,} to {stop:,}"
        found = expectations.validate(batch, described, system_clock(), settings.docs_folder, name)
        verdict = Verdict(start, stop, tuple(map(str, found.failed)), tuple(map(str, found.warnings)))
        judged.append(Judged(verdicts.record(verdict), found.evaluated, str(found.docs)))
        done((stop - after) / (upto - after))
    return judged


@step
def sum_up(judged: list[Judged]) -> dict[str, Any]:
    """What was found in all stretches together, shown in the run's page and told to who pauses or resumes training."""
    rows = [row for one in judged for row in _findings(one)]
    create_table_artifact(key="validation", table=rows, description=f"All that was looked at: {judged[-1].docs}")
    verdicts = [one.verdict for one in judged]
    after, upto, passed = verdicts[0].after, verdicts[-1].upto, all(verdict.ok for verdict in verdicts)
    tell_training(passed)
    return {
        "after": after,
        "upto": upto,
        "ok": passed,
        "broken": [told for one in judged for told in _told(one, one.verdict.broken, len(judged))],
        "warnings": [told for one in judged for told in _told(one, one.verdict.warnings, len(judged))],
        "expectations": sum(one.expectations for one in judged),
        "docs": judged[-1].docs,
    }


def tell_training(passed: bool) -> None:
    """Pause training when a batch broke, and let it go on once the whole lake has passed again; else say nothing.

    The note that training was paused stays until the resumption was heard. So whoever switches training off by hand
    is not overruled by every batch that passes.
    """
    settings = Settings()
    note, verdicts = settings.validation_folder / "paused", Verdicts(settings.validation_folder)
    payload = {"passed_upto": verdicts.passed_upto()}
    if not passed:
        note.touch()
        announce(BROKEN, LOG, payload)
    elif (
        note.exists()
        and payload["passed_upto"] >= resources.lake(settings).watermark()
        and announce(VALIDATED, LOG, payload)
    ):
        note.unlink(missing_ok=True)


def _findings(judged: Judged) -> list[dict[str, str]]:
    findings = [("critical", one) for one in judged.verdict.broken]
    findings += [("warning", one) for one in judged.verdict.warnings]
    findings = findings or [("-", "nothing to report")]
    return [{"events": judged.name, "severity": severity, "finding": finding} for severity, finding in findings]


def _told(judged: Judged, findings: tuple[str, ...], stretches: int) -> list[str]:
    """The findings as they are, or with the stretch that they are of where there are several."""
    return [finding if stretches == 1 else f"{judged.name}: {finding}" for finding in findings]


@flow(name="validate")
def validate(after: int | None = None, upto: int | None = None) -> dict[str, Any]:
    """Hold the lake's new events against their expectations; a broken batch is a verdict, not a failed run.

    Args:
        after: The last position that is not judged; empty: the last one that has passed.
        upto: The last position that is judged; empty: the last one in the lake.
    """
    start, stop = open_batch(after, upto)
    if start >= stop:
        return {"after": start, "upto": stop, "ok": True, "broken": [], "warnings": [], "expectations": 0, "docs": ""}
    return sum_up(judge(start, stop))
