"""The log's promises on SQLite and on PostgreSQL: content, order of reading, exactly once, quarantine, errors."""

import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pysqlite3.dbapi2 as sqlite
import pytest
from sqlalchemy import Row, desc, event, select

from attune.compiled_statements import COLUMNS
from attune.database import Database
from attune.errors import ConfigError, DataContractError, EventLogError, LogBusy
from attune.event_log import BASE, EventLog, prepare
from attune.events import Candidate, Feedback, Interaction, Item, Shown, Slate, User, to_row
from attune.row_rules import Rejection
from attune.tables import quarantine

NOW = 1_700_000_000_000_000


def click(event_id: str, user_id: str = "ada", item_id: str = "tea", time: int = 5) -> Interaction:
    return Interaction(event_id=event_id, event_timestamp=time, user_id=user_id, item_id=item_id, kind="click")


def item(event_id: str, item_id: str, **attributes: object) -> Item:
    return Item(event_id=event_id, event_timestamp=5, item_id=item_id, attributes=attributes)


def slate(slate_id: str, user_id: str = "ada", score: float = 0.1 + 0.2) -> Slate:
    return Slate(
        event_id=slate_id,
        event_timestamp=7,
        user_id=user_id,
        model_version="3",
        served_by="champion",
        policy={"name": "plackett-luce", "temperature": 0.5},
        shown=[Shown("tea", score, 1 / 3)],
        candidates=[Candidate("tea", score), Candidate("milk", -1.0)],
        context={"page": "home", "größe": [1, None, True]},
        state_position=41,
    )


def one_of_each() -> list[Interaction | Slate | Feedback | Item | User]:
    return [
        Interaction(event_id="e1", event_timestamp=-3, user_id="ada", item_id="茶", kind="rating", value=0.1 + 0.2),
        slate("e2"),
        Feedback(
            event_id="e3",
            event_timestamp=9,
            user_id="ada",
            item_id="tea",
            kind="retract",
            retracts="e1",
            slate_id="e2",
        ),
        Item(event_id="e4", event_timestamp=0, item_id="tea", attributes={"title": "Tee \u0000 ☕", "genres": ["hot"]}),
        User(event_id="e5", event_timestamp=1, user_id="ada", attributes={"age": 36, "score": 2.5, "old": False}),
    ]


def test_an_empty_log(log: EventLog) -> None:
    assert log.head() == 0
    assert log.read(0, 10) == []
    assert log.read_columns(0, None, 10) == {name: [] for name in COLUMNS}
    assert log.tail("ada", 0) == []
    assert log.slate("s") is None
    assert log.counts() == {}
    assert log.append([]).positions == []


def test_what_is_read_is_what_was_given(log: EventLog) -> None:
    given = one_of_each()
    appended = log.append(given)
    assert (appended.positions, appended.accepted, appended.repeated, appended.conflicts) == ([1, 2, 3, 4, 5], 5, 0, [])
    logged = log.read(0, 10)
    assert [one.event for one in logged] == given
    assert [one.event.digest() for one in logged] == [event.digest() for event in given]
    assert {one.logged_at for one in logged} == {NOW}
    assert log.head() == 5
    assert log.counts() == {"feedback": 1, "interaction": 1, "item": 1, "slate": 1, "user": 1}


def test_events_after_a_position_are_counted_by_type(log: EventLog) -> None:
    log.append(one_of_each())
    assert [log.number_after(after, ("interaction", "feedback")) for after in (0, 1, 3)] == [2, 1, 0]
    assert log.number_after(0, ("slate",)) == 1


def test_columns_hold_the_same_events(log: EventLog) -> None:
    given = one_of_each()
    log.append(given)
    columns = log.read_columns(0, None, 10)
    assert tuple(columns) == COLUMNS
    assert columns["position"] == [1, 2, 3, 4, 5]
    assert columns["type"] == ["interaction", "slate", "feedback", "item", "user"]
    assert columns["user_id"] == ["ada", "ada", "ada", None, "ada"]
    assert columns["item_id"] == ["茶", None, "tea", "tea", None]
    assert columns["value"] == [0.1 + 0.2, None, None, None, None]
    assert columns["slate_id"] == [None, None, "e2", None, None]
    assert columns["retracts"] == [None, None, "e1", None, None]
    assert columns["digest"] == [event.digest() for event in given]
    assert [payload is None for payload in columns["payload"]] == [True, False, True, False, False]
    assert log.read_columns(1, 4, 2, types=["item", "slate"])["event_id"] == ["e2", "e4"]


def test_reading_by_position_limit_and_type(log: EventLog) -> None:
    log.append(one_of_each())
    assert [one.position for one in log.read(2, 2)] == [3, 4]
    assert [one.position for one in log.read(1, 10, upto=3)] == [2, 3]
    assert [one.position for one in log.read(0, 10, types={"user", "slate"})] == [2, 5]
    assert log.read(0, 10, types=[]) == []
    assert log.read(5, 10) == []


def test_a_users_tail_leaves_slates_out(log: EventLog) -> None:
    log.append([*one_of_each(), click("e6", user_id="bob"), slate("e7")])
    assert [one.event.event_id for one in log.tail("ada", 0)] == ["e1", "e3", "e5"]
    assert [one.event.event_id for one in log.tail("ada", 3)] == ["e5"]
    assert [[one.position for one in log.tail(user, 0)] for user in ("ada", "bob", "eve")] == [[1, 3, 5], [6], []]


def test_looking_one_up(log: EventLog) -> None:
    log.append(one_of_each())
    found = log.slate("e2")
    assert found is not None
    assert (found.position, found.event) == (2, slate("e2"))
    assert log.slate("e1") is None
    assert log.find("e1") is not None
    assert log.find("e6") is None


def test_a_repeat_changes_nothing(log: EventLog) -> None:
    log.append(one_of_each())
    again = log.append([click("e6"), *one_of_each()])
    assert (again.positions, again.accepted, again.repeated, again.conflicts) == ([6, 1, 2, 3, 4, 5], 1, 5, [])
    assert log.head() == 6


def test_repeats_inside_one_batch(log: EventLog) -> None:
    appended = log.append([click("a"), click("b"), click("a"), click("b", item_id="milk"), click("c")])
    assert (appended.positions, appended.accepted, appended.repeated) == ([1, 2, 1, 0, 3], 3, 1)
    assert appended.conflicts == [3]


def test_the_same_id_with_other_content_is_refused(log: EventLog) -> None:
    log.append([click("a")])
    others = [click("a", time=6), User(event_id="a", event_timestamp=5, user_id="ada", attributes={}), click("b")]
    appended = log.append(others)
    assert (appended.positions, appended.conflicts, appended.accepted) == ([0, 0, 2], [0, 1], 1)
    assert [one.event for one in log.read(0, 10)] == [click("a"), click("b")]


def test_more_ids_than_one_look_up_holds(log: EventLog) -> None:
    batch = [click(f"e{number}") for number in range(2_500)]
    log.append(batch[1_000:1_500])
    appended = log.append(batch)
    assert (appended.accepted, appended.repeated) == (2_000, 500)
    assert appended.positions[1_000:1_500] == list(range(1, 501))
    assert [one.position for one in log.read(0, 5_000)] == list(range(1, 2_501))


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(click("\ud800"), id="half a surrogate pair"),
        pytest.param(click("a", user_id="a\x00"), id="a NUL"),
        pytest.param(slate("s", score=float("nan")), id="a score that is no number"),
        pytest.param(Item(event_id="i", event_timestamp=0, item_id="i", attributes={"a": object()}), id="an object"),
    ],
)
def test_what_could_not_be_read_back_is_refused_whole(log: EventLog, event: Interaction) -> None:
    with pytest.raises(DataContractError, match="cannot be stored"):
        log.append([click("fine"), event])
    assert log.head() == 0


def _latest_quarantined(url: str) -> Row[Any]:
    with closing(Database(url)) as database, database.reading() as connection:
        return connection.execute(select(quarantine).order_by(desc(quarantine.c.id)).limit(1)).one()


def test_quarantine_keeps_each_row_once(log: EventLog, url: str) -> None:
    rows = [{"user_id": "ada", "value": 9}, {"value": 9, "user_id": "ada"}, {"user_id": "bob"}]
    rejected = [Rejection(number, row, "value", "out of range") for number, row in enumerate(rows)]
    assert log.quarantine("interaction", "file.csv", rejected) == 3
    assert log.quarantine("interaction", "file.csv", rejected) == 0
    assert log.quarantine("interaction", "file.csv", rejected[:1] * 3) == 1
    assert log.quarantine("feedback", "file.csv", rejected[:1]) == 1
    assert log.quarantine("interaction", "other.csv", rejected[:1]) == 1
    assert log.quarantine("interaction", "file.csv", []) == 0
    assert log.quarantined() == 6
    latest = _latest_quarantined(url)
    assert (latest.source, latest.type, latest.row_number, latest.field) == ("other.csv", "interaction", 0, "value")
    assert (latest.row, latest.stored_at) == ('{"user_id": "ada", "value": 9}', NOW)


@pytest.mark.parametrize(
    "row",
    [
        {"text": "\ud800 and \x00", "huge": 10**5_000, "bytes": b"\xff", "nan": float("nan"), "\ud800\x00": object()},
        {1: {"nested": (1, b"2")}, None: {3}, 10**5_000: 1, ("a", 1): 2},
        ["no", "mapping"],
        None,
        b"\x00\xff",
    ],
    ids=["unstorable values", "odd names", "a list", "nothing", "bytes"],
)
def test_quarantine_takes_any_row(log: EventLog, url: str, row: object) -> None:
    assert log.quarantine("item", "s", [Rejection(0, row, None, "bad \x00 \ud800")]) == 1  # type: ignore[arg-type]
    assert _latest_quarantined(url).reason.startswith("bad")


def test_another_process_may_read_what_was_acknowledged(log: EventLog, url: str) -> None:
    log.append([click("a")])
    other = EventLog(url)
    other.append([click("b")])
    assert [one.event.event_id for one in log.read(0, 10)] == ["a", "b"]
    other.close()


def test_a_log_without_tables_says_how_to_make_them(bare_url: str) -> None:
    if bare_url.startswith("sqlite"):
        with pytest.raises(EventLogError, match=r"no event log at .*events.db; create it with `alembic"):
            EventLog(bare_url)
        Path(bare_url.removeprefix("sqlite:///")).parent.mkdir()
        Path(bare_url.removeprefix("sqlite:///")).touch()
    with pytest.raises(EventLogError, match="has no tables yet; create them with `alembic"):
        EventLog(bare_url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u@h/d", "nonsense"])
def test_urls_that_cannot_be_meant(url: str) -> None:
    for opening in (EventLog, prepare):
        with pytest.raises(ConfigError, match="database: "):
            opening(url)


def test_no_server_there() -> None:
    with pytest.raises(EventLogError, match=r"127\.0\.0\.1") as raised:
        EventLog("postgresql://me:secret@127.0.0.1:1/log?connect_timeout=2")
    assert "secret" not in str(raised.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "events.db").write_text("hello " * 1_000)
    for opening in (EventLog, prepare):
        with pytest.raises(EventLogError, match="not a database"):
            opening(f"sqlite:///{tmp_path / 'events.db'}")


def test_a_full_disk_acknowledges_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    log = EventLog(url)
    log.append([click("first")])
    engine = log._database.engine
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=20"))
    with pytest.raises(EventLogError, match=r"disk of .* is full; nothing was written") as raised:
        log.append([click(f"e{number}") for number in range(5_000)])
    assert not isinstance(raised.value, LogBusy)
    assert [one.event.event_id for one in log.read(0, 10)] == ["first"]
    assert log.append([click("small")]).positions == [2]


FILE_LIMIT = """
import resource, signal, sys
from attune.errors import EventLogError
from attune.event_log import EventLog
from attune.events import Interaction
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = EventLog(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
number = 0
try:
    while True:
        batch = [
            Interaction(event_id=f"{number}-{one}", event_timestamp=1, user_id="u", item_id="i", kind="click")
            for one in range(100)
        ]
        log.append(batch)
        number += 1
except EventLogError as error:
    sys.stdout.write(f"{number} {error}")
"""


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    told = subprocess.run([sys.executable, "-c", FILE_LIMIT, url], capture_output=True, text=True, check=True).stdout
    acknowledged, _, message = told.partition(" ")
    assert "nothing was acknowledged" in message
    log = EventLog(url)
    assert log.head() == int(acknowledged) * 100 > 0
    assert len(log.read(0, 10**6)) == log.head()


def test_a_read_only_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EventLogError, match="cannot be made"):
        prepare(f"sqlite:///{tmp_path / 'file' / 'log' / 'events.db'}")


def test_sqlite_is_new_enough_and_set_up_to_be_durable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    log = EventLog(url)
    assert sqlite.sqlite_version_info >= (3, 51, 3)
    with log._database.reading() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]


def test_postgres_commits_to_the_disk_whatever_its_default(postgres: str) -> None:
    log = EventLog(f"{postgres}&options=-c%20synchronous_commit%3Doff")
    with log._database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        assert connection.exec_driver_sql("SHOW fsync").scalar() == "on"
    log.close()


def test_a_tail_is_read_through_its_index(log: EventLog) -> None:
    log.append([click(f"e{number}", user_id=f"u{number % 50}") for number in range(2_000)])
    query = (
        "SELECT * FROM events WHERE user_id = 'u1' AND position > 1900"
        " AND type IN ('interaction', 'feedback', 'user') ORDER BY position"
    )
    with log._database.reading() as connection:
        sqlite_here = connection.dialect.name == "sqlite"
        if not sqlite_here:
            connection.exec_driver_sql("ANALYZE events")
        plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite_here else ''}{query}").all()
    assert "events_tail" in str(plan)


ITEM_LOOK_UPS = {
    "SELECT max(position) FROM events WHERE type = 'item'": "events_items",
    "SELECT item_id FROM events WHERE type = 'item' AND position > 1900 ORDER BY position LIMIT 100": "events_items",
    "SELECT item_id, max(position) FROM events WHERE type = 'item' AND item_id IN ('item-3') GROUP BY item_id": (
        "events_item_versions"
    ),
    "SELECT item_id, max(position) FROM events WHERE type = 'item' AND item_id IN ('a', 'b') GROUP BY item_id": (
        "events_item_versions"
    ),
}


@pytest.mark.parametrize("query", ITEM_LOOK_UPS)
def test_items_are_read_through_their_indexes(log: EventLog, query: str) -> None:
    log.append([click(f"e{number}", f"u{number % 50}", f"item-{number % 400}") for number in range(2_000)])
    log.append([item(f"i{number}", f"item-{number % 400}") for number in range(800)])
    with log._database.reading() as connection:
        sqlite_here = connection.dialect.name == "sqlite"
        if not sqlite_here:
            connection.exec_driver_sql("ANALYZE events")
        plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite_here else ''}{query}").all()
    assert f"{ITEM_LOOK_UPS[query]} " in f"{plan} ".replace("'", " ")


def test_versions_of_items_are_read_in_order(log: EventLog) -> None:
    assert (log.last_item_position(), log.item_versions(0, 10)) == (0, [])
    log.append([click("e1"), item("i1", "tea", year=1), click("e2"), item("i2", "cup"), item("i3", "tea", year=2)])
    assert log.last_item_position() == 5
    assert [(one.item_id, one.position) for one in log.item_versions(0, 10)] == [("tea", 2), ("cup", 4), ("tea", 5)]
    assert [one.attributes for one in log.item_versions(2, 10)] == [{}, {"year": 2}]
    assert [one.position for one in log.item_versions(0, 2)] == [2, 4]


def test_a_version_that_was_made_from_an_older_one_is_refused(log: EventLog) -> None:
    def version(event_id: str, base: int, item_id: str = "tea", **attributes: object) -> dict:
        return to_row(item(event_id, item_id, **attributes)) | {BASE: base}

    first, second = log.append_rows([[version("a", 0)], [version("b", 0)]])
    assert (first.positions, second.positions, second.conflicts) == ([1], [0], [0])
    assert log.append_rows([[version("a", 0)]])[0].repeated == 1
    assert log.append_rows([[version("b", 1), version("c", 1), version("d", 0, "cup")]])[0].positions == [2, 0, 3]
    assert log.append([item("e", "tea", title="whatever is there")]).positions == [4]
    assert log.append_rows([[version("c", 2)]])[0].conflicts == [0]
    assert log.append_rows([[to_row(item("f", "tea")), version("c", 4)], [version("g", 5)]])[0].positions == [5, 0]
    assert log.find("c") is None


def test_threads_share_one_log(log: EventLog) -> None:
    def write(name: int) -> None:
        for number in range(20):
            log.append([click(f"{name}-{number}", user_id=str(name))])

    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logged = log.read(0, 1_000)
    assert [one.position for one in logged] == list(range(1, 161))
    for name in range(8):
        assert [one.event.event_id for one in log.tail(str(name), 0)] == [f"{name}-{number}" for number in range(20)]


def test_what_slates_spent_of_a_budget_is_counted_by_user_and_time(log: EventLog) -> None:
    def spent(slate_id: str, user_id: str, time: int, **policy: object) -> Slate:
        return msgspec.structs.replace(
            slate(slate_id, user_id), event_timestamp=time, policy={"name": "epsilon", **policy}
        )

    log.append(
        [
            spent("s1", "ada", 10, budget=9, explored=3),
            spent("s2", "ada", 20, budget=9, explored=2),
            spent("s3", "ada", 30, budget=9, explored=0),
            spent("s4", "ada", 30, budget=None, explored=4),
            spent("s5", "grace", 30, budget=9, explored=1),
            slate("s6"),
            click("e1", time=30),
        ]
    )
    asked = [("ada", 9), ("ada", 10), ("grace", 9), ("nobody", 0)]
    assert log.explored(asked) == [{"s1": 3, "s2": 2}, {"s2": 2}, {"s5": 1}, {}]
    assert log.explored([]) == []
    logged = log.slate("s1")
    assert logged is not None
    assert logged.event == spent("s1", "ada", 10, budget=9, explored=3)


def test_what_was_spent_is_found_through_its_index(log: EventLog) -> None:
    policy = {"name": "epsilon", "budget": 9, "explored": 1}
    log.append([msgspec.structs.replace(slate(f"s{n}", f"u{n % 400}"), policy=policy) for n in range(800)])
    log.append([click(f"e{number}", f"u{number % 400}") for number in range(2_000)])
    query = (
        "SELECT event_id, value FROM events WHERE user_id = 'u1' AND event_timestamp > 5"
        " AND type = 'slate' AND value > 0"
    )
    with log._database.reading() as connection:
        sqlite_here = connection.dialect.name == "sqlite"
        if not sqlite_here:
            connection.exec_driver_sql("ANALYZE events")
        plan = connection.exec_driver_sql(f"EXPLAIN {'QUERY PLAN ' if sqlite_here else ''}{query}").all()
    assert "events_explored " in f"{plan} ".replace("'", " ")
