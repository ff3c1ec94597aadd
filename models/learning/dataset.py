"""The training set as arrays: its events, its groups with their histories and targets, and how it is split.

A training set is a folder (see ``TrainingSet.load``); the folder is the interface between the floors, so nothing
here imports ``features``. Events of one user at one timestamp are one group: they are predicted together, from
the events strictly before their moment.

A log position says when an event arrived, its event time when it happened. A training set holds what had arrived;
inside it every cut is a moment (microseconds): events up to it are learned from, later ones are chosen or judged on. So
the order in which a data set was imported decides nothing, and events of one moment stay on one side.

The panel is a fixed tenth of the users whose events train no model, so that they can judge every one. An event of
theirs is never a target and never part of a history in training, never counts for item-kNN or popularity and never
decides a choice. The items' statistics do count everybody: they are facts about the item, computed before any model
(``features.stats``), and serving has the same.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from attune.columns import ITEM_STATS, TRAIT_COLUMNS, USER_STATS, Columns
from attune.errors import DataContractError
from attune.event_types import KINDS
from attune.influence import influence, standing
from models import item_vectors
from models.catalogue import Catalogue
from models.history import HISTORY_LIMIT, KIND_INDEX, HistoryBatch

_FACTS = (Columns.POSITION, Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.REWARD, Columns.EVENT_TIMESTAMP)
EVENT_COLUMNS = (*_FACTS, *USER_STATS, *ITEM_STATS)
MARKS_SEEN = np.array([False, *(kind.marks_seen for kind in KINDS.values())])
"""By ``KIND_INDEX``, whether a kind is a use of the item; an impression is none."""

LEAST_EVENTS = 20  # fewer cannot be split
PANEL_SHARE = 0.1
BEFORE_ALL = np.iinfo(np.int64).min
"""A moment before every event."""


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``."""

    offsets: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row_of_value(self) -> np.ndarray:
        """For every value the row that it stands in, int64."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


@dataclass(frozen=True)
class TrainingSet:
    """E events in the order (event_timestamp, position), as columns, with the catalogue that they refer to.

    ``users`` are places in ``user_ids``, ``items`` places in ``catalogue``, ``kinds`` as in ``KIND_INDEX``,
    ``rewards`` in [0, 1], ``times`` in microseconds; the statistics are those known before the event, NaN if none.
    """

    positions: np.ndarray
    users: np.ndarray
    items: np.ndarray
    kinds: np.ndarray
    rewards: np.ndarray
    times: np.ndarray
    user_stats_EF: np.ndarray
    item_stats_EF: np.ndarray
    user_ids: np.ndarray
    catalogue: Catalogue
    window: dict[str, Any]
    traits: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(TRAIT_COLUMNS)), repr=False)
    """What items and users are, in ``TRAIT_COLUMNS``: no row for those of whom nothing is known, or was read."""
    by_user: np.ndarray = field(init=False, repr=False, compare=False)
    """Rows in the order (user, time, position)."""
    _moments: np.ndarray = field(init=False, repr=False, compare=False)
    _keys: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_user", np.lexsort((self.positions, self.times, self.users)))
        object.__setattr__(self, "_moments", np.unique(self.times))
        object.__setattr__(self, "_keys", self._key(self.users, self.times)[self.by_user])

    def __len__(self) -> int:
        return len(self.positions)

    @staticmethod
    def load(folder: Path, with_traits: bool = False) -> "TrainingSet":
        """Read a training set; ``traits.parquet`` only where asked to. Raises DataContractError for what is missing."""
        try:
            events, items = pd.read_parquet(folder / "events.parquet"), pd.read_parquet(folder / "items.parquet")
            window, traits = json.loads((folder / "window.json").read_text()), None
            vectors, digest = item_vectors.read(folder)
            if with_traits:  # as categories: a value that is repeated is held once
                columns = list(TRAIT_COLUMNS)
                table = pq.read_table(folder / "traits.parquet", columns=columns, read_dictionary=columns)
                traits = table.to_pandas()
        except (OSError, ValueError) as error:
            raise DataContractError(f"{folder} is no training set: {error}; build it again") from error
        window |= {"vectors": digest} if digest else {}
        training_set = TrainingSet.from_frames(events, items, window, vectors)
        return training_set if traits is None else replace(training_set, traits=traits)

    @staticmethod
    def from_frames(
        events: pd.DataFrame,
        items: pd.DataFrame,
        window: dict[str, Any],
        vectors: Mapping[str, np.ndarray] | None = None,
    ) -> "TrainingSet":
        """The same from frames with the columns of ``events.parquet`` and ``items.parquet``; ``vectors`` of the items.

        Raises DataContractError when a column is missing, there is no event, one names an item that ``items`` lacks, or
        its reward is no number from 0 to 1.
        """
        if not len(events):
            raise DataContractError("a training set without events: import some, or choose a later position")
        missing = [name for name in EVENT_COLUMNS if name not in events.columns]
        if missing:
            raise DataContractError(f"the events of a training set lack the columns {missing}", missing[0])
        events = events.sort_values([Columns.EVENT_TIMESTAMP, Columns.POSITION], kind="stable")
        absent = pd.Series([None] * len(items))
        titles, years, genres = (items.get(name, absent) for name in (Columns.TITLE, Columns.YEAR, Columns.GENRES))
        catalogue = Catalogue(
            item_ids=tuple(items[Columns.ITEM_ID].astype(str)),
            titles=tuple("" if pd.isna(title) else str(title) for title in titles),
            genres=tuple(() if names is None or np.ndim(names) == 0 else tuple(map(str, names)) for names in genres),
            years=tuple(None if pd.isna(year) else float(year) for year in pd.to_numeric(years, errors="coerce")),
            stats_NF=items.reindex(columns=list(ITEM_STATS)).to_numpy(np.float32),
            vectors=vectors or {},
        )
        places = pd.Index(catalogue.item_ids).get_indexer(events[Columns.ITEM_ID].astype(str))
        if (places < 0).any():
            unknown = events[Columns.ITEM_ID].iloc[int(np.argmin(places))]
            raise DataContractError(f"item {unknown!r} has events but no row in items.parquet", Columns.ITEM_ID)
        rewards = events[Columns.REWARD].to_numpy(np.float32)
        unsound = ~((rewards >= 0.0) & (rewards <= 1.0))
        if unsound.any():
            first = events.iloc[int(unsound.argmax())]
            raise DataContractError(
                f"{int(unsound.sum())} of {len(events)} rewards are no number from 0 to 1, the first at log position"
                f" {first[Columns.POSITION]}, user {first[Columns.USER_ID]!r}: {first[Columns.REWARD]}; build the"
                " training set again",
                Columns.REWARD,
            )
        users, user_ids = pd.factorize(events[Columns.USER_ID].astype(str), sort=True)
        return TrainingSet(
            positions=events[Columns.POSITION].to_numpy(np.int64),
            users=users.astype(np.int64),
            items=places.astype(np.int64),
            kinds=events[Columns.KIND].map(KIND_INDEX).to_numpy(np.int64),
            rewards=rewards,
            times=events[Columns.EVENT_TIMESTAMP].to_numpy(np.int64),
            user_stats_EF=events[list(USER_STATS)].to_numpy(np.float32),
            item_stats_EF=events[list(ITEM_STATS)].to_numpy(np.float32),
            user_ids=np.asarray(user_ids, dtype=object),
            catalogue=catalogue,
            window=window,
        )

    def select(self, rows: np.ndarray) -> "TrainingSet":
        """The events of ``rows`` (a mask or ascending places), users and catalogue unchanged."""
        names = ("positions", "users", "items", "kinds", "rewards", "times", "user_stats_EF", "item_stats_EF")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def moment(self, position: int, time: int | None = None) -> int:
        """``time`` where it is known, else the latest event time at positions up to ``position``.

        Older bundles recorded positions alone. Without any such event it is just before the first.
        """
        if time is not None:
            return time
        arrived = self.positions <= position
        return int(self.times[arrived].max() if arrived.any() else self.times.min() - 1)

    def upto(self, moment: int) -> "TrainingSet":
        """The events up to a moment, and the catalogue's statistics as they were known then.

        Where events are cut off, an item's statistics become those of its latest event that is left (known
        before that event), so that nothing of what came later is in them.
        """
        keep = self.times <= moment
        if keep.all():
            return self
        left = self.select(keep)
        stats_NF = np.full_like(self.catalogue.stats_NF, np.nan)
        stats_NF[left.items] = left.item_stats_EF  # rows are in the order of time: the latest one stays
        return replace(left, catalogue=replace(self.catalogue, stats_NF=stats_NF))

    @cached_property
    def influence_E(self) -> np.ndarray:
        """What each event may count for others, by ``attune.influence``; 0 for what is no use of the item."""
        uses = np.flatnonzero(MARKS_SEEN[self.kinds])
        weights_E = np.zeros(len(self))
        weights_E[uses] = influence(self.users[uses], self.items[uses], self.times[uses])
        return weights_E

    @cached_property
    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows (ascending) of the uses that count for others, one of each user and item, and what each counts."""
        rows = standing(self.users, self.items, self.influence_E)
        return rows, self.influence_E[rows]

    def known_before(self, users: np.ndarray, moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each query the range in ``by_user`` of the user's events strictly before the moment."""
        start = np.searchsorted(self._keys, self._key(users, np.full(len(users), np.iinfo(np.int64).min)))
        return start, np.searchsorted(self._keys, self._key(users, moments))

    def _key(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """One integer that sorts like (user, time); for a moment between events, the place before the next."""
        return users * (len(self._moments) + 1) + np.searchsorted(self._moments, times)


@dataclass(frozen=True)
class Groups:
    """G groups in the order of time: what did this user do at this moment?

    ``users``, ``moments`` and ``user_stats_GF`` have a row per group; ``rows`` holds the places of the group's
    events in the training set, so ``training_set.items[groups.rows.values]`` are the targets.
    """

    users: np.ndarray
    moments: np.ndarray
    user_stats_GF: np.ndarray
    rows: Ragged

    def __len__(self) -> int:
        return len(self.users)

    def select(self, places: np.ndarray) -> "Groups":
        """The groups at ``places`` (int64), in that order."""
        lengths = np.diff(self.rows.offsets)[places]
        rows = Ragged(_offsets(lengths), self.rows.values[ranges(self.rows.offsets[places], lengths)])
        return Groups(self.users[places], self.moments[places], self.user_stats_GF[places], rows)


def groups(training_set: TrainingSet, after: int, upto: int) -> Groups:
    """The events at moments in (after, upto] by (user, event_timestamp), groups in the order of time.

    The statistics of a group's user are those of its first event: known before the moment.
    """
    events = np.flatnonzero((training_set.times > after) & (training_set.times <= upto))
    users, times = training_set.users[events], training_set.times[events]
    order = np.lexsort((training_set.positions[events], users, times))
    events, users, times = events[order], users[order], times[order]
    first = np.ones(len(events), bool)
    first[1:] = (users[1:] != users[:-1]) | (times[1:] != times[:-1])
    starts = np.flatnonzero(first)
    rows = Ragged(np.append(starts, len(events)), events)
    return Groups(users[starts], times[starts], training_set.user_stats_EF[events[starts]], rows)


def histories(
    training_set: TrainingSet,
    part: Groups,
    limit: int = HISTORY_LIMIT,
    catalogue: Catalogue | None = None,
    stats_of_events: bool = False,
) -> HistoryBatch:
    """What was known of each group's user strictly before its moment: the latest ``limit`` events.

    ``catalogue`` is the one that the item indices refer to (by default the training set's); events of items that
    it lacks are left out. ``stats_of_events`` gives each event the item statistics of its own time, as training
    does; otherwise they are the catalogue's, as in serving. The batch is as long as its longest history, at least 1.
    """
    starts, ends = training_set.known_before(part.users, part.moments)
    lengths = np.minimum(ends - starts, limit)
    length = max(int(lengths.max(initial=0)), 1)
    place_BL = ends[:, None] - length + np.arange(length)
    known_BL = np.arange(length) >= length - lengths[:, None]
    row_BL = training_set.by_user[np.where(known_BL, place_BL, 0)]
    if catalogue is not None and catalogue is not training_set.catalogue:
        places = catalogue.places(training_set.catalogue.item_ids)
        known_BL = known_BL & (places[training_set.items[row_BL]] >= 0)
        order_BL = np.argsort(known_BL, axis=1, kind="stable")
        row_BL, known_BL = np.take_along_axis(row_BL, order_BL, 1), np.take_along_axis(known_BL, order_BL, 1)
    else:
        catalogue, places = training_set.catalogue, np.arange(len(training_set.catalogue))
    item_BL = places[training_set.items[row_BL]]
    stats_BLF = training_set.item_stats_EF[row_BL] if stats_of_events else catalogue.stats_NF[item_BL]
    return HistoryBatch(
        items_BL=np.where(known_BL, item_BL + 1, 0),
        kinds_BL=np.where(known_BL, training_set.kinds[row_BL], 0),
        rewards_BL=np.where(known_BL, training_set.rewards[row_BL], np.float32(0.5)).astype(np.float32),
        times_BL=np.where(known_BL, training_set.times[row_BL], 0),
        item_stats_BLF=np.where(known_BL[..., None], stats_BLF, np.float32(np.nan)).astype(np.float32),
        user_stats_BF=part.user_stats_GF.astype(np.float32),
        now_B=part.moments,
    )


def seen(training_set: TrainingSet, part: Groups, catalogue: Catalogue | None = None) -> Ragged:
    """For each group the items that its user had seen strictly before the moment (an item may stand twice).

    Indices refer to ``catalogue`` (by default the training set's); items that it lacks are left out.
    """
    starts, ends = training_set.known_before(part.users, part.moments)
    rows = training_set.by_user[ranges(starts, ends - starts)]
    group_E = np.repeat(np.arange(len(part)), ends - starts)
    items = training_set.items[rows]
    if catalogue is not None and catalogue is not training_set.catalogue:
        items = catalogue.places(training_set.catalogue.item_ids)[items]
    keep = MARKS_SEEN[training_set.kinds[rows]] & (items >= 0)
    return Ragged(_offsets(np.bincount(group_E[keep], minlength=len(part))), items[keep])


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The integers of all the ranges [start, start + length), one after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


@dataclass(frozen=True)
class Targets:
    """The T targets of a batch of groups: the row of the batch that each stands in, and its event's place.

    ``seen`` holds what each group's user had before, by the training set's own catalogue. ``repeated`` counts the
    events left out because the user had the item, ``unmarked`` those whose kind is no sign of use.
    """

    row_T: np.ndarray
    event_T: np.ndarray
    seen: Ragged
    repeated: int
    unmarked: int


def targets(training_set: TrainingSet, part: Groups) -> Targets:
    """The events of the groups that a recommender has to predict, for choosing on validation and judging alike.

    Left out are impressions and other kinds that are no use of the item, items that the user had seen strictly
    before, and all but the latest event of one item in one group: a hide at the moment of a click is a hide.
    """
    known, count = seen(training_set, part), len(training_set.catalogue)
    event_T, row_T = part.rows.values, part.rows.row_of_value()
    used_T = MARKS_SEEN[training_set.kinds[event_T]]
    unmarked = int((~used_T).sum())
    event_T, row_T = event_T[used_T], row_T[used_T]
    key_T = row_T * count + training_set.items[event_T]
    fresh_T = np.zeros(len(key_T), bool)
    fresh_T[len(key_T) - 1 - np.unique(key_T[::-1], return_index=True)[1]] = True
    fresh_T &= ~np.isin(key_T, known.row_of_value() * count + known.values)
    return Targets(row_T[fresh_T], event_T[fresh_T], known, int((~fresh_T).sum()), unmarked)


@dataclass(frozen=True)
class Windows:
    """Moments up to ``train_upto`` are learned from, up to ``validate_upto`` chosen on, up to ``upto`` judged on."""

    train_upto: int
    validate_upto: int
    upto: int


def demand_enough(events: int) -> None:
    """Raises DataContractError when there are too few events to train on."""
    if events < LEAST_EVENTS:
        raise DataContractError(
            f"{events} events are too few to train on; at least {LEAST_EVENTS} are needed: import some"
        )


def split_windows(times: np.ndarray, validation: float = 0.1, holdout: float = 0.1) -> Windows:
    """Split events by their times (any order): the last ``holdout`` share is for the gates.

    Raises DataContractError when there are too few events, or they lie at too few moments.
    """
    demand_enough(len(times))
    moments, counts = np.unique(times, return_counts=True)
    parts = 3 if holdout else 2
    if len(moments) < parts:
        raise DataContractError(
            f"{len(times)} events lie at {len(moments)} different event times, and {parts} are needed to learn, to"
            " choose and to judge: import events with the times at which they happened"
        )
    upto_M = np.cumsum(counts)
    judged = 1 + _nearest(upto_M[1:-1], int(len(times) * (1.0 - holdout))) if holdout else len(moments) - 1
    train = _nearest(upto_M[:judged], int(len(times) * (1.0 - validation - holdout)))
    return Windows(int(moments[train]), int(moments[judged]), int(moments[-1]))


def share_upto(times: np.ndarray, share: float) -> int:
    """The moment up to which about ``share`` of the events lie; unless that is all of them, some lie after it.

    Raises DataContractError when all of them lie at one moment and cannot be split.
    """
    moments, counts = np.unique(times, return_counts=True)
    if share >= 1.0:
        return int(moments[-1])
    if len(moments) < 2:
        raise DataContractError(f"{len(times)} new events lie at one event time and cannot be split: import later ones")
    return int(moments[_nearest(np.cumsum(counts)[:-1], round(len(times) * share))])


def _nearest(counts: np.ndarray, wanted: int) -> int:
    """The place of the count that is nearest to ``wanted``, the first of equally near ones."""
    return int(np.abs(counts - wanted).argmin())


def is_panel(user_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each user id whether it belongs to the panel: by a hash of the id alone, for ever the same."""
    edge, names = int(PANEL_SHARE * 2**64), (b"attune-panel:" + str(user_id).encode() for user_id in user_ids)
    digests = (hashlib.blake2b(name, digest_size=8).digest() for name in names)
    return np.fromiter((int.from_bytes(digest, "big") < edge for digest in digests), bool, len(user_ids))
