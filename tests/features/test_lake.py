import multiprocessing
import signal
import threading
from collections.abc import Callable

import msgspec
import pytest

from attune.clock import DAY
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_log import EventLog
from attune.events import Feedback, Interaction, Item, Shown, Slate, User
from attune.settings import Settings
from features.lake import SCHEMA, Lake

Act = Callable[..., Interaction]

SLATE = Slate(
    event_id="s1", event_timestamp=5, user_id="u", model_version="1", served_by="champion", policy={"name": "x"},
    shown=[Shown("i", 1.0, 0.5)], candidates=[], context={}, state_position=0,
)  # fmt: skip


def test_every_event_arrives_with_its_content(log: EventLog, lake: Lake, act: Act) -> None:
    rated = act("u", "i", 1, "rating", 4.0)
    feedback = Feedback(event_id="f1", event_timestamp=6, user_id="u", item_id="i", kind="retract", retracts="e1",
                        slate_id="s1")  # fmt: skip
    item = Item(event_id="i1", event_timestamp=0, item_id="i", attributes={"title": "One"})
    user = User(event_id="u1", event_timestamp=0, user_id="u", attributes={"age": 3})
    log.append([rated, SLATE, feedback, item, user])
    report = lake.ingest(log)
    assert (report.first, report.last, report.rows, report.files) == (1, 5, 5, 1)
    rows = lake.events().to_pylist()
    assert lake.events().schema == SCHEMA
    assert [row["type"] for row in rows] == ["interaction", "slate", "feedback", "item", "user"]
    assert (rows[0]["kind"], rows[0]["value"], rows[0]["event_timestamp"]) == ("rating", 4.0, 1_000_000)
    assert (rows[2]["slate_id"], rows[2]["retracts"], rows[2]["payload"]) == ("s1", "e1", None)
    for row, event in zip((rows[1], rows[3], rows[4]), (SLATE, item, user), strict=True):
        assert msgspec.json.decode(row["payload"], type=type(event)) == event


def test_ingest_goes_on_where_it_ended(log: EventLog, lake: Lake, act: Act) -> None:
    assert (lake.watermark(), lake.ingest(log).rows) == (0, 0)
    log.append([act("u", "i", n) for n in range(7)])
    assert lake.ingest(log, chunk=3).files == 3
    log.append([act("u", "i", n) for n in range(4)])
    report = lake.ingest(log)
    assert (report.first, report.last, report.rows) == (8, 11, 4)
    assert lake.ingest(log).rows == 0
    assert lake.events()[Columns.POSITION].to_pylist() == list(range(1, 12))
    assert lake.events(3, 9)[Columns.POSITION].to_pylist() == list(range(4, 10))
    assert lake.events(columns=["item_id"]).column_names == ["item_id"]


def test_a_partition_a_logged_day(settings: Settings, log: EventLog, lake: Lake, act: Act) -> None:
    now = iter([DAY - 1, DAY, DAY - 5, 3 * DAY])
    ticking = EventLog(settings.log_url, lambda: next(now))
    for number in range(4):
        ticking.append([act("u", "i", number)])
    ticking.close()
    assert lake.ingest(log).files == 4
    files = sorted(str(path.relative_to(lake.folder)) for path in lake.folder.rglob("*.parquet"))
    assert files == [
        "day=1970-01-01/000000000001-000000000001.parquet",
        "day=1970-01-01/000000000003-000000000003.parquet",
        "day=1970-01-02/000000000002-000000000002.parquet",
        "day=1970-01-04/000000000004-000000000004.parquet",
    ]
    assert lake.events()[Columns.POSITION].to_pylist() == [1, 2, 3, 4]


STEPS = ["open", "write_table", "fsync", "rename"]
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["features.lake"])


INGEST_UNTIL_KILLED = """
import os, signal
from itertools import count
from pathlib import Path
from attune.event_log import EventLog
from features import lake

owner, name = {"open": (Path, "open"), "write_table": (lake.pq, "write_table"), "fsync": (os, "fsync"),
               "rename": (Path, "rename")}[step]
real, turns = getattr(owner, name), count(1)

def deadly(*arguments, **named):
    if next(turns) == turn:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)

setattr(owner, name, deadly)
lake.Lake(folder).ingest(EventLog(url), chunk=3)
"""
"""For a process of its own, which dies when it takes that step for the ``turn``-th time."""


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_kill_at_any_step_neither_loses_nor_doubles(
    settings: Settings, log: EventLog, lake: Lake, act: Act, step: str, turn: int
) -> None:
    log.append([act("u", "i", number) for number in range(10)])
    given = {"step": step, "turn": turn, "folder": lake.folder, "url": settings.log_url}
    ingesting = PROCESSES.Process(target=exec, args=(INGEST_UNTIL_KILLED, given))
    ingesting.start()
    ingesting.join(120)
    assert ingesting.exitcode == -signal.SIGKILL
    assert lake.events()[Columns.POSITION].to_pylist() == list(range(1, lake.watermark() + 1))
    lake.ingest(log, chunk=4)
    assert lake.events()[Columns.POSITION].to_pylist() == list(range(1, 11))
    assert not list(lake.folder.rglob("*.draft"))


def test_two_ingests_at_once_share_the_work(settings: Settings, log: EventLog, lake: Lake, act: Act) -> None:
    log.append([act("u", "i", number) for number in range(500)])
    others = [threading.Thread(target=Lake(settings.lake_folder).ingest, args=(log, 20)) for _ in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert lake.events()[Columns.POSITION].to_pylist() == list(range(1, 501))


def test_two_files_of_one_position_are_refused(log: EventLog, lake: Lake, act: Act) -> None:
    log.append([act("u", "i", number) for number in range(4)])
    lake.ingest(log)
    file = next(lake.folder.rglob("*.parquet"))
    file.with_name("000000000002-000000000009.parquet").write_bytes(file.read_bytes())
    with pytest.raises(DataContractError, match="hold the same positions"):
        lake.events()


def test_items_are_the_latest_and_those_of_behaviour(log: EventLog, lake: Lake, act: Act) -> None:
    def item(number: int, item_id: str, **attributes: object) -> Item:
        return Item(event_id=f"item{number}", event_timestamp=0, item_id=item_id, attributes=attributes)

    log.append([
        item(1, "b", title="Old", year=1990), item(2, "c", title="Only"), act("u", "a"),
        item(3, "b", title="New", year=1999, genres=["X", "Y"], price=3), act("u", "z"),
    ])  # fmt: skip
    lake.ingest(log)
    items = lake.items().set_index("item_id")
    assert items.index.tolist() == ["a", "b", "c", "z"]
    assert (items.title["b"], items.year["b"], items.genres["b"]) == ("New", 1999.0, ["X", "Y"])
    assert items.attributes["b"] == '{"genres":["X","Y"],"price":3,"title":"New","year":1999}'
    assert (items.title["a"], items.genres["a"]) == ("", [])
    assert lake.items(upto=3).set_index("item_id").title.to_dict() == {"a": "", "b": "Old", "c": "Only"}


def test_users_are_the_latest_word_on_each(log: EventLog, lake: Lake, act: Act) -> None:
    def user(number: int, user_id: str, **attributes: object) -> User:
        return User(event_id=f"user{number}", event_timestamp=0, user_id=user_id, attributes=attributes)

    log.append([user(1, "v", age=1), user(2, "u", age=2), act("w", "a"), user(3, "v", age=3, country="FR")])
    lake.ingest(log)
    assert lake.users().to_numpy().tolist() == [["u", '{"age":2}'], ["v", '{"age":3,"country":"FR"}']]
    assert lake.users(upto=2).to_numpy().tolist() == [["u", '{"age":2}'], ["v", '{"age":1}']]
    assert list(lake.users(upto=0).columns) == ["user_id", "attributes"]


def test_files_without_the_types_asked_for_are_not_held(log: EventLog, lake: Lake, act: Act) -> None:
    def item(number: int) -> Item:
        return Item(event_id=f"i{number}", event_timestamp=0, item_id=f"i{number % 3}", attributes={"title": "x" * 999})

    log.append(
        [*(act("u", f"i{n % 7}", n) for n in range(40)), item(1), *(act("u", "a", n) for n in range(40)), item(2)]
    )
    lake.ingest(log, chunk=10)
    assert len(list(lake.pieces())) == 9
    assert [len(piece) for piece in lake.pieces(types=("item",))] == [1, 1]
    assert [len(piece) for piece in lake.pieces(15, 33, columns=["position"])] == [5, 10, 3]
    assert lake.events(types=("item",), columns=["event_id"])["event_id"].to_pylist() == ["i1", "i2"]
    assert lake.item_ids(("item",)) == {"i1", "i2"}
    assert lake.item_ids(("item",), upto=81) == {"i1"}
    assert lake.item_ids(("interaction",)) == {"a", *(f"i{n}" for n in range(7))}
    assert lake.item_ids(("slate",)) == set()
