"""Statistics of users and items over time: one row per entity and finished bucket, stamped with the bucket's end.

A row stamped B counts exactly the events with a time before B, so whoever joins at or after B sees the past alone.
A take-back counts from its own time on: before it, the event stood. An event whose take-back is not dated after it
never stood, as those of a withdrawn import; its row stays, to take the place of an older one online. Impressions are
not counted: being shown is nothing that a user did.
"""

import numpy as np
import pandas as pd

from attune.clock import DAY, HOUR
from attune.columns import ITEM_STATS, USER_STATS, Columns
from attune.event_types import KINDS, RETRACT, reward

USER_WINDOW = 30 * DAY
ITEM_WINDOW = 90 * DAY

NEVER = 2**62
"""The time of a take-back that there was not."""

COUNTED = frozenset(name for name, kind in KINDS.items() if kind.marks_seen)


def rewards(kinds: pd.Series, values: pd.Series) -> np.ndarray:
    """The reward of each event by the reward table, float64 in [0, 1]; each distinct (kind, value) is asked once."""
    frame = pd.DataFrame({"kind": kinds.to_numpy(), "value": values.to_numpy(np.float64)})
    places = frame.groupby(["kind", "value"], sort=False, dropna=False).ngroup().to_numpy()
    distinct = frame.drop_duplicates()
    table = [
        reward(kind, None if np.isnan(value) else float(value))
        for kind, value in zip(distinct["kind"], distinct["value"], strict=True)
    ]
    return np.asarray(table, np.float64)[places] if len(frame) else np.empty(0, np.float64)


def take_backs(events: pd.DataFrame, taken: pd.DataFrame) -> pd.DataFrame:
    """Those of ``taken`` that their user took back at a later position, a row for each take-back among ``events``.

    Columns event_id, user_id, position, event_timestamp, and the last two of the take-back, ending in ``_of_retract``.
    """
    columns = [Columns.USER_ID, Columns.POSITION, Columns.EVENT_TIMESTAMP]
    retracts = events.loc[(events[Columns.KIND] == RETRACT).to_numpy(), [Columns.RETRACTS, *columns]]
    pairs = taken[[Columns.EVENT_ID, *columns]].merge(
        retracts,
        left_on=[Columns.EVENT_ID, Columns.USER_ID],
        right_on=[Columns.RETRACTS, Columns.USER_ID],
        suffixes=("", "_of_retract"),
    )
    return pairs[pairs[Columns.POSITION] < pairs[f"{Columns.POSITION}_of_retract"]]


def user_stats(events: pd.DataFrame) -> pd.DataFrame:
    """``USER_STATS`` per (user, hour with events).

    The row of an hour that has not ended is stamped in the future: nobody looks there before it has been replaced.
    ``events`` are behaviour: position, event_id, user_id, item_id, kind, value, retracts, event_timestamp (int64).
    Gives user_id, event_timestamp (datetime64[us, UTC], the hour's end) and the features as float32.
    """
    return _stats(events, Columns.USER_ID, HOUR, USER_WINDOW, USER_STATS)


def item_stats(events: pd.DataFrame) -> pd.DataFrame:
    """``ITEM_STATS`` per (item, day with events), as ``user_stats`` does for users and hours."""
    return _stats(events, Columns.ITEM_ID, DAY, ITEM_WINDOW, ITEM_STATS)


def _stats(events: pd.DataFrame, id_column: str, bucket: int, window: int, names: tuple[str, ...]) -> pd.DataFrame:
    counted = events[events[Columns.KIND].isin(COUNTED).to_numpy()]
    codes, entities = pd.factorize(counted[id_column], sort=True)
    times = counted[Columns.EVENT_TIMESTAMP].to_numpy(np.int64)
    pairs = take_backs(events, counted)  # one dated before its event counts from the event's own time on
    moments = pairs[[Columns.EVENT_TIMESTAMP, f"{Columns.EVENT_TIMESTAMP}_of_retract"]].max(axis=1)
    earliest = moments.groupby(pairs[Columns.EVENT_ID]).min()
    taken_back = counted[Columns.EVENT_ID].map(earliest).fillna(NEVER).to_numpy(np.int64)
    touched = np.concatenate([times, taken_back[taken_back != NEVER]]) if len(times) else times
    owners = np.concatenate([codes, codes[taken_back != NEVER]]) if len(times) else codes
    ends = (touched // bucket + 1) * bucket
    rows = pd.DataFrame({"entity": owners, "end": ends}).drop_duplicates().sort_values(["entity", "end"])
    entity, end = (rows[name].to_numpy(np.int64) for name in ("entity", "end"))
    worth = rewards(counted[Columns.KIND], counted[Columns.VALUE])
    counts, total, recent = _sums_before(codes, times, taken_back, worth, window, entity, end)
    mean = np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    stood = taken_back != times
    firsts = pd.Series(times[stood]).groupby(codes[stood]).min().reindex(range(len(entities))).to_numpy()
    days = (end - firsts[entity]) / DAY
    features = [counts, mean, recent, np.where(days > 0, days, np.nan)]
    stamps = pd.to_datetime(end, unit="us", utc=True).as_unit("us")
    frame = pd.DataFrame({id_column: np.asarray(entities, object)[rows["entity"]], Columns.EVENT_TIMESTAMP: stamps})
    return frame.assign(**{name: column.astype(np.float32) for name, column in zip(names, features, strict=True)})


def _sums_before(
    codes: np.ndarray,
    times: np.ndarray,
    taken_back: np.ndarray,
    worth: np.ndarray,
    window: int,
    entity: np.ndarray,
    end: np.ndarray,
) -> list[np.ndarray]:
    """Events, their rewards, and events in the window, summed strictly before each (entity, end).

    An event adds itself at its time; it leaves all sums when taken back, else the window after ``window``.
    """
    back = taken_back != NEVER
    leaves = np.where(back & (taken_back < times + window), taken_back, times + window)
    ones, none = np.ones(len(times), np.int64), np.zeros(len(times), np.int64)
    owners = np.concatenate([codes, codes[back], codes])
    moments = np.concatenate([times, taken_back[back], leaves])
    order = np.lexsort((moments, owners))
    owners, moments = owners[order], moments[order]
    changes = [(ones, -ones[back], none), (worth, -worth[back], none), (ones, none[back], -ones)]
    is_delta = np.repeat([1, 0], [len(owners), len(end)])
    merged = np.lexsort((is_delta, np.concatenate([moments, end]), np.concatenate([owners, entity])))
    places = np.empty(len(merged), np.int64)
    places[merged] = np.cumsum(is_delta[merged])
    starts, stops = np.searchsorted(owners, entity), places[len(owners) :]
    running = [np.concatenate([[0.0], np.cumsum(np.concatenate(parts)[order], dtype=np.float64)]) for parts in changes]
    return [sums[stops] - sums[starts] for sums in running]
