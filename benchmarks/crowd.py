"""Many users with a state each, in minutes: Feast itself would take a quarter of an hour for a million.

The rows that Feast wrote for some users are copied, with another user in the key and another log position. That
position is of an event that the log really has, so that the endpoint finds nothing amiss.
"""

from contextlib import closing
from typing import Any

import pysqlite3.dbapi2 as sqlite

from attune.clock import system_clock, to_datetime
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from benchmarks.serving_world import BATCH
from features.feature_store import FeatureStore

TABLE = "attune_user_state"
"""Where Feast keeps the states: <project>_<view>."""

TEMPLATES = 100
NAME = "c%07d"
COPIED = """
WITH RECURSIVE
    numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :end),
    users AS MATERIALIZED (SELECT n, n + :shift AS position, key(n) AS key, stamp(n + :shift) AS stamp FROM numbers)
INSERT INTO {table}
SELECT key, feature_name, CASE feature_name WHEN 'position' THEN value(position) ELSE value END,
       CASE feature_name WHEN 'position' THEN CAST(position AS TEXT) ELSE value_text END, NULL, stamp, NULL
FROM users JOIN templates ON templates.number = n % :templates ORDER BY n, feature_name
"""


def names(first: int, end: int) -> list[str]:
    """The users of these numbers."""
    return [NAME % number for number in range(first, end)]


def add(settings: Settings, first: int, end: int) -> None:
    """Users ``first`` to ``end - 1``, each with the history of one of u0, u1, ... and one event in the log."""
    with closing(EventLog(settings.log_url)) as log, closing(_online(settings)) as online:
        for start in range(first, end, BATCH):
            stop = min(start + BATCH, end)
            position = _logged(log, start, stop)
            given = {"first": start, "end": stop, "shift": position - start, "templates": TEMPLATES}
            online.execute(COPIED.format(table=TABLE), given)
            online.commit()
    FeatureStore(settings).apply()  # a journal again


def _logged(log: EventLog, first: int, end: int) -> int:
    """One click of each; the position of the first one's, the others' follow it."""
    now = system_clock()
    clicks = [
        Interaction(event_id=f"at-{name}", user_id=name, item_id="i0", kind="click", event_timestamp=now)
        for name in names(first, end)
    ]
    positions = log.append(clicks).positions
    if positions[-1] - positions[0] != len(positions) - 1:
        raise AssertionError("somebody else writes to the log")
    return positions[0]


def _online(settings: Settings) -> Any:
    """Feast's file with the rows to be copied beside it; it is written once, without a journal."""
    connection = sqlite.connect(str(FeatureStore(settings).keeper_folder / "online.db"))
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -262144")
    connection.execute("CREATE TEMP TABLE templates (number INT, feature_name TEXT, value BLOB, value_text TEXT)")
    key = _key(connection, "u0")
    for number in range(TEMPLATES):
        connection.execute(
            f"INSERT INTO templates SELECT ?, feature_name, value, value_text FROM {TABLE} WHERE entity_key = ?",
            (number, _renamed(key, "u0", f"u{number}")),
        )
    connection.create_function("key", 1, lambda number: _renamed(key, "u0", NAME % number), deterministic=True)
    connection.create_function("value", 1, _whole_number)
    connection.create_function("stamp", 1, lambda position: to_datetime(position).replace(tzinfo=None).isoformat(" "))
    connection.commit()
    return connection


def _key(connection: Any, user: str) -> bytes:
    """The key under which Feast wrote this user: it ends in the name's length (four bytes) and the name."""
    end = len(user).to_bytes(4, "little") + user.encode()
    query = f"SELECT DISTINCT entity_key FROM {TABLE} WHERE substr(entity_key, -?) = ?"
    ((key,),) = connection.execute(query, (len(end), end)).fetchall()
    return bytes(key)


def _renamed(key: bytes, before: str, after: str) -> bytes:
    return key[: -4 - len(before)] + len(after).to_bytes(4, "little") + after.encode()


def _whole_number(number: int) -> bytes:
    """As Feast's ``Value`` of an Int64 is written: the tag of field 4, then seven bits a byte, the lowest first."""
    found = bytearray(b"\x20")
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))
