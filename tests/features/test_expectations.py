from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from attune.clock import DAY
from attune.event_log import EventLog
from attune.events import Interaction, Item
from features.expectations import Validation, validate
from features.lake import Lake

NOW = 20_000 * DAY
ITEMS = [f"i{number}" for number in range(10)]


@pytest.fixture
def batch(log: EventLog, lake: Lake, act: Callable[..., Interaction]) -> pa.Table:
    items = [Item(event_id=item, event_timestamp=0, item_id=item, attributes={}) for item in ITEMS]
    ratings = [act(f"u{number % 7}", f"i{number % 10}", number, "rating", 4.0) for number in range(120)]
    watched = [act(f"u{number}", "i1", number, "watch", 0.5) for number in range(9)]
    log.append([*items, *ratings, *watched, act("u1", "i1", 200, "retract", retracts="e1")])
    lake.ingest(log)
    return lake.events()


def judge(batch: pa.Table | pd.DataFrame, folder: Path, now: int = NOW) -> Validation:
    return validate(batch, ITEMS, now, folder)


def spoiled(batch: pa.Table | pd.DataFrame, column: str, place: int, value: object) -> pd.DataFrame:
    frame = batch.to_pandas() if isinstance(batch, pa.Table) else batch.copy()
    frame[column] = frame[column].astype(object)
    frame.loc[place, column] = value
    return frame.infer_objects()


def test_a_good_batch_passes_and_leaves_data_docs(batch: pa.Table, tmp_path: Path) -> None:
    validation = judge(batch, tmp_path / "docs")
    assert validation.ok
    assert (validation.failed, validation.warnings) == ([], [])
    assert validation.evaluated > 20
    assert validation.docs == tmp_path / "docs" / "index.html"
    assert "events" in validation.docs.read_text()
    assert len(list((tmp_path / "docs" / "validations").rglob("*.html"))) == 2


FAULTS = [
    ("kind", "lke", "expect_column_values_to_be_in_set"),
    ("value", 17.0, "expect_column_values_to_be_between"),
    ("value", None, "expect_column_values_to_not_be_null"),
    ("user_id", None, "expect_column_values_to_not_be_null"),
    ("item_id", "x" * 300, "expect_column_value_lengths_to_be_between"),
    ("event_id", "e7", "expect_column_values_to_be_unique"),
    ("position", 3, "expect_column_values_to_be_unique"),
    ("event_timestamp", NOW + DAY, "expect_column_values_to_be_between"),
    ("logged_at", -1, "expect_column_values_to_be_between"),
    ("type", "intraction", "expect_column_values_to_be_in_set"),
]


def test_a_broken_batch_is_refused_and_each_row_named(batch: pa.Table, tmp_path: Path) -> None:
    """Each fault in a row of its own, and nothing else is found."""
    for place, (column, value, _) in enumerate(FAULTS, start=30):
        batch = spoiled(batch, column, place, value)
    validation = judge(batch, tmp_path)
    found = {(finding.column, finding.name): finding for finding in validation.failed}
    assert found.keys() == {(column, name) for column, _, name in FAULTS}
    for column, value, name in FAULTS:
        finding = found[column, name]
        assert finding.unexpected in (1, 2)
        assert value is None or value in finding.examples
        assert column in str(finding)
        assert "expected: " in finding.message


def test_a_column_of_another_type_or_none_at_all_is_refused(batch: pa.Table, tmp_path: Path) -> None:
    frame = batch.to_pandas()
    texts = judge(frame.assign(event_timestamp=frame["event_timestamp"].astype(str)), tmp_path)
    assert "expect_column_values_to_be_of_type" in {finding.name for finding in texts.failed}
    absent = judge(frame.drop(columns="kind"), tmp_path)
    assert any(finding.column == "kind" and "does not exist" in finding.message for finding in absent.failed)


def test_warnings_do_not_stop_anything(batch: pa.Table, tmp_path: Path) -> None:
    validation = judge(spoiled(batch, "item_id", 30, "never heard of").iloc[20:60], tmp_path, NOW + 2 * DAY)
    assert validation.ok
    found = {finding.name: finding for finding in validation.warnings}
    assert found["expect_column_values_to_be_null"].examples == ("never heard of",)
    assert "at least 100 events in a batch; found 40" in str(found["expect_table_row_count_to_be_between"])
    assert "expect_column_max_to_be_between" in found


def test_a_batch_without_behaviour(batch: pa.Table, tmp_path: Path) -> None:
    assert judge(batch.slice(0, 10), tmp_path).ok
