"""`attune quarantine`: what lies there, and how mended rows come back."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from attune.event_log import EventLog
from attune.settings import Settings


@pytest.fixture
def file(attune, tmp_path: Path) -> Path:
    """A file of which two of three rows were turned away."""
    path = tmp_path / "events.csv"
    path.write_text(
        "user_id,item_id,event_timestamp,kind\n1,a,1000000000,clik\n1,a,1000000000,click\n2,,1000000000,like\n"
    )
    assert attune("import", "tabular", "--interactions", str(path), "--most-quarantined", "1")[0] == 0
    return path


def test_mended_rows_come_back_once(attune, file: Path, tmp_path: Path) -> None:
    listed = json.loads(attune("quarantine", "list", "--json")[1])["quarantine"]
    assert [(row["source"], row["type"], row["field"], row["rows"]) for row in listed] == [
        ("events.csv", "interaction", "kind", 1), ("events.csv", "interaction", "item_id", 1)]  # fmt: skip
    assert "did you mean 'click'" in " ".join(attune("quarantine", "list")[1].split())
    target = tmp_path / "bad.jsonl"
    assert json.loads(attune("quarantine", "export", str(target), "--json")[1])["rows"] == 2
    assert "exists already" in attune("quarantine", "export", str(target))[2]
    target.write_text(target.read_text().replace("clik", "click"))
    for accepted, left in ((1, 1), (0, 1)):
        tally = json.loads(attune("quarantine", "replay", str(target), "--json")[1])
        assert (tally["accepted"], tally["quarantined"], tally["open"]) == (accepted, 1, left)
    status, out, _ = attune("quarantine", "replay")
    assert (status, "1 rows are open" in out, "  1 rows: item_id: absent" in out) == (0, True, True)
    with closing(EventLog(Settings().log_url)) as log:
        assert log.counts() == {"interaction": 2}
    assert attune("import", "withdraw", "2")[0] == 0
    assert json.loads(attune("quarantine", "list", "--source", "other", "--json")[1]) == {"quarantine": []}


def test_a_file_that_is_no_export_is_refused(attune, file: Path) -> None:
    status, _, err = attune("quarantine", "replay", str(file))
    assert (status, "events.csv:1 is no line of" in err) == (1, True)
    assert attune("quarantine", "replay", "/no/such.jsonl")[0] == 1
