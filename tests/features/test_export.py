"""What is exported is all there is, can be read back, and is written whole or not at all."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from attune import files
from attune.clock import DAY, SECOND, Clock
from attune.errors import ConfigError, DataContractError
from attune.event_log import EventLog, prepare
from attune.event_types import KINDS
from attune.events import AnyEvent, Candidate, Feedback, Interaction, Item, Shown, Slate, User
from features import export as exporting
from features import importer as importing
from features.export import FORMATS, Format, export
from features.importer import import_log, import_source
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
    names = ["ada", "007", "1.10", "12", "日本", 'a "b", c', "x;y|z", "it's"]
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


TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=6)
MOMENTS = st.integers(-150 * 365 * DAY, 20_000 * DAY)
CELLS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
ATTRIBUTES = st.dictionaries(TEXT, CELLS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
                             | st.lists(CELLS | TEXT, max_size=3), max_size=4)  # fmt: skip
SCORES = st.floats(-100, 100)


@st.composite
def events(draw: st.DrawFn) -> list[AnyEvent]:
    """Events of every type, whose take-backs name events of any sort."""
    ids = draw(st.lists(TEXT, unique=True, max_size=12))
    made: list[AnyEvent] = []
    for event_id in ids:
        head = {"event_id": event_id, "event_timestamp": draw(MOMENTS)}
        whose, what = {"user_id": draw(TEXT)}, {"item_id": draw(TEXT)}
        kind = KINDS[draw(st.sampled_from(["view", "rating", "dwell", "retract"]))]
        done = {
            "kind": kind.name,
            "value": draw(st.floats(max(kind.low, 0.0), min(kind.high, 1e9))) if kind.needs_value else None,
            "retracts": draw(st.sampled_from([*ids, "unknown"])) if kind.name == "retract" else None,
        }
        shown = draw(st.lists(st.builds(Shown, TEXT, SCORES, st.floats(0, 1)), max_size=3))
        made.append(draw(st.sampled_from([
            Interaction(**head, **whose, **what, **done),
            Feedback(**head, **whose, **what, **done, slate_id=draw(st.sampled_from(ids))),
            Item(**head, **what, attributes=draw(ATTRIBUTES)), User(**head, **whose, attributes=draw(ATTRIBUTES)),
            Slate(**head, **whose, model_version="7", served_by="champion", policy={"name": "greedy", "seed": 2**60},
                  shown=shown, candidates=[Candidate(one.item_id, one.score, "new") for one in shown],
                  context={"where": draw(TEXT)}, state_position=9),
        ])))  # fmt: skip
    return made


@profile(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_events=events(), format=st.sampled_from(FORMATS))
def test_importing_an_export_is_its_inverse(
    clock: Clock, tmp_path_factory: pytest.TempPathFactory, given_events: list[AnyEvent], format: Format
) -> None:
    folder = tmp_path_factory.mktemp("inverse")
    urls = [f"sqlite:///{folder / name}.db" for name in ("first", "second")]
    for url in urls:
        prepare(url)
    with closing(EventLog(urls[0], clock)) as first, closing(EventLog(urls[1], clock)) as second:
        first.append(given_events[: len(given_events) // 2])
        first.append(given_events[len(given_events) // 2 :])
        if not export(first, folder / "out", format):
            return
        for log, accepted in ((second, len(given_events)), (second, 0), (first, 0)):
            tally = import_log(log, folder / "out", clock, "out")
            assert (tally.rows_in, tally.accepted, tally.quarantined) == (len(given_events), accepted, 0), tally.reasons
            assert [logged.event for logged in log.read(0, 100)] == given_events


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_read_in_pieces_and_bad_rows_are_quarantined(
    log: EventLog,
    other: EventLog,
    act: Act,
    clock: Clock,
    tmp_path: Path,
    format: Format,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importing, "CHUNK", 7)
    log.append([act("u", "i", number) for number in range(30)])
    log.append([act("u", "i", 10**10)])
    other.append([act("other", "j", 1)])
    other.append([Interaction(event_id="e3", event_timestamp=5, user_id="w", item_id="i", kind="view")])
    export(log, tmp_path / "out", format)
    tally = import_log(other, tmp_path / "out", clock, "out")
    assert (tally.rows_in, tally.accepted, tally.repeated, tally.quarantined) == (31, 29, 0, 2)
    assert {reason.split(":")[0] for reason in tally.reasons} == {"event_timestamp", "event_id"}
    assert other.quarantined() == 2


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_is_read_once_and_checked_before_anything_is_written(
    one_of_each: EventLog, other: EventLog, act: Act, clock: Clock, tmp_path: Path, format: Format
) -> None:
    one_of_each.append([act("u", "i", 10**10)])
    export(one_of_each, tmp_path / "out", format)
    told: list[importing.Tally] = []

    def check(expected: importing.Tally) -> None:
        told.append(expected)
        assert other.head() == 0
        shutil.rmtree(tmp_path / "out")

    tally = import_log(other, tmp_path / "out", clock, "out", check)
    assert told == [tally]
    assert (tally.rows_in, tally.accepted, tally.quarantined) == (6, 5, 1)

    def refuse(expected: importing.Tally) -> None:
        raise DataContractError("too many")

    export(one_of_each, tmp_path / "again", format)
    head = other.head()
    with pytest.raises(DataContractError, match="too many"):
        import_log(other, tmp_path / "again", clock, "again", refuse)
    assert (other.head(), other.quarantined(), len(other.imports.latest(9))) == (head, 1, 1)


def test_what_is_no_export_is_refused(log: EventLog, act: Act, clock: Clock, tmp_path: Path) -> None:
    with pytest.raises(DataContractError, match=r"it holds none of interaction\.parquet"):
        import_log(log, tmp_path, clock, "x")
    for name, content in (("jsonl", '{"user_id": "u"}\n'), ("csv", "a,b\n1,2\n"), ("parquet", "PAR1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"interaction.{name}").write_text(content)
        with pytest.raises(DataContractError, match="is not as `attune export` wrote it"):
            import_log(log, tmp_path / name, clock, "x")
    assert log.head() == 0


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
