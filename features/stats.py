"""Statistics of users and items over time: one row per entity and finished bucket, stamped with the bucket's end.

A row stamped B counts exactly the events with a time before B, so whoever joins at or after B sees the past alone.
A take-back counts from its own time on: before it, the event stood. An event whose take-back is not dated after it
never stood, as those of a withdrawn import. The rows of the buckets of events and take-backs that count no more stay,
to take the place of older ones online. Impressions are not counted: being shown is nothing that a user did.

The statistics of items are facts about what people say, so they count people as ``attune.influence`` does:
``item_events`` and ``item_events_90d`` are the users (a newcomer is less than one) whose latest standing reaction lies
before B, and in the window; ``item_mean_reward`` is the mean of these reactions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attune.clock import DAY, HOUR, SECOND
from attune.columns import ITEM_STATS, USER_STATS, Columns
from attune.event_types import RETRACT, SEEN_KINDS, reward
from attune.influence import influence

USER_WINDOW = 30 * DAY
ITEM_WINDOW = 90 * DAY

LEAST = 1e-9
"""Fewer people are none: what is left when floats that were added are taken away again."""


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


NEVER = int(np.iinfo(np.int64).max)
"""The moment at which what was never taken back, nor followed by another reaction, stops to stand."""


@dataclass(frozen=True)
class _Spans:
    """From when until when an event counts, and what: ``owners`` are entities, ``said_at`` is the event's own time."""

    owners: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    said_at: np.ndarray
    worth: np.ndarray
    weights: np.ndarray


def user_stats(events: pd.DataFrame) -> pd.DataFrame:
    """``USER_STATS`` per (user, hour with events).

    The row of an hour that has not ended is stamped in the future: nobody looks there before it has been replaced.
    ``events`` are behaviour: position, event_id, user_id, item_id, kind, value, retracts, event_timestamp (int64).
    Gives user_id, event_timestamp (datetime64[us, UTC], the hour's end) and the features as float32.
    """
    counted, gone, backs = _counted(events)
    codes, entities = pd.factorize(counted[Columns.USER_ID], sort=True)
    times = counted[Columns.EVENT_TIMESTAMP].to_numpy(np.int64)
    worth = rewards(counted[Columns.KIND], counted[Columns.VALUE])
    spans = _Spans(codes, times, gone, times, worth, np.ones(len(times)))
    rows = _stats(codes, times, gone, backs, spans, HOUR, USER_WINDOW)
    return _named(rows, Columns.USER_ID, entities, USER_STATS)


def item_stats(events: pd.DataFrame) -> pd.DataFrame:
    """``ITEM_STATS`` per (item, day with events), as ``user_stats`` does for users and hours."""
    counted, gone, backs = _counted(events)
    codes, entities = pd.factorize(counted[Columns.ITEM_ID], sort=True)
    times = counted[Columns.EVENT_TIMESTAMP].to_numpy(np.int64)
    order = np.lexsort((counted[Columns.POSITION], times))
    order = order[gone[order] > times[order]]  # what an import's withdrawal took back never was
    users, items = pd.factorize(counted[Columns.USER_ID])[0][order], codes[order]
    weights = influence(users, items, times[order])
    places, starts, ends = _standing_spans(users, items, times[order], gone[order], weights > 0)
    worth = rewards(counted[Columns.KIND], counted[Columns.VALUE])[order[places]]
    spans = _Spans(items[places], starts, ends, times[order[places]], worth, weights[places])
    rows = _stats(codes, times, gone, backs, spans, DAY, ITEM_WINDOW)
    return _named(rows, Columns.ITEM_ID, entities, ITEM_STATS)


@dataclass(frozen=True)
class Statistics:
    """The statistics of some behaviour, joined in memory: the same answers as ``FeatureStore.over`` them gives."""

    of_users: pd.DataFrame
    of_items: pd.DataFrame

    @staticmethod
    def of(events: pd.DataFrame) -> "Statistics":
        """Of the events that ``user_stats`` and ``item_stats`` take."""
        return Statistics(user_stats(events), item_stats(events))

    def historical(self, events: pd.DataFrame) -> pd.DataFrame:
        """``USER_STATS`` and ``ITEM_STATS`` (float32) as they stood strictly before each event's second, NaN unknown.

        ``events`` have user_id, item_id and event_timestamp (int64 microseconds); the answer is in their order.
        """
        before = (events[Columns.EVENT_TIMESTAMP].to_numpy(np.int64) // SECOND - 1) * SECOND
        return pd.concat(
            [
                _as_of(self.of_users, Columns.USER_ID, USER_STATS, events[Columns.USER_ID].to_numpy(object), before),
                _as_of(self.of_items, Columns.ITEM_ID, ITEM_STATS, events[Columns.ITEM_ID].to_numpy(object), before),
            ],
            axis="columns",
        )

    def item_stats_at(self, item_ids: Sequence[str], moment: int) -> pd.DataFrame:
        """``ITEM_STATS`` of the items as known at ``moment`` (microseconds), float32, in the order of the ids."""
        ids = np.asarray(item_ids, object)
        return _as_of(self.of_items, Columns.ITEM_ID, ITEM_STATS, ids, np.full(len(ids), moment, np.int64))


def _as_of(stats: pd.DataFrame, key: str, names: tuple[str, ...], ids: np.ndarray, moments: np.ndarray) -> pd.DataFrame:
    """The latest row of each id stamped at or before its moment, in the order of the ids; NaN where there is none."""
    asked = pd.DataFrame({key: ids, "moment": moments}).sort_values("moment", kind="stable")
    stamps = stats[Columns.EVENT_TIMESTAMP].astype(np.int64)
    known = stats[[key, *names]].assign(moment=stamps).sort_values("moment", kind="stable")
    joined = pd.merge_asof(asked, known, on="moment", by=key).set_index(asked.index)
    return joined[list(names)].astype(np.float32).sort_index()


@dataclass(frozen=True)
class _TakeBacks:
    """Of which of the uses (places), and when; several may take back the same one."""

    places: np.ndarray
    moments: np.ndarray


def _counted(events: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, _TakeBacks]:
    """The uses among the events, when each was taken back (or ``NEVER``), and all take-backs of them."""
    counted = events[events[Columns.KIND].isin(SEEN_KINDS).to_numpy()]
    pairs = take_backs(events, counted)  # one dated before its event counts from the event's own time on
    moments = pairs[[Columns.EVENT_TIMESTAMP, f"{Columns.EVENT_TIMESTAMP}_of_retract"]].max(axis=1).to_numpy(np.int64)
    places = pd.Index(counted[Columns.EVENT_ID]).get_indexer(pairs[Columns.EVENT_ID])
    gone = np.full(len(counted), NEVER)
    np.minimum.at(gone, places, moments)
    return counted, gone, _TakeBacks(places, moments)


def _standing_spans(
    users: np.ndarray, items: np.ndarray, times: np.ndarray, gone: np.ndarray, weighs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which event of each user and item stands from when until when: (rows, starts, ends), an event more than once
    where one after it was taken back. The events are in the order of time; those that do not weigh are passed over."""
    rows = np.flatnonzero(weighs)
    rows = rows[np.lexsort((items[rows], users[rows]))]
    pair_ends = np.append((np.diff(users[rows]) != 0) | (np.diff(items[rows]) != 0), True)[: len(rows)]
    starts = times[rows]
    ends = np.where(pair_ends, NEVER, np.append(starts[1:], NEVER)[: len(rows)])
    pair = np.cumsum(pair_ends) - pair_ends
    is_changed = np.bincount(pair, gone[rows] < NEVER).astype(bool)[pair] if len(rows) else pair_ends
    plain = ~is_changed & (ends > starts)
    parts = [(rows[plain], starts[plain], ends[plain])]
    changed = np.flatnonzero(is_changed)
    for run in np.split(changed, np.flatnonzero(np.diff(pair[changed])) + 1) if len(changed) else []:
        spans = np.array(list(_resurfacing(starts[run].tolist(), gone[rows[run]].tolist())), np.int64).reshape(-1, 3)
        parts.append((rows[run[spans[:, 0]]], spans[:, 1], spans[:, 2]))
    standing, since, until = (np.concatenate(column) for column in zip(*parts, strict=True))
    return standing, since, until


def _resurfacing(starts: list[int], gone: list[int]) -> Iterator[tuple[int, int, int]]:
    """(place, from, until) of the latest event of one user and item that stands, after each change."""
    moments = sorted({*starts, *gone} - {NEVER})
    begun: list[int] = []
    following = 0
    for moment, until in zip(moments, [*moments[1:], NEVER], strict=True):
        while following < len(starts) and starts[following] <= moment:
            begun.append(following)
            following += 1
        while begun and gone[begun[-1]] <= moment:
            begun.pop()
        if begun:
            yield begun[-1], moment, until


def _stats(
    codes: np.ndarray, times: np.ndarray, gone: np.ndarray, backs: _TakeBacks, spans: _Spans, bucket: int, window: int
) -> pd.DataFrame:
    """The features of each entity at the end of each bucket in which something of its changed."""
    touched, owners = np.concatenate([times, backs.moments]), np.concatenate([codes, codes[backs.places]])
    rows = pd.DataFrame({"entity": owners, "end": (touched // bucket + 1) * bucket})
    rows = rows.drop_duplicates().sort_values(["entity", "end"], ignore_index=True)
    entity, end = (rows[name].to_numpy(np.int64) for name in ("entity", "end"))
    counts, total, recent = _sums_before(spans, window, entity, end)
    mean = np.divide(total, counts, out=np.full(len(counts), np.nan), where=counts > LEAST)
    stood = gone > times
    firsts = pd.Series(times[stood]).groupby(codes[stood]).min().reindex(entity).to_numpy()
    days = (end - firsts) / DAY
    return rows.assign(counts=counts, mean=mean, recent=recent, days=np.where(days > 0, days, np.nan))


def _named(rows: pd.DataFrame, id_column: str, entities: pd.Index, names: tuple[str, ...]) -> pd.DataFrame:
    stamps = pd.to_datetime(rows["end"], unit="us", utc=True).dt.as_unit("us")
    frame = pd.DataFrame({id_column: np.asarray(entities, object)[rows["entity"]], Columns.EVENT_TIMESTAMP: stamps})
    features = (rows[name].astype(np.float32) for name in ("counts", "mean", "recent", "days"))
    return frame.assign(**dict(zip(names, features, strict=True)))


def _sums_before(spans: _Spans, window: int, entity: np.ndarray, end: np.ndarray) -> list[np.ndarray]:
    """Weights, weighted rewards, and weights in the window, summed strictly before each (entity, end).

    A span adds itself at its start; it leaves all sums at its end, and the window at the latest ``window`` after the
    event's own time.
    """
    leaves = np.minimum(spans.ends, spans.said_at + window)
    ends, is_recent = spans.ends < NEVER, leaves > spans.starts
    weights, worth, none = spans.weights, spans.weights * spans.worth, np.zeros(len(spans.weights))
    owners = np.concatenate([spans.owners, spans.owners[ends], spans.owners[is_recent]])
    moments = np.concatenate([spans.starts, spans.ends[ends], leaves[is_recent]])
    order = np.lexsort((moments, owners))
    owners, moments = owners[order], moments[order]
    changes = [
        (weights, -weights[ends], none[is_recent]),
        (worth, -worth[ends], none[is_recent]),
        (np.where(is_recent, weights, 0.0), none[ends], -weights[is_recent]),
    ]
    is_delta = np.repeat([1, 0], [len(owners), len(end)])
    merged = np.lexsort((is_delta, np.concatenate([moments, end]), np.concatenate([owners, entity])))
    places = np.empty(len(merged), np.int64)
    places[merged] = np.cumsum(is_delta[merged])
    starts, stops = np.searchsorted(owners, entity), places[len(owners) :]
    running = [np.concatenate([[0.0], np.cumsum(np.concatenate(parts)[order], dtype=np.float64)]) for parts in changes]
    return [sums[stops] - sums[starts] for sums in running]
