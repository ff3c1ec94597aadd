"""Tables of items with a property in each row: versions of the items as of their time."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from attune.clock import SECOND, Clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Item
from features.importer import ImportReport, import_source
from features.lake import Lake
from features.sources import tabular
from features.withdrawal import withdraw

WEEK = 7 * 86_400
FIRST, SECOND_WEEK, THIRD = (1_431_226_800 + n * WEEK for n in range(3))
ROWS = [
    (SECOND_WEEK, 1, "price", 7), (FIRST, 1, "categoryid", "a"), (FIRST, 1, "price", 5), (FIRST, 2, "available", 1),
    (SECOND_WEEK, 1, "categoryid", "a"), (THIRD, 2, "available", 0), (THIRD, 1, "price", 7),
]  # fmt: skip


@pytest.fixture
def read(tmp_path: Path):
    """Read a long table of items as one shop has it: times in milliseconds, columns named timestamp, itemid, ..."""
    (tmp_path / "a.csv").write_text("timestamp,visitorid,event,itemid\n1431226800000,u,view,1\n")

    def read(rows: list[tuple], header: str = "timestamp,itemid,property,value", **options) -> tabular.SourceFrames:
        lines = [",".join(map(str, (1_000 * row[0], *row[1:]))) for row in rows]
        (tmp_path / "i.csv").write_text("\n".join([header, *lines]) + "\n")
        return tabular.read(tmp_path / "a.csv", tmp_path / "i.csv", **options)

    return read


def known(log: EventLog, item_id: str) -> list[tuple[int, dict]]:
    versions = log.versions("item", [item_id])[item_id]
    return [(event.event_timestamp // SECOND, event.attributes) for _, event in versions]


def test_properties_become_versions_as_of_their_time(log: EventLog, clock: Clock, read, tmp_path: Path) -> None:
    report = import_source(log, read(ROWS), clock, "a")
    assert (report.items.accepted, report.items.quarantined) == (4, 0)
    assert known(log, "1") == [
        (FIRST, {"categoryid": "a", "price": 5}), (SECOND_WEEK, {"categoryid": "a", "price": 7})]  # fmt: skip
    assert known(log, "2") == [(FIRST, {"available": True}), (THIRD, {"available": False})]
    again = import_source(log, read(ROWS), clock, "a")
    assert (again.items.accepted, again.items.repeated) == (0, 4)
    lake = Lake(tmp_path / "lake")
    lake.ingest(log)
    assert lake.items()["attributes"].tolist() == ['{"categoryid":"a","price":7}', '{"available":false}']


def test_withdrawn_versions_come_back_as_of_their_time(log: EventLog, clock: Clock, read) -> None:
    import_source(log, read(ROWS), clock, "a")
    before = known(log, "1")
    assert withdraw(log, 1).retired == 2  # type: ignore[union-attr]
    assert known(log, "1") == [*before, (0, {"retired": True})]
    import_source(log, read(ROWS), clock, "a")
    assert known(log, "1")[len(before) + 1 :] == before


def test_other_names_are_said_by_the_map(read) -> None:
    options = {"items_map": "property=what,event_timestamp=at,item_id=sku,value=v", "items_long": True}
    items = read(ROWS, "at,sku,what,v", **options).items
    assert items["attributes"].tolist() == read(ROWS).items["attributes"].tolist()
    with pytest.raises(DataContractError, match="property"):
        read(ROWS, "at,sku,x,v", items_long=True, items_map="event_timestamp=at,item_id=sku,value=v")


def test_a_table_with_more_columns_is_none(read) -> None:
    rows = [(FIRST, 1, "p", "v", "One")]
    attributes = read(rows, "timestamp,itemid,property,value,title").items["attributes"][0]
    assert attributes == {"timestamp": 1_000 * FIRST, "property": "p", "value": "v", "title": "One"}


def test_rows_without_a_property_or_a_time_are_turned_away(log: EventLog, clock: Clock, read) -> None:
    source = read([*ROWS, (FIRST, 1, "", 5), (FIRST, "", "price", 5)])
    report: ImportReport = import_source(log, source, clock, "a")
    assert (report.items.accepted, report.items.quarantined) == (4, 2)


def test_parts_in_any_order_tell_the_same(log: EventLog, clock: Clock, read) -> None:
    for part in (ROWS[4:], ROWS[:4]):
        import_source(log, read(part), clock, "a")
    assert known(log, "1")[-1] == (THIRD, {"categoryid": "a", "price": 7})
    assert known(log, "2")[-1] == (THIRD, {"available": False})
    for part in (ROWS[4:], ROWS[:4]):
        assert import_source(log, read(part), clock, "a").items.accepted == 0


def test_history_brings_no_item_back_that_was_deleted_since(log: EventLog, clock: Clock, read) -> None:
    deleted = Item(event_id="d", event_timestamp=clock() - SECOND, item_id="2", attributes={"retired": True})
    log.append([deleted, Item(event_id="e", event_timestamp=clock(), item_id="2", attributes={"available": False})])
    log.append([Item(event_id="f", event_timestamp=clock(), item_id="2", attributes={"retired": True, "x": 1})])
    report = import_source(log, read([(FIRST, 2, "retired", 0), (FIRST, 2, "price", 5)]), clock, "a")
    assert report.shown_again == []
    assert known(log, "2")[-1][1] == {"retired": True, "x": 1, "price": 5}


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path: Path) -> None:
    rows = 100_000
    random = np.random.default_rng(0)
    frame = pd.DataFrame({
        "timestamp": (FIRST + WEEK * random.integers(0, 18, rows)) * 1_000, "itemid": random.integers(0, 80_000, rows),
        "property": random.integers(0, 1_100, rows).astype(str), "value": random.integers(0, 99, rows)})  # fmt: skip
    frame.to_csv(tmp_path / "i.csv", index=False)
    (tmp_path / "a.csv").write_text("timestamp,visitorid,event,itemid\n1431226800000,u,view,1\n")
    started = time.process_time()
    source = tabular.read(tmp_path / "a.csv", tmp_path / "i.csv")
    assert len(source.items) > 80_000
    assert time.process_time() - started < 8
