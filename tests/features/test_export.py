"""What is exported is all there is, can be read back, and is written whole or not at all."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from attune import files
from attune.clock import SECOND, Clock
from attune.errors import ConfigError, DataContractError
from attune.event_log import EventLog, prepare
from attune.events import Feedback, Interaction, Item, Shown, Slate, User
from features import export as exporting
from features.export import FORMATS, Format, export
from features.importer import import_source
from features.sources import tabular

Act = Callable[..., Interaction]

SLATE = Slate(
    event_id="s1", event_timestamp=5, user_id="u", model_version="1", served_by="champion", policy={"name": "x"},
    shown=[Shown("i", 1.0, 0.5)], candidates=[], context={"page": 'a "quoted", one'}, state_position=0,
)  # fmt: skip


@pytest.fixture
def other(tmp_path: Path, clock: Clock) -> Iterator[EventLog]:
    url = f"sqlite:///{tmp_path / 'other' / 'events.db'}"
    prepare(url)
    with closing(EventLog(url, clock)) as log:
        yield log


@pytest.fixture
def one_of_each(log: EventLog, act: Act) -> EventLog:
    log.append([
        Item(event_id="i1", event_timestamp=0, item_id="i", attributes={"title": "Tea, green", "genres": ["x"]}),
        User(event_id="u1", event_timestamp=0, user_id="u", attributes={"age": 3}), SLATE, act("u", "i", 7),
        Feedback(event_id="f1", event_timestamp=6, user_id="u", item_id="i", kind="like", slate_id="s1"),
    ])  # fmt: skip
    return log


def rows(log: EventLog) -> list[tuple[str, str, str, float | None, int]]:
    events = [one.event for one in log.read(0, 10**6) if isinstance(one.event, Interaction)]
    return sorted((one.user_id, one.item_id, one.kind, one.value, one.event_timestamp) for one in events)


@pytest.mark.parametrize("format", ["csv", "parquet"])
@pytest.mark.parametrize("moment", [0, 1_700_000_000 * SECOND])
def test_exported_interactions_can_be_imported_again(
    log: EventLog, other: EventLog, act: Act, clock: Clock, tmp_path: Path, format: Format, moment: int
) -> None:
    draw = random.Random(5)
    names = ["ada", "007", "1.0", "12", "日本", 'a "b", c', "x;y|z", "it's"]
    kinds = [
        ("rating", lambda: draw.randint(1, 10) / 2),
        ("dwell", lambda: draw.random() * 100),
        ("like", lambda: None),
    ]
    for number in range(300):
        kind, value = kinds[number % 3]
        seconds = moment / SECOND + draw.random() * 10**6
        log.append([act(draw.choice(names), draw.choice(names), seconds, kind, value())])
    assert export(log, tmp_path / "out", format) == {"interaction": 300}
    read = tabular.read(tmp_path / "out" / f"interaction.{format}")
    report = import_source(other, read, clock, "export")
    assert (report.rows_in, report.accepted, report.quarantined) == (300, 300, 0)
    assert rows(other) == rows(log)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_a_type(one_of_each: EventLog, tmp_path: Path, format: Format) -> None:
    counts = export(one_of_each, tmp_path / "deep" / "out", format)
    assert counts == dict.fromkeys(["feedback", "interaction", "item", "slate", "user"], 1)
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == [
        f"{name}.{format}" for name in counts
    ]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_lines_of_json_hold_whole_events(one_of_each: EventLog, tmp_path: Path, clock: Clock) -> None:
    export(one_of_each, tmp_path / "out", "jsonl")
    lines = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()}
    assert lines["slate"]["context"] == SLATE.context
    assert lines["slate"]["shown"] == [{"item_id": "i", "score": 1.0, "propensity": 0.5}]
    assert lines["item"]["attributes"] == {"title": "Tea, green", "genres": ["x"]}
    assert lines["feedback"] == {
        "type": "feedback", "event_id": "f1", "event_timestamp": "1970-01-01T00:00:00.000006Z", "user_id": "u",
        "item_id": "i", "kind": "like", "slate_id": "s1", "position": 5, "logged_at": "2024-10-04T00:00:00Z",
    }  # fmt: skip


def test_some_positions_and_types_in_bounded_pieces(
    log: EventLog, act: Act, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "CHUNK", 7)
    log.append([act("u", "i", number) for number in range(50)])
    log.append([Item(event_id="i1", event_timestamp=0, item_id="i", attributes={})])
    log.append([act("u", "i", number) for number in range(50)])
    assert export(log, tmp_path / "some", "parquet", 10, 60, ("interaction",)) == {"interaction": 49}
    positions = pq.read_table(tmp_path / "some" / "interaction.parquet")["position"].to_pylist()
    assert positions == [*range(11, 51), *range(52, 61)]
    assert export(log, tmp_path / "none", "parquet", 10, 60, ("user",)) == {}
    assert list((tmp_path / "none").iterdir()) == []


def test_what_cannot_be_meant_or_written_is_refused(
    one_of_each: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'xml' is not one of parquet, csv, jsonl"):
        export(one_of_each, tmp_path / "out", "xml")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'event' is not one of interaction"):
        export(one_of_each, tmp_path / "out", types=("event",))
    with pytest.raises(ConfigError, match="exists already"):
        export(one_of_each, tmp_path)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(DataContractError, match=r"No space left on device.*nothing was kept"):
        export(one_of_each, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_times_are_moments(one_of_each: EventLog, tmp_path: Path) -> None:
    export(one_of_each, tmp_path / "out", "csv", types=("interaction",))
    header, line = (tmp_path / "out" / "interaction.csv").read_text().splitlines()
    assert header.replace('"', "").startswith("user_id,item_id,kind,value,retracts,event_timestamp,event_id,position")
    assert "1970-01-01 00:00:07.000000Z" in line
    export(one_of_each, tmp_path / "parquet", types=("interaction",))
    schema = pq.read_schema(tmp_path / "parquet" / "interaction.parquet")
    assert {schema.field(name).type for name in exporting.TIMES} == {exporting.MOMENT}
