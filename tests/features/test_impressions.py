"""Impression logs: lists with clicks become impressions with positions, and clicks, and no slates."""

from pathlib import Path

import pandas as pd
import pytest

from attune.clock import SECOND, Clock
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import IMPORTED, Feedback, Shown, Slate
from evaluation.offpolicy.logs import slate_log
from features.importer import import_source
from features.labels import UNKNOWN_SLATE, labels
from features.lake import Lake
from features.logged_slates import ANOTHER_VERSION, NOT_DRAWN, write_slates
from features.sources import impressions
from features.withdrawal import Withdrawal, withdraw

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


def test_a_frame_is_read_as_a_file_is() -> None:
    lists = [("U7", ["N1", "N2", "N3"], ["N2"]), ("U8", ["N3", "N1"], ["N3", "N1"]), ("U8", ["N2"], [])]
    frame = pd.DataFrame(lists, columns=["user_id", "shown", "clicked"])
    assert rows(impressions.read(frame.assign(event_timestamp=range(1_573_463_158, 1_573_463_161)))) == EXPECTED


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


WITH_PROPENSITIES = (
    "user_id,event_timestamp,shown,clicked,propensities\n"
    "U7,1573463158,N1 N2 N3,N2,0.5 0.25 0.25\n"
    "U8,1573463159,N3 N1,,\n"
    "U8,1573463160,N2 N1,N1,0.5 1.5\n"
    "U9,1573463161,N2 N1,N1,0.5\n"
    "U9,1573463162,N3,,1\n"
)


def test_propensities_make_imported_slates_that_off_policy_estimates_use(
    log: EventLog, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(WITH_PROPENSITIES)
    own = Slate(
        event_id="own", event_timestamp=0, user_id="U7", model_version="1", served_by="champion",
        policy={"name": "softmax"}, shown=[Shown("N1", 1.0, 0.25), Shown("N2", 0.5, 0.5)], candidates=[], context={},
        state_position=0,
    )  # fmt: skip
    log.append(
        [own, Feedback(event_id="f", event_timestamp=1, user_id="U7", item_id="N1", kind="like", slate_id="own")]
    )
    for accepted in (3, 0):
        report = import_source(log, impressions.read(tmp_path / "a.csv"), clock, "a")
        assert (report.slates.rows_in, report.slates.accepted, report.slates.quarantined) == (5, accepted, 2)
        assert (report.rows_in, report.quarantined) == (13, 0)
    reasons = sorted(row.reason for row in log.quarantined_rows(0, 9) if row.type == "slate")
    assert reasons == [
        "propensities: 1.5 is no probability above 0 and at most 1",
        "propensities: [0.5]: as many as the items shown (2), or none",
    ]
    lake = Lake(tmp_path / "lake")
    lake.ingest(log)
    told, others = labels(lake), labels(lake, imported=True)
    assert told.frame["item_id"].tolist() == ["N1", "N2"]
    assert (told.counts["reactions"], told.counts[UNKNOWN_SLATE]) == (1, 2), "the clicks on lists in quarantine"
    assert others.frame["item_id"].tolist() == ["N1", "N2", "N3", "N3", "N1", "N3"]
    assert others.frame["kind"].tolist() == [None, "click", None, None, None, None]
    assert others.frame["propensity"].fillna(0).tolist() == [0.5, 0.25, 0.25, 0, 0, 1]
    assert others.frame["score"].isna().all(), "the examination curve takes no scores that nobody gave"
    assert (others.counts["slates"], others.counts["reactions"]) == (3, 1)
    ours = write_slates(lake, tmp_path / "own", "1", 0)
    assert (ours.rows, ours.left_out["imported"]) == (1, 3)
    written = write_slates(lake, tmp_path / "imported", IMPORTED, 0)
    assert (written.rows, written.left_out[ANOTHER_VERSION], written.left_out[NOT_DRAWN]) == (2, 1, 1)
    logged = slate_log(tmp_path / "imported", lambda user_id, moment, items: [1 / len(items)] * len(items))
    assert logged.users_S.tolist() == ["U7", "U9"]
    assert logged.propensities_SK.tolist() == [[0.5, 0.25, 0.25], [1, 1, 1]]
    assert logged.shown_SK.tolist() == [[True, True, True], [True, False, False]]
    assert logged.rewards_SK[0, 1] > logged.rewards_SK[0, 0] == 0
    assert logged.chances_SK[0].tolist() == pytest.approx([1 / 3] * 3)


def test_a_withdrawn_import_of_slates_judges_nothing_and_comes_back(
    log: EventLog, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(WITH_PROPENSITIES)
    counts = []
    for withdrawn in (True, False):
        report = import_source(log, impressions.read(tmp_path / "a.csv"), clock, "a")
        assert report.slates.accepted == 3
        if withdrawn:
            assert withdraw(log, 1) == Withdrawal(taken_back=16)
        lake = Lake(tmp_path / f"lake{withdrawn}")
        lake.ingest(log)
        told = labels(lake, imported=True)
        counts.append((told.counts["slates"], told.counts["reactions"]))
    assert counts == [(0, 0), (3, 1)]


def test_ids_have_the_spelling_that_every_door_writes(tmp_path: Path) -> None:
    lists = pd.DataFrame({"user_id": ["u"], "event_timestamp": [1_573_463_158]})
    lists.assign(shown=[[12.0, 13.0]], clicked=[[13.0]]).to_parquet(tmp_path / "a.parquet")
    assert rows(impressions.read(tmp_path / "a.parquet"))[1:] == [
        ("u", "13", "impression", 2),
        ("u", "13", "click", None),
    ]
