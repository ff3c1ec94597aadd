"""A batch of the lake is held against its expectations; what is critical and broken stops training."""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from attune.clock import system_clock
from attune.columns import Columns
from attune.settings import Settings
from features.expectations import Validation
from features.expectations import validate as hold_against_suite
from features.verdicts import Verdict, Verdicts
from flows import rooms


@task
def open_batch(after: int | None, upto: int | None) -> tuple[int, int]:
    """The positions to judge: by default what lies between the last passing verdict and the lake's watermark.

    Never beyond the watermark: a verdict is on events that were there.
    """
    settings = Settings()
    start = Verdicts(settings.validation_folder).passed_upto() if after is None else max(after, 0)
    watermark = rooms.lake(settings).watermark()
    return start, watermark if upto is None else min(upto, watermark)


@task
def judge_batch(after: int, upto: int) -> Validation:
    """Run the suite and write the Data Docs."""
    settings = Settings()
    lake = rooms.lake(settings)
    described = lake.events(upto=upto, types=("item",), columns=(Columns.ITEM_ID,))[Columns.ITEM_ID].to_pylist()
    return hold_against_suite(lake.events(after, upto), described, system_clock(), settings.docs_folder)


@task(cache_policy=NO_CACHE)
def record_verdict(after: int, upto: int, validation: Validation) -> dict[str, Any]:
    """Keep the verdict for training, and show the findings in the run's page."""
    findings = [("critical", one) for one in validation.failed] + [("warning", one) for one in validation.warnings]
    rows = [{"severity": severity, "finding": str(one)} for severity, one in findings]
    create_table_artifact(key="validation", table=rows or [{"severity": "-", "finding": "nothing to report"}])
    verdict = Verdict(after, upto, tuple(map(str, validation.failed)), tuple(map(str, validation.warnings)))
    verdict = Verdicts(Settings().validation_folder).record(verdict)
    return {**vars(verdict), "ok": verdict.ok, "expectations": validation.evaluated, "docs": str(validation.docs)}


@flow(name="validate")
def validate(after: int | None = None, upto: int | None = None) -> dict[str, Any]:
    """Judge the positions in (``after``, ``upto``]; a broken batch is a verdict, not a failed run."""
    start, stop = open_batch(after, upto)
    if start >= stop:
        return {"after": start, "upto": stop, "ok": True, "broken": (), "warnings": (), "expectations": 0, "docs": ""}
    return record_verdict(start, stop, judge_batch(start, stop))
