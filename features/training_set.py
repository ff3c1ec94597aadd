"""Writes a training set: a folder of events with their point-in-time features, the catalogue, and the window.

The folder is the interface to ``models.learning.dataset``. All of it is a function of the events up to one log
position: statistics are counted over these alone, so what is logged later, however early it is dated, changes nothing.

Inside a training set everything goes by event time: an event that was logged late counts in the features of events
dated after it. So do the cuts between learning and judging (``models.learning.dataset``), so nothing of what is judged
is in what was learned.

Events over HTTP that are set aside for what their user sent (a burst, a reward outside 0 to 1) are in neither events
nor statistics; ``window.json`` counts them by reason under ``left_out``.

Traits are a row for each value of an attribute of items and users. Gates use them to see whom a version harms; no
model reads them. An item's title, text, year, genres and whether it is on sale are no traits.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attune.clock import Clock, system_clock
from attune.columns import ITEM_STATS, TRAIT_COLUMNS, USER_STATS, Columns
from attune.errors import DataContractError
from attune.event_types import RETRACT
from attune.events import Item, User, is_vector
from attune.files import whole_file, write_whole
from features.importer import Admitted, Tally, admit_source
from features.labels import Terms, that_counts
from features.lake import BEHAVIOUR, Lake, item_table, user_table
from features.sources.frames import SourceFrames
from features.stats import Statistics, item_stats, rewards, take_backs, user_stats

if TYPE_CHECKING:
    from features.feature_store import FeatureStore

FEATURE_SERVICE = "training_v1"
EVENTS, ITEMS, TRAITS, WINDOW = "events.parquet", "items.parquet", "traits.parquet", "window.json"

EVENT_COLUMNS = [
    *(Columns.POSITION, Columns.EVENT_ID, Columns.USER_ID, Columns.ITEM_ID, Columns.KIND),
    *(Columns.VALUE, Columns.REWARD, Columns.EVENT_TIMESTAMP),
]
_ITEMS_SCHEMA = pa.schema([
    *((name, pa.string()) for name in (Columns.ITEM_ID, Columns.TITLE)),
    *((Columns.YEAR, pa.float64()), (Columns.GENRES, pa.list_(pa.string()))),
    *((name, pa.string()) for name in (Columns.TEXT, Columns.ATTRIBUTES)),
    *((name, pa.float32()) for name in ITEM_STATS),
])  # fmt: skip
TRAITS_SCHEMA = pa.schema([(name, pa.string()) for name in TRAIT_COLUMNS])

OF_ITEMS, OF_USERS = "item", "user"
NO_TRAITS = {
    OF_ITEMS: {Columns.TITLE, Columns.TEXT, Columns.YEAR, Columns.GENRES, Columns.AVAILABLE, Columns.RETIRED},
    OF_USERS: set[str](),
}

TRAIT_LETTERS = 100
"""A longer value is a text and no trait."""

TRAIT_VALUES = 100
"""So many values of one attribute are kept, the first of a longer list."""

REFUSED_SHOWN, REFUSED_LISTED = 3, 20
"""Of rows that cannot be used, how many a message explains, and how many it lists."""

_ROW = "row_of_the_source"

TRAITS_CHUNK = 20_000
"""Items, or users, whose traits are held in memory at once."""


@dataclass(frozen=True)
class TrainingSet:
    """A training set on disk: ``rows`` events and the ``window`` that ``window.json`` holds."""

    folder: Path
    rows: int
    window: dict[str, Any]


def build(lake: Lake, store: "FeatureStore", folder: Path, upto: int, terms: Terms | None = None) -> TrainingSet:
    """The events at positions up to ``upto`` with the features that were known strictly before each one's second.

    Writes ``events.parquet`` (sorted by event_timestamp, position; take-backs, what they took back, and feedback that
    does not count by the ``terms`` left out), ``items.parquet`` (with ``ITEM_STATS`` as of the last event),
    ``traits.parquet`` (of items, and of the users who did anything) and ``window.json``, which appears last. The store
    joins the statistics, which are counted here over the positions up to ``upto``. Building again gives the same
    digest, whatever was logged since. Raises DataContractError when there is no event.
    """
    logged = lake.events(0, upto, BEHAVIOUR)
    behaviour, left_out = that_counts(logged.to_pandas(), terms or Terms())
    if not len(behaviour):
        raise DataContractError(f"no events up to position {upto} in {lake.folder}: import some and ingest them")
    last_position = logged[Columns.POSITION][-1].as_py()  # with what was left out at the end: no news to anybody
    with store.over(user_stats(behaviour), item_stats(behaviour)) as known:
        return _write(folder, behaviour, known, lake.items(upto), lake.users(upto), last_position, left_out)


def build_in_memory(source: SourceFrames, folder: Path, clock: Clock = system_clock) -> TrainingSet:
    """The same of a source's rows, without a log: a position is a row's place in the order of time, from 1 on.

    Raises DataContractError, naming the first rows and what is wrong with them, where the row rules refuse some.
    """
    numbered = source.interactions.assign(**{_ROW: source.interactions.index})
    admitted = admit_source(replace(source, interactions=numbered), clock)
    for type_name, part in admitted.items():
        tally = part.expected()
        if tally.quarantined:
            _refuse(type_name, source, part, tally)
    events = admitted["interaction"].events
    names = [name for name in EVENT_COLUMNS if name not in (Columns.POSITION, Columns.REWARD)]
    behaviour = pd.DataFrame({name: [getattr(event, name) for event in events] for name in (*names, Columns.RETRACTS)})
    behaviour = behaviour.drop_duplicates(Columns.EVENT_ID, ignore_index=True).astype({Columns.VALUE: np.float64})
    behaviour[Columns.POSITION] = np.arange(1, len(behaviour) + 1)
    of_items = {event.item_id: event.attributes for event in admitted["item"].events if isinstance(event, Item)}
    of_users = {event.user_id: event.attributes for event in admitted["user"].events if isinstance(event, User)}
    items = item_table(set(standing(behaviour)[Columns.ITEM_ID]), of_items)
    return _write(folder, behaviour, Statistics.of(behaviour), items, user_table(of_users), len(behaviour), {})


def _refuse(type_name: str, source: SourceFrames, part: Admitted, tally: Tally) -> NoReturn:
    """Raise DataContractError for rows of a source, named by their numbers in it where these are known."""
    by_reader = source.rejected.get(type_name, ())
    refused = {row.row_number: row for row in by_reader}
    if type_name == "interaction" or not by_reader:  # what a reader took out of a table of items changes its numbers
        refused |= {int(row.row.get(_ROW, row.row_number)): row for row in part.rejected[len(by_reader) :]}
    lines = [f"of the {type_name}s {tally.quarantined:,} rows cannot be used; mend them:"]
    lines += [f"  row {number}: {row.reason}" for number, row in sorted(refused.items())[:REFUSED_SHOWN]]
    lines += tally.reasons if not refused else ()
    field = next((row.field for row in refused.values()), None)
    lines += [note for note in source.understanding.notes if note.startswith(f"{field}:")]
    if 0 < len(refused) <= REFUSED_LISTED:
        lines.append(f"or leave them out: frame.drop(frame.index[{sorted(refused)}])")
    raise DataContractError("\n".join(lines), field)


def standing(behaviour: pd.DataFrame) -> pd.DataFrame:
    """The behaviour without take-backs and what they took back."""
    gone = take_backs(behaviour, behaviour)[Columns.EVENT_ID]
    return behaviour[(behaviour[Columns.KIND] != RETRACT) & ~behaviour[Columns.EVENT_ID].isin(gone)]


def _write(
    folder: Path,
    behaviour: pd.DataFrame,
    known: "FeatureStore | Statistics",
    items: pd.DataFrame,
    users: pd.DataFrame,
    last_position: int,
    left_out: dict[str, int],
) -> TrainingSet:
    """The training set of some behaviour, with the statistics that are ``known`` of it, as a folder."""
    events = standing(behaviour).sort_values([Columns.EVENT_TIMESTAMP, Columns.POSITION], ignore_index=True)
    if not len(events):
        raise DataContractError("every event was taken back: import others")
    events[Columns.REWARD] = rewards(events[Columns.KIND], events[Columns.VALUE]).astype(np.float32)
    last_time = int(events[Columns.EVENT_TIMESTAMP].iloc[-1])
    features, of_items = known.historical(events), known.item_stats_at(items[Columns.ITEM_ID].tolist(), last_time)
    events[[*USER_STATS, *ITEM_STATS]] = features[[*USER_STATS, *ITEM_STATS]].to_numpy(np.float32)
    items[list(ITEM_STATS)] = of_items[list(ITEM_STATS)].to_numpy(np.float32)
    window = {
        "first_position": int(events[Columns.POSITION].min()),
        "last_position": last_position,
        "first_time": int(events[Columns.EVENT_TIMESTAMP].iloc[0]),
        "last_time": last_time,
        "rows": len(events),
        "users": int(events[Columns.USER_ID].nunique()),
        "items": len(items),
        "left_out": left_out,
        "digest": digest(events, items),
        "feature_service": FEATURE_SERVICE,
    }
    folder.mkdir(parents=True, exist_ok=True)
    columns = [*EVENT_COLUMNS, *USER_STATS, *ITEM_STATS]
    with whole_file(folder / EVENTS) as draft:
        pq.write_table(pa.Table.from_pandas(events[columns], preserve_index=False), draft)
    with whole_file(folder / ITEMS) as draft:
        pq.write_table(pa.Table.from_pandas(items, _ITEMS_SCHEMA, preserve_index=False), draft)
    with whole_file(folder / TRAITS) as draft:
        write_traits(draft, items, users[users[Columns.USER_ID].isin(events[Columns.USER_ID])])
    write_whole(folder / WINDOW, json.dumps(window, indent=2) + "\n")
    return TrainingSet(folder, len(events), window)


def digest(events: pd.DataFrame, items: pd.DataFrame) -> str:
    """sha256 over all that models read: the ordered events and items, their attributes and their features."""
    hashed = hashlib.sha256()
    names = [column for column in EVENT_COLUMNS if column != Columns.REWARD]
    for frame, columns in ((events, names), (items, [Columns.ITEM_ID, Columns.ATTRIBUTES])):
        for row in zip(*(frame[name].tolist() for name in columns), strict=True):
            hashed.update("\x1f".join(map(str, row)).encode() + b"\x1e")
    for frame, columns in ((events, [*USER_STATS, *ITEM_STATS]), (items, [*ITEM_STATS])):
        hashed.update(np.ascontiguousarray(frame[columns].to_numpy(np.float32)).tobytes())
    return hashed.hexdigest()


def write_traits(path: Path, items: pd.DataFrame, users: pd.DataFrame) -> None:
    """The traits of items and of users, out of frames with their ids and ``attributes`` (JSON objects), as Parquet."""
    with pq.ParquetWriter(path, TRAITS_SCHEMA) as writer:
        for whose, frame, id_column in ((OF_ITEMS, items, Columns.ITEM_ID), (OF_USERS, users, Columns.USER_ID)):
            for start in range(0, len(frame), TRAITS_CHUNK):
                part = frame.iloc[start : start + TRAITS_CHUNK]
                writer.write_table(traits_table(whose, part[id_column], part[Columns.ATTRIBUTES]))


def traits_table(whose: str, ids: Iterable[str], attributes: Iterable[str]) -> pa.Table:
    """The traits of some items or users: every value once, in the order of their attributes."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows: list[tuple[str, str, str, str]] = []
    for identifier, raw in zip(ids, attributes, strict=True):
        traits = [
            (whose, identifier, name, word)
            for name, value in decode(raw).items()
            if name not in NO_TRAITS[whose] and not is_vector(value)
            for word in map(_word, value[:TRAIT_VALUES] if isinstance(value, list) else [value])
            if 0 < len(word) <= TRAIT_LETTERS
        ]
        rows += dict.fromkeys(traits)
    columns = zip(*rows, strict=True) if rows else ([] for _ in TRAITS_SCHEMA)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=TRAITS_SCHEMA)


def _word(value: Any) -> str:
    """A text as it is, a number or a truth value as JSON writes it; nothing for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
