"""Validates the lake's new events, batch by batch; a broken critical expectation pauses training."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from prefect.artifacts import create_table_artifact

from attune.clock import system_clock
from attune.settings import Settings
from features.validation_results import ValidationResult, ValidationResults
from flows import resources
from flows.automations import BROKEN, LOG, VALIDATED, announce
from flows.steps import flow, progress, step

BATCH = 250_000
"""Positions validated at once, at most: memory does not grow with what is to be validated."""


@dataclass(frozen=True)
class BatchResult:
    """The verdict on one batch, how many expectations were evaluated, and the page that shows all of them."""

    name: str
    verdict: ValidationResult
    expectations: int
    docs: str


@step
def window(settings: Settings, after: int | None, upto: int | None) -> tuple[int, int]:
    """The positions to validate: by default what lies between the last passing verdict and the lake's watermark.

    Never beyond the watermark: a verdict is on events that were there.
    """
    start = ValidationResults(settings.validation_folder).passed_upto() if after is None else max(after, 0)
    watermark = resources.lake(settings).watermark()
    return start, watermark if upto is None else min(upto, watermark)


def batches(after: int, upto: int) -> list[tuple[int, int]]:
    """(``after``, ``upto``] cut into equal parts of at most ``BATCH`` positions."""
    parts = max(-(-(upto - after) // BATCH), 1)
    return list(pairwise(after + (upto - after) * part // parts for part in range(parts + 1)))


@step
def judge(settings: Settings, after: int, upto: int) -> list[BatchResult]:
    """Run the suites on every batch, write the Data Docs, and keep a verdict on each for training.

    A killed run leaves the verdicts that it came to; the next one goes on after those that passed.
    """
    from features import expectations

    lake, verdicts = resources.lake(settings), ValidationResults(settings.validation_folder)
    described = lake.item_ids(("item",), upto)
    bar = progress("validation-progress", "Validating the lake's new events")
    results = []
    for start, stop in batches(after, upto):
        events = lake.events(start, stop, columns=expectations.COLUMNS)
        name = f"positions {start + 1:,} to {stop:,}"
        outcome = expectations.validate(events, described, system_clock(), settings.docs_folder, name)
        verdict = ValidationResult(start, stop, tuple(map(str, outcome.failed)), tuple(map(str, outcome.warnings)))
        results.append(BatchResult(name, verdicts.record(verdict), outcome.evaluated, str(outcome.docs)))
        bar((stop - after) / (upto - after))
    return results


@step
def summarize(settings: Settings, results: list[BatchResult]) -> dict[str, Any]:
    """Show the findings of all batches on the run's page, pause or resume training, and return the whole as JSON."""
    rows: list[dict[str, str]] = []
    for result in results:
        verdict, nothing = result.verdict, [("-", "nothing to report")]
        listed = [("critical", text) for text in verdict.broken] + [("warning", text) for text in verdict.warnings]
        rows += [{"events": result.name, "severity": name, "finding": text} for name, text in listed or nothing]
    create_table_artifact(key="validation", table=rows, description=f"All expectations: {results[-1].docs}")
    passed = all(result.verdict.ok for result in results)
    update_training_pause(settings, passed)

    def findings(kind: str) -> list[str]:
        """Named by their batch where there are several."""
        return [
            finding if len(results) == 1 else f"{result.name}: {finding}"
            for result in results
            for finding in getattr(result.verdict, kind)
        ]

    return {
        "after": results[0].verdict.after,
        "upto": results[-1].verdict.upto,
        "ok": passed,
        "broken": findings("broken"),
        "warnings": findings("warnings"),
        "expectations": sum(result.expectations for result in results),
        "docs": results[-1].docs,
    }


def update_training_pause(settings: Settings, passed: bool) -> None:
    """Pause training when a batch broke, and resume it once the whole lake has passed again; else announce nothing.

    The note that training was paused stays until Prefect took the resumption. So whoever switches training off by hand
    is not overruled by every batch that passes.
    """
    note = settings.validation_folder / "paused"
    passed_upto = ValidationResults(settings.validation_folder).passed_upto()
    payload = {"passed_upto": passed_upto}
    if not passed:
        note.touch()
        announce(BROKEN, LOG, payload)
    elif note.exists() and passed_upto >= resources.lake(settings).watermark() and announce(VALIDATED, LOG, payload):
        note.unlink(missing_ok=True)


def validate_window(settings: Settings, after: int | None = None, upto: int | None = None) -> dict[str, Any]:
    """Validate the lake's events at positions in (after, upto]; what None means stands with ``validate``."""
    start, stop = window(settings, after, upto)
    if start >= stop:
        return {"after": start, "upto": stop, "ok": True, "broken": [], "warnings": [], "expectations": 0, "docs": ""}
    return summarize(settings, judge(settings, start, stop))


@flow(name="validate")
def validate(after: int | None = None, upto: int | None = None) -> dict[str, Any]:
    """Hold the lake's new events against their expectations; a broken batch is a verdict, not a failed run.

    Args:
        after: The last position that is not judged; empty: the last one that has passed.
        upto: The last position that is judged; empty: the last one in the lake.
    """
    return validate_window(Settings(), after, upto)
