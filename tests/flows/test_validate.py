"""A batch of any size is judged in stretches: a verdict each, one summary, on a folder of the test's own."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item
from attune.settings import Settings
from features.lake import Lake
from features.validation_results import ValidationResults
from flows import validate

EVENTS = 1_000


class Shown:
    """Stands for Prefect's artifacts: keeps what the run's page would show."""

    def __init__(self) -> None:
        self.progress: list[float] = []
        self.table: list[dict[str, str]] = []
        self.announced: list[str] = []
        self.heard = True


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    kept = Shown()
    monkeypatch.setattr(validate, "progress", lambda *_: lambda share: kept.progress.append(100.0 * share))
    monkeypatch.setattr(validate, "announce", lambda name, *_: kept.announced.append(name) or kept.heard)
    monkeypatch.setattr(validate, "create_table_artifact", lambda table, **_: kept.table.extend(table))
    return kept


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventLog]:
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path / "var"))
    settings = Settings()
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        log.append([Item(event_id="i", event_timestamp=0, item_id="i", attributes={"title": "Tea"})])
        log.append([rating(number, "i" if number != 900 else "never heard of") for number in range(1, EVENTS)])
        Lake(settings.lake_folder).ingest(log, chunk=130)
        yield log


def rating(number: int, item_id: str) -> Interaction:
    return Interaction(
        event_id=f"e{number}", event_timestamp=number, user_id="u", item_id=item_id, kind="rating", value=4.0
    )


def judged(after: int, upto: int) -> dict[str, Any]:
    found: dict[str, Any] = validate.summarize.fn(Settings(), validate.judge.fn(Settings(), after, upto))
    return found


@pytest.mark.parametrize(("after", "upto", "number"), [(0, 1, 1), (0, 250, 1), (0, 251, 2), (7, 1_008, 5)])
def test_the_stretches_are_equal_and_leave_nothing_out(
    monkeypatch: pytest.MonkeyPatch, after: int, upto: int, number: int
) -> None:
    monkeypatch.setattr(validate, "BATCH", 250)
    found = validate.batches(after, upto)
    assert len(found) == number
    assert [found[0][0], found[-1][1]] == [after, upto]
    assert all(left[1] == right[0] for left, right in pairwise(found))
    sizes = [stop - start for start, stop in found]
    assert max(sizes) <= 250
    assert max(sizes) - min(sizes) <= 1


def test_every_stretch_gets_its_verdict(log: EventLog, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validate, "BATCH", 350)
    found = judged(0, EVENTS)
    settings = Settings()
    assert (found["after"], found["upto"], found["ok"], found["broken"]) == (0, EVENTS, True, [])
    assert [warning.split(": ")[:2] for warning in found["warnings"]] == [["positions 667 to 1,000", "unknown_item"]]
    kept = ValidationResults(settings.validation_folder).all()
    assert [(one.after, one.upto, one.ok) for one in kept] == [(0, 333, True), (333, 666, True), (666, 1_000, True)]
    assert ValidationResults(settings.validation_folder).passed_upto() == EVENTS
    assert found["expectations"] > 3 * 20
    assert len(list(settings.docs_folder.glob("validations/events/*/*/*.html"))) == 3
    assert shown.progress == sorted(shown.progress)
    assert shown.progress[-1] == 100.0
    assert [row["severity"] for row in shown.table] == ["-", "-", "warning"]


def test_a_broken_stretch_stops_what_comes_after_it_alone(
    log: EventLog, shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    from features import expectations

    real = expectations.validate

    def spoiled(batch: Any, *rest: Any) -> Any:
        frame = batch.to_pandas()
        frame.loc[frame["position"] == 500, "value"] = 17.0
        return real(frame, *rest)

    monkeypatch.setattr(validate, "BATCH", 350)
    monkeypatch.setattr(expectations, "validate", spoiled)
    found = judged(0, EVENTS)
    assert not found["ok"]
    assert len(found["broken"]) == 1
    assert found["broken"][0].startswith("positions 334 to 666: value: ")
    verdicts = ValidationResults(Settings().validation_folder)
    assert verdicts.passed_upto() == 333
    assert shown.announced == ["attune.validation.failed"]
    monkeypatch.setattr(expectations, "validate", real)
    assert validate.window.fn(Settings(), None, None) == (333, EVENTS)
    assert judged(0, 333)["ok"]
    assert shown.announced[1:] == [], "a part that passes does not mend the whole"
    shown.heard = False
    assert judged(333, 666)["ok"]
    assert verdicts.passed_upto() == EVENTS
    shown.heard = True
    assert judged(333, 666)["ok"]
    assert judged(333, 666)["ok"]
    assert shown.announced[1:] == ["attune.validation.passed"] * 2, "said until it was heard, and then no more"


def test_a_batch_of_one_stretch_is_told_as_it_is(log: EventLog, shown: Shown) -> None:
    found = judged(850, EVENTS)
    assert found["warnings"][0].startswith("unknown_item: ")
    assert found["docs"] == str(Settings().docs_folder / "index.html")
