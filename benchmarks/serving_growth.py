"""How latency and memory of an endpoint grow: with the items, with the users who have a state, with a user's tail."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pysqlite3.dbapi2 as sqlite

from attune.clock import SECOND, system_clock, to_datetime
from attune.event_log import EventLog
from attune.events import Interaction
from attune.settings import Settings
from attune.user_state import PAGE
from benchmarks import serving_load, serving_world
from benchmarks.record import Figure, at_most, just
from benchmarks.serving_world import BATCH
from features.feature_store import FeatureStore

WORLDS: Mapping[int, tuple[int, ...]] = {10_000: (1_000, 100_000, 1_000_000), 100_000: (1_000, 100_000)}
"""For each number of items the numbers of users, fewest first."""

TAILS = (0, 10, 100, PAGE, 3 * PAGE)
"""Events behind the snapshot: none to the most that is folded at once, and beyond."""

RATE, SECONDS, CONNECTIONS = 10.0, 30.0, 4
TAILED, ASKED, WARM = 20, 1_000, 20
GROWTH = 1.5

TABLE = "attune_user_state"
"""Where Feast keeps the states: <project>_<view>."""

TEMPLATES = 100
USER = "c%07d"
COPIED = """
WITH RECURSIVE
    numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :end),
    users AS MATERIALIZED (SELECT n, n + :shift AS position, key(n) AS key, stamp(n + :shift) AS stamp FROM numbers)
INSERT INTO {table}
SELECT key, feature_name, CASE feature_name WHEN 'position' THEN value(position) ELSE value END,
       CASE feature_name WHEN 'position' THEN CAST(position AS TEXT) ELSE value_text END, NULL, stamp, NULL
FROM users JOIN templates ON templates.number = n % :templates ORDER BY n, feature_name
"""


@dataclass(frozen=True)
class Observation:
    """What one load showed: milliseconds, and MiB of the endpoint at its end."""

    p50: float
    p99: float
    memory: float
    failed: str

    def figures(self, name: str) -> list[Figure]:
        """All three, stated."""
        return [
            just(f"4.6 p50 ms with {name}", self.p50, self.failed or f"at {RATE:g} requests/s, nothing kept"),
            just(f"4.6 p99 ms with {name}", self.p99),
            just(f"4.6 MiB of the endpoint with {name}", self.memory),
        ]


def measure(seed: int) -> list[Figure]:
    """4.6: a world for each number of items, to which users are added, and which is gone before the next is made."""
    figures: list[Figure] = []
    fewest: list[tuple[int, Observation]] = []
    for items, users in WORLDS.items():
        with TemporaryDirectory(prefix="attune-growth-") as folder:
            settings = serving_load.free_settings(Path(folder), cached_users=0)
            serving_world.build(settings, serving_world.Size(users=users[0], items=items), seed)
            few = _loaded(settings, [f"u{number}" for number in range(users[0])])
            figures += few.figures(f"{users[0]:,} users, {items:,} items")
            if not fewest:
                figures += _tails(settings, seed)
            figures += _more_users(settings, items, users, few, seed)
            fewest.append((items, few))
    for (fewer, before), (more, after) in pairwise(fewest):
        figures += _against(f"{more:,} items against {fewer:,}", after, before, more / fewer)
    return figures


def _more_users(settings: Settings, items: int, users: Sequence[int], few: Observation, seed: int) -> list[Figure]:
    """The same world with ever more users; hardly one of those who ask comes twice."""
    figures: list[Figure] = []
    for before, number in pairwise(users):
        add_users(settings, before, number)
        chosen = np.random.default_rng(seed).integers(users[0], number, ASKED).tolist()
        many = _loaded(settings, [USER % one for one in chosen])
        figures += many.figures(f"{number:,} users, {items:,} items")
        if number == users[-1]:
            figures += _against(f"{number:,} users against {users[0]:,}, {items:,} items", many, few)
    return figures


def _against(name: str, more: Observation, fewer: Observation, limit: float = GROWTH) -> list[Figure]:
    return [
        at_most(f"4.6 p50 with {name}, times", more.p50 / fewer.p50, limit),
        at_most(f"4.6 memory with {name}, times", more.memory / fewer.memory, limit),
    ]


def _tails(settings: Settings, seed: int) -> list[Figure]:
    """The first users of the world, some with each tail: their snapshots stay as they are, nobody pushes new ones."""
    groups = {tail: [f"u{TAILED * place + one}" for one in range(TAILED)] for place, tail in enumerate(TAILS)}
    with closing(EventLog(settings.log_url)) as log:
        for tail, users in groups.items():
            _append(log, users, tail, np.random.default_rng(seed + tail))
    observed = {tail: _loaded(settings, users) for tail, users in groups.items()}
    figures = [figure for tail, one in observed.items() for figure in one.figures(f"a tail of {tail:,} events")]
    least, most = TAILS[-2:]
    times = observed[most].p50 / observed[least].p50
    return [*figures, at_most(f"4.6 p50 with a tail of {most:,} against {least:,}, times", times, most / least)]


def _append(log: EventLog, users: Sequence[str], tail: int, random: np.random.Generator) -> None:
    now = system_clock()
    for user in users:
        items = random.integers(min(WORLDS), size=tail).tolist()
        log.append([
            Interaction(
                event_id=f"tail-{user}-{place}", user_id=user, item_id=f"i{item}", kind="click",
                event_timestamp=now + place * SECOND // 1_000,
            )
            for place, item in enumerate(items)
        ])  # fmt: skip


def _loaded(settings: Settings, users: Sequence[str]) -> Observation:
    bodies = [json.dumps({"user_id": user}) for user in users]
    with serving_load.endpoint(settings) as server:
        url = f"http://127.0.0.1:{settings.serving_port}/v1/recommend"
        serving_load.ask(url, bodies[:WARM])
        load = serving_load.wrk(url, bodies, server, CONNECTIONS, SECONDS, rate=RATE)
        return Observation(load.p50, load.p99, serving_load.memory(server), load.failed)


# Many users with a state each, in minutes: Feast itself would take a quarter of an hour for a million. The rows that
# Feast wrote for some users are copied under other keys and log positions; each position is that of an event that the
# log really has, so the endpoint accepts the states.


def user_names(first: int, end: int) -> list[str]:
    """The users of these numbers."""
    return [USER % number for number in range(first, end)]


def add_users(settings: Settings, first: int, end: int) -> None:
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
        for name in user_names(first, end)
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
    connection.create_function("key", 1, lambda number: _renamed(key, "u0", USER % number), deterministic=True)
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
