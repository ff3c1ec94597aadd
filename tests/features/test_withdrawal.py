"""A withdrawn import leaves what stands as if it had never been, and can come back by another one."""

import csv
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from attune.clock import DAY, SECOND, Clock
from attune.errors import DataContractError, EventLogError
from attune.event_log import EventLog, prepare
from attune.events import AnyEvent, Behaviour, Interaction, Item, LoggedEvent
from attune.group_commit import GroupCommit
from attune.user_state import UserState, fold
from features import training_set
from features.export import export
from features.importer import import_log, import_source
from features.lake import Lake
from features.sources import tabular
from features.stats import Statistics, take_backs, user_stats
from features.withdrawal import withdraw

NUMBERS = itertools.count()
HEADER = ("user_id", "item_id", "value", "event_timestamp")
RATINGS = [("u", "a", "4", "1000"), ("u", "b", "2", "1001"), ("v", "a", "5", "1002"), ("v", "a", "5", "1002")]
SWAPPED = "user_id=item_id,item_id=user_id"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_log(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[EventLog]:
    """An empty log, once on SQLite and once on PostgreSQL."""
    url = f"sqlite:///{tmp_path / 'own' / 'events.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_database")(f"withdrawal_{next(NUMBERS)}")
    prepare(url)
    with closing(EventLog(url, clock)) as log:
        yield log


def write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> Path:
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def standing(log: EventLog, folder: Path) -> list[tuple[Any, ...]]:
    """The behaviour that was not taken back, as training sets have it."""
    lake = Lake(folder / f"lake{next(NUMBERS)}")
    lake.ingest(log)
    frame = lake.events(0, None, ("interaction", "feedback")).to_pandas()
    gone = take_backs(frame, frame)["event_id"]
    frame = frame[(frame["kind"] != "retract") & ~frame["event_id"].isin(gone)]
    return sorted(zip(*(frame[name] for name in ("user_id", "item_id", "value", "event_timestamp")), strict=True))


def told(rows: list[tuple[str, ...]]) -> list[tuple[Any, ...]]:
    return sorted((user, item, float(value), int(when) * 1_000_000) for user, item, value, when in rows)


def test_a_withdrawn_import_comes_back_by_the_right_mapping(any_log: EventLog, clock: Clock, tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", RATINGS)
    import_source(
        any_log, tabular.read(path, kind="rating", unit="s", mapping=SWAPPED), clock, "r", options={"map": SWAPPED}
    )
    assert withdraw(any_log, 1).taken_back == 4  # type: ignore[union-attr]
    assert standing(any_log, tmp_path) == []
    assert withdraw(any_log, 1) is None
    for _ in range(2):
        import_source(any_log, tabular.read(path, kind="rating", unit="s"), clock, "r")
    assert standing(any_log, tmp_path) == told(RATINGS)
    assert [one.events for one in any_log.imports.latest(9)] == [0, 4, 4]
    lake = Lake(tmp_path / "items")
    lake.ingest(any_log)
    assert lake.items()["item_id"].tolist() == ["a", "b"], "users that were taken for items are none"
    assert fold(UserState("a"), any_log.tail("a", 0)).seen == ()
    state = fold(UserState("u"), any_log.tail("u", 0))
    assert (state.seen, [entry.retracted for entry in state.recent]) == (("a", "b"), [False, False])


def test_equal_rows_come_back_as_often_as_they_are_withdrawn(any_log: EventLog, clock: Clock, tmp_path: Path) -> None:
    source = tabular.read(write(tmp_path / "r.csv", RATINGS), kind="rating", unit="s")
    for number in range(1, 4):
        assert import_source(any_log, source, clock, "r").accepted == 4
        assert import_source(any_log, source, clock, "r").repeated == 4
        assert standing(any_log, tmp_path) == told(RATINGS)
        assert withdraw(any_log, 2 * number - 1).taken_back == 4  # type: ignore[union-attr]
        assert withdraw(any_log, 2 * number).taken_back == 0  # type: ignore[union-attr]
        assert standing(any_log, tmp_path) == []


CELLS = st.tuples(*map(st.sampled_from, ("uv", "ab", "45", "67")))


@profile(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.lists(CELLS, max_size=4), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=8),
)  # fmt: skip
def test_any_imports_and_withdrawals(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, files: list[Any], steps: list[tuple[bool, int]]
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    sources = [tabular.read(write(folder / f"{n}.csv", [*rows, ("w", "c", "3", "8")]), kind="rating", unit="s")
               for n, rows in enumerate(files)]  # fmt: skip
    url = f"sqlite:///{folder / 'events.db'}"
    prepare(url)
    owners: dict[tuple[str, ...], int] = {}
    imports = 0
    with closing(EventLog(url, clock)) as log:
        for is_import, number in steps:
            if is_import:
                number %= len(sources)
                import_source(log, sources[number], clock, str(number))
                imports += 1
                seen: dict[tuple[str, ...], int] = {}
                for row in [*files[number], ("w", "c", "3", "8")]:
                    seen[row] = seen.get(row, 0) + 1
                    owners.setdefault((*row, str(seen[row])), imports)
            elif imports:
                number = number % imports + 1
                withdraw(log, number)
                owners = {row: owner for row, owner in owners.items() if owner != number}
        assert standing(log, folder) == told([row[:4] for row in owners])


def killed_after(log: EventLog, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log dies at its next append but ``calls``, once."""
    append, left = log.append, itertools.count(calls, -1)

    def dying(events: list[AnyEvent], import_id: int | None = None) -> Any:
        if next(left) == 0:
            raise EventLogError("killed")
        return append(events, import_id)

    monkeypatch.setattr(log, "append", dying)


@pytest.mark.parametrize("calls", range(5))
def test_killed_halfway_it_ends_as_if_it_had_not_been(
    any_log: EventLog, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    for module in ("importer", "withdrawal"):
        monkeypatch.setattr(f"features.{module}.CHUNK", 2)
    rows = [("u", f"i{n}", "4", str(1000 + n)) for n in range(6)]
    items = write(tmp_path / "i.csv", [("i1", "One"), ("i2", "Two")], ("item_id", "title"))
    source = tabular.read(write(tmp_path / "r.csv", rows), items, kind="rating", unit="s")
    with monkeypatch.context() as context:
        killed_after(any_log, min(calls, 3), context)
        with pytest.raises(EventLogError, match="killed"):
            import_source(any_log, source, clock, "r")
    assert import_source(any_log, source, clock, "r").rows_in == 6
    assert [(one.events, one.state) for one in any_log.imports.latest(9)] == [(8, "done")]
    with monkeypatch.context() as context:
        killed_after(any_log, calls, context)
        with pytest.raises(EventLogError, match="killed"):
            withdraw(any_log, 1)
    withdraw(any_log, 1)
    assert standing(any_log, tmp_path) == []
    backs = [one for one in any_log.read(0, 100) if isinstance(one.event, Behaviour) and one.event.kind == "retract"]
    assert len(backs) == len({one.event.retracts for one in backs if isinstance(one.event, Behaviour)}) == 6
    assert [len(versions) for versions in any_log.versions("item", ["i1", "i2"]).values()] == [2, 2]
    assert import_source(any_log, source, clock, "r").accepted == 6
    assert standing(any_log, tmp_path) == told(rows)


class Titles:
    """Imports that name item i, and users u, one after another."""

    def __init__(self, log: EventLog, clock: Clock, folder: Path) -> None:
        self.log, self.clock, self.folder = log, clock, folder
        self.behaviour = write(folder / "a.csv", [])

    def take(self, title: str) -> int:
        items = write(self.folder / "i.csv", [("i", title)], ("item_id", "title"))
        users = write(self.folder / "u.csv", [("u", title)], ("user_id", "name"))
        behaviour = write(self.folder / "a.csv", [("u", "i", "4", "1")])
        import_source(self.log, tabular.read(behaviour, items, users, kind="rating", unit="s"), self.clock, title)
        return self.log.imports.latest(1)[0].import_id

    def known(self) -> tuple[dict[str, Any], dict[str, Any]]:
        versions = [self.log.versions(*one)[one[1][0]][-1][1] for one in (("item", ["i"]), ("user", ["u"]))]
        return versions[0].attributes, versions[1].attributes


def test_items_and_users_go_back_to_the_version_before(any_log: EventLog, clock: Clock, tmp_path: Path) -> None:
    titles = Titles(any_log, clock, tmp_path)
    first, second = titles.take("A"), titles.take("B")
    result = withdraw(any_log, second)
    assert (result.restored, result.retired, result.changed_since) == (2, 0, 0)  # type: ignore[union-attr]
    assert titles.known() == ({"title": "A"}, {"name": "A"})
    result = withdraw(any_log, first)
    assert (result.restored, result.retired, result.emptied) == (0, 1, 1)  # type: ignore[union-attr]
    assert titles.known() == ({"retired": True}, {})
    titles.take("A")
    assert titles.known() == ({"title": "A"}, {"name": "A"})


def test_a_withdrawn_version_is_not_gone_back_to(any_log: EventLog, clock: Clock, tmp_path: Path) -> None:
    titles = Titles(any_log, clock, tmp_path)
    first, second = titles.take("A"), titles.take("B")
    assert withdraw(any_log, first).changed_since == 2  # type: ignore[union-attr]
    assert titles.known() == ({"title": "B"}, {"name": "B"})
    withdraw(any_log, second)
    assert titles.known() == ({"retired": True}, {})


def test_what_another_source_changed_since_stays(any_log: EventLog, clock: Clock, tmp_path: Path) -> None:
    titles = Titles(any_log, clock, tmp_path)
    any_log.append([Item(event_id="put", event_timestamp=5, item_id="i", attributes={"title": "Z"})])
    number = titles.take("A")
    any_log.append([Item(event_id="patch", event_timestamp=6, item_id="i", attributes={"title": "A", "price": 3})])
    result = withdraw(any_log, number)
    assert (result.changed_since, result.emptied) == (1, 1)  # type: ignore[union-attr]
    assert titles.known()[0] == {"title": "A", "price": 3}


def test_live_events_between_those_of_an_import_stay(
    log: EventLog, act: Callable[..., Interaction], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.importer.CHUNK", 1)
    append = log.append

    def crowded(events: list[AnyEvent], import_id: int | None = None) -> Any:
        result = append(events, import_id)
        append([act("live", "x", 5)])
        return result

    with monkeypatch.context() as context:
        context.setattr(log, "append", crowded)
        import_source(log, tabular.read(write(tmp_path / "r.csv", RATINGS), kind="rating", unit="s"), clock, "r")
    withdraw(log, 1)
    assert [row[0] for row in standing(log, tmp_path)] == ["live"] * 4


def test_an_imported_log_is_withdrawn_and_comes_back(
    log: EventLog, act: Callable[..., Interaction], clock: Clock, tmp_path: Path
) -> None:
    log.append([act("u", "a", 1), act("u", "b", 2), act("u", "a", 3, "retract", retracts="e1")])
    log.append([Item(event_id="put", event_timestamp=5, item_id="b", attributes={"title": "Z"})])
    export(log, tmp_path / "out")
    url = f"sqlite:///{tmp_path / 'other.db'}"
    prepare(url)
    with closing(EventLog(url, clock)) as other:
        for number, taken_back in ((1, 2), (2, 2)):
            assert import_log(other, tmp_path / "out", clock, "out").quarantined == 0
            assert [row[1] for row in standing(other, tmp_path)] == ["b"]
            assert other.item("b").attributes == {"title": "Z"}  # type: ignore[union-attr]
            result = withdraw(other, number)
            assert other.item("b").attributes == {"retired": True}  # type: ignore[union-attr]
            assert (result.taken_back, result.put_back) == (taken_back, 0)  # type: ignore[union-attr]
            assert standing(other, tmp_path) == []
        export(other, tmp_path / "again")
        before: list[LoggedEvent] = other.read(0, 100)
        assert import_log(other, tmp_path / "again", clock, "again").accepted == 0
        assert other.read(0, 100) == before


def test_statistics_are_as_if_the_import_had_never_been(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    import_source(log, tabular.read(write(tmp_path / "wrong.csv", RATINGS), kind="rating", unit="s"), clock, "wrong")
    withdraw(log, 1)
    lake = Lake(tmp_path / "lake")
    lake.ingest(log)
    stats = user_stats(lake.events().to_pandas())
    assert (stats["user_events"].max(), stats["user_days_known"].notna().sum()) == (0, 0)
    import_source(log, tabular.read(write(tmp_path / "r.csv", RATINGS), kind="rating", unit="d"), clock, "r")
    lake.ingest(log)
    stats = user_stats(lake.events().to_pandas())
    assert stats["user_days_known"].max() < 2
    assert stats.groupby("user_id")["user_events"].max().to_dict() == {"u": 2, "v": 2}


def test_an_unknown_import_is_named(log: EventLog) -> None:
    with pytest.raises(DataContractError, match="there is no import 7"):
        withdraw(log, 7)


def test_take_backs_bear_the_time_of_their_events(log: EventLog, clock: Clock, tmp_path: Path) -> None:
    import_source(log, tabular.read(write(tmp_path / "r.csv", RATINGS), kind="rating", unit="s"), clock, "r")
    withdraw(log, 1)
    times = [logged.event.event_timestamp for logged in log.read(0, 100)]
    assert sorted(times[:4]) == sorted(times[4:])
    assert max(times) < DAY


def test_an_item_of_a_withdrawn_import_is_shown_when_it_comes_again(
    any_log: EventLog, clock: Clock, tmp_path: Path
) -> None:
    behaviour = write(tmp_path / "a.csv", [("u", "i", "4", "6")])
    for title in ("Onee", "One", "One"):
        (tmp_path / "i.csv").write_text(f"item_id,title\ni,{title}\n")
        source = tabular.read(behaviour, tmp_path / "i.csv", kind="rating", unit="s")
        report = import_source(any_log, source, clock, title)
        if title == "Onee":
            withdraw(any_log, 1)
            assert any_log.versions("item", ["i"])["i"][-1][1].attributes == {"retired": True}
    assert (report.items.accepted, report.items.repeated) == (0, 1)
    assert any_log.versions("item", ["i"])["i"][-1][1].attributes == {"title": "One"}


TOLD = ("event_id", "user_id", "item_id", "kind", "event_timestamp", "retracts")


def history(chance: Random) -> list[list[dict[str, Any]]]:
    """Rows of live events, of import 1, of live events, of import 3 and again of live events, take-backs among them."""
    count = chance.randint(1, 16)
    moments = chance.sample(range(count), count)
    parts: list[list[dict[str, Any]]] = [[] for _ in range(5)]
    for number, part in enumerate(sorted(chance.choices(range(5), k=count))):
        row: dict[str, Any] = {"event_id": f"e{number}", "event_timestamp": 1_000_000 + 1_800 * moments[number]}
        row |= {"user_id": chance.choice("uv"), "item_id": chance.choice("abcdefg")}
        row["kind"] = chance.choice(["like", "dislike", "retract"])
        row["retracts"] = f"e{chance.randint(0, count)}" if row["kind"] == "retract" else ""
        parts[part].append(row)
    return parts


def lived(log: EventLog, folder: Path, clock: Clock, parts: list[list[dict[str, Any]]], left_out: set[int]) -> None:
    """The parts one after another, without some of the imports."""
    for place, rows in enumerate(parts):
        if place % 2 == 0:
            moments = [row["event_timestamp"] * SECOND for row in rows]
            log.append([
                Interaction(**row | {"event_timestamp": moment, "retracts": row["retracts"] or None})
                for row, moment in zip(rows, moments, strict=True)
            ])  # fmt: skip
        elif place not in left_out and rows:
            brought(log, folder, clock, place, rows)


def brought(log: EventLog, folder: Path, clock: Clock, place: int, rows: list[dict[str, Any]]) -> None:
    path = write(folder / f"{place}.csv", [tuple(row[name] for name in TOLD) for row in rows], TOLD)
    assert import_source(log, tabular.read(path, unit="s"), clock, str(place)).quarantined == 0


def known(log: EventLog, folder: Path) -> tuple[Any, ...]:
    """What states, statistics and training sets make of the log, without the ids and positions of its events."""
    lake = Lake(folder / f"lake{next(NUMBERS)}")
    lake.ingest(log)
    behaviour = lake.events(0, None, ("interaction", "feedback")).to_pandas()
    rows = training_set.standing(behaviour).sort_values("event_timestamp", ignore_index=True)
    features = Statistics.of(behaviour).historical(rows.assign(event_timestamp=2_000_000 * SECOND)).round(5)
    counts = features[[name for name in features if not name.endswith("_days_known")]].fillna(-1)
    states = [fold(UserState(user_id), log.tail(user_id, 0)) for user_id in "uv"]
    recent = [[one[1:5] for one in state.recent if not one.retracted] for state in states]
    facts = rows[["user_id", "item_id", "kind", "event_timestamp"]]
    return facts.to_numpy().tolist(), counts.to_numpy().tolist(), recent, [set(state.seen) for state in states]


@profile(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_a_log_is_as_if_a_withdrawn_import_had_never_been_its_take_backs_too(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, seed: int
) -> None:
    chance = Random(seed)
    parts, gone, count = history(chance), chance.sample([1, 3], 2), chance.randint(1, 2)
    folder = tmp_path_factory.mktemp("parts")
    logs = []
    for name, left_out in (("log", set()), ("never", set(gone[:count]))):
        url = f"sqlite:///{folder / name}.db"
        prepare(url)
        logs.append(EventLog(url, clock))
        lived(logs[-1], folder, clock, parts, left_out)
    log, never = logs
    with closing(log), closing(never):
        whole = known(log, folder)
        owners = {one.source: one.import_id for one in log.imports.latest(9)}
        for place in gone[:count]:
            if str(place) in owners:
                withdraw(log, owners[str(place)])
        assert known(log, folder) == known(never, folder)
        # the rows come back under other ids, so who takes back by the old ones reaches nothing
        named = {row["retracts"] for place, part in enumerate(parts) if place != 3 for row in part}
        if gone[:count] == [3] and parts[3] and not named & {row["event_id"] for row in parts[3]}:
            brought(log, folder, clock, 3, parts[3])
            assert known(log, folder) == whole


def test_what_an_import_took_back_stands_again_as_live_as_it_was(
    log: EventLog, act: Callable[..., Interaction], clock: Clock, tmp_path: Path
) -> None:
    commit = GroupCommit(log)
    commit.start()
    commit.submit([act("u", "a", 1, "like"), act("u", "b", 2, "like")]).result(10)
    commit.close()
    log.append([act("u", "b", 3, "retract", retracts="e2")])
    rows = [("r1", "u", "a", "retract", "4", "e1"), ("r2", "u", "b", "retract", "4", "e2"),
            ("r3", "v", "a", "retract", "4", "e1"), ("r4", "u", "a", "retract", "4", "unknown")]  # fmt: skip
    import_source(log, tabular.read(write(tmp_path / "b.csv", rows, TOLD), unit="s"), clock, "b")
    assert fold(UserState("u"), log.tail("u", 0)).seen == ()
    result = withdraw(log, 1)
    assert (result.taken_back, result.put_back) == (0, 1)  # type: ignore[union-attr]
    state = fold(UserState("u"), log.tail("u", 0))
    assert (state.seen, [one.retracted for one in state.recent]) == (("a",), [True, False, True])
    last = log.read(log.head() - 1, 1)[0]
    assert (last.event.event_timestamp, last.is_live) == (SECOND, True)


@pytest.mark.parametrize("calls", range(2))
def test_what_an_import_took_back_stands_again_though_its_withdrawal_was_killed(
    log: EventLog, act: Callable[..., Interaction], clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    calls: int,
) -> None:  # fmt: skip
    log.append([act("u", "a", 1, "like")])
    rows = [("r1", "u", "a", "retract", "4", "e1")]
    import_source(log, tabular.read(write(tmp_path / "b.csv", rows, TOLD), unit="s"), clock, "b")
    with monkeypatch.context() as context:
        method = ("append", "append_rows")[calls]
        context.setattr(log, method, lambda *given: (_ for _ in ()).throw(EventLogError("killed")))
        with pytest.raises(EventLogError, match="killed"):
            withdraw(log, 1)
    withdraw(log, 1)
    assert fold(UserState("u"), log.tail("u", 0)).seen == ("a",)
    assert len(standing(log, tmp_path)) == 1
