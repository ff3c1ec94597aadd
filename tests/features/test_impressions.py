"""Impression logs: lists with clicks become impressions with positions, and clicks, and no slates."""

from pathlib import Path

import pandas as pd
import pytest

from attune.clock import SECOND, Clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from features.importer import import_source
from features.labels import labels
from features.lake import Lake
from features.logged_slates import write_slates
from features.sources import impressions

MIND = (
    "1\tU7\t11/11/2019 9:05:58 AM\tN9 N8\tN1-0 N2-1 N3-0\n"
    "2\tU8\t11/12/2019 6:11:30 PM\t\tN3-1 N1-1\n"
    "3\tU8\t11/12/2019 6:12:30 PM\tN3\tN2-0\n"
)
COLUMNS = "impression_id,user_id,event_timestamp,history,shown"
WHEN = {"time_format": "%m/%d/%Y %I:%M:%S %p"}
EXPECTED = [
    ("U7", "N1", "impression", 1), ("U7", "N2", "impression", 2), ("U7", "N3", "impression", 3),
    ("U7", "N2", "click", None),
    ("U8", "N3", "impression", 1), ("U8", "N1", "impression", 2), ("U8", "N3", "click", None),
    ("U8", "N1", "click", None), ("U8", "N2", "impression", 1),
]  # fmt: skip


def rows(frames: impressions.SourceFrames) -> list[tuple]:
    names = ["user_id", "item_id", "kind", "value"]
    return list(frames.interactions[names].itertuples(index=False, name=None))


def test_lists_with_marks(tmp_path: Path) -> None:
    (tmp_path / "behaviors.tsv").write_text(MIND)
    source = impressions.read(tmp_path / "behaviors.tsv", columns=COLUMNS, **WHEN)
    assert rows(source) == EXPECTED
    assert source.interactions["event_timestamp"].nunique() == 3
    assert source.interactions["event_timestamp"][0] == 1_573_463_158 * SECOND


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_clicks_in_a_column_of_their_own(tmp_path: Path, suffix: str) -> None:
    lists = [("U7", ["N1", "N2", "N3"], ["N2"]), ("U8", ["N3", "N1"], ["N3", "N1"]), ("U8", ["N2"], [])]
    frame = pd.DataFrame(lists, columns=["user_id", "slate", "clicked"]).assign(ts=range(1_573_463_158, 1_573_463_161))
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    else:
        joined = {name: frame[name].map(" ".join) for name in ("slate", "clicked")}
        frame.assign(**joined).to_csv(path, index=False)
    assert rows(impressions.read(path, "shown=slate,event_timestamp=ts")) == EXPECTED


def test_nothing_that_says_what_was_clicked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,event_timestamp,shown\nu,1573463158,N1 N2\n")
    with pytest.raises(DataContractError, match=r"clicked=\.\.\..*'N1' does not"):
        impressions.read(tmp_path / "a.csv")
    with pytest.raises(DataContractError, match="'item_id' is not one of user_id"):
        impressions.read(tmp_path / "a.csv", "item_id=shown")


def test_imported_once_and_known_apart_from_slates(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(MIND + "4\t\t11/12/2019 6:12:30 PM\tN3\tN2-0\n5\tU9\tsoon\tN3\tN2-0\n")
    for accepted in (9, 0):
        source = impressions.read(tmp_path / "a.tsv", columns=COLUMNS, **WHEN)
        report = import_source(log, source, clock, "a")
        assert (report.rows_in, report.accepted, report.quarantined) == (11, accepted, 2)
    assert log.counts() == {"interaction": 9}
    lake = Lake(tmp_path / "lake")
    lake.ingest(log)
    told = labels(lake)
    assert (told.counts["slates"], told.counts["reactions"], told.counts["organic"]) == (0, 0, 3)
    assert write_slates(lake, tmp_path / "slates", "1", 0).rows == 0
