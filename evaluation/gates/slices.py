"""Does a challenger harm some users or items, though the mean over everybody hides it?

Of each slice the hypothesis "the relative change is not below the floor" is tested by the bootstrap over users; Holm
(1979), "A simple sequentially rejective multiple test procedure", keeps the chance of one false alarm among all slices
below the level. A slice that is not rejected has not been shown to be harmed: with few users that says little.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from evaluation.case import Case, CaseLimits
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.hold_out import event_rows
from evaluation.intervals import REPLICATES, Interval, by_user, percentiles, replicated
from models.figures import metric_name
from models.learning.dataset import TrainingSet
from models.metrics import Evaluation, values

STANDING = ("new_users", "light_users", "heavy_users", "long_tail_items")
"""The slices that a report always tells of, tested or not: names, no limit."""

LONGEST = 100
"""Letters of a value in a slice's name: with its attribute, and all that stands before, it is recorded under 250."""


@dataclass(frozen=True)
class SliceLimits:
    """Which slices are looked at, and when one is harmed."""

    light_from: int = 5
    """Events before the hold-out: users of fewer are new."""
    heavy_from: int = 20
    """Events before the hold-out: users of fewer are light, all others heavy."""
    head_share: float = 0.8
    """The most used items that hold so much of the use before the hold-out are the head; all others the long tail."""
    values: int = 20
    """So many values of an attribute, the most frequent among the targets, are slices; the others are one together."""
    told_share: float = 0.5
    """The share of the targets with an attribute that these values must hold, or the attribute makes no slices."""
    attributes: int = 20
    """So many attributes of items, and of users, those that most targets have, make slices, beside genre and decade."""
    nearly_all: float = 0.95
    """The share of all targets above which a value makes no slice: what harms it is seen in the mean."""
    decade_share: float = 0.01
    """Decades are joined, from the oldest on, until a slice holds so much of the targets: rare ones say nothing."""
    level: float = 0.025
    """Of the test of all slices together; one-sided: the side on which a 95 % interval may err."""
    least_users: int = 50
    """A slice of fewer is not tested: so far out in the tail, a bootstrap over a handful raises false alarms."""
    most: int = 50
    """So many slices are tested, the largest of those by other attributes last: of more the bootstrap could not tell a
    harm from chance, since the least chance that it can state is one in 2,001."""


@dataclass(frozen=True)
class Harm:
    """One slice: the relative change with the interval at Holm's level for it, and whether it is below the floor."""

    change: Interval
    users: int
    events: int
    is_harmed: bool


@dataclass(frozen=True)
class Slices(Gate):
    """No verdict without a champion."""

    slice_change: float = -0.05
    """Relative: a slice whose whole interval, at Holm's level, lies below it is harmed."""
    slices: SliceLimits = SliceLimits()

    def __call__(self, case: Case) -> Iterator[Verdict]:
        if case.champion is None:
            return
        challenger, champion = (case.replays[name].of(case.part) for name in ("challenger", "champion"))
        masks = slices(challenger, case.training_set, case.after, self.slices)
        tested = self.harms(challenger, champion, masks, case.limits)
        yield from (self.verdict(name, harm, case.figure) for name, harm in tested.items())
        few = "too few to test, or the champion hits nothing of theirs"
        for name in STANDING:
            if name not in tested:
                users = np.unique(challenger.events["user_id"].to_numpy()[masks[name]].astype(str))
                yield not_applicable(f"no_harm_to_{name}", f"{len(users)} users are {few}")
        others = len(masks.keys() - tested.keys() - set(STANDING))
        if others:
            note = f"{others} more are not tested: too few users or targets, or the champion hits nothing of theirs"
            yield not_applicable("no_harm_to_other_slices", note)

    def verdict(self, name: str, harm: Harm, figure: str) -> Verdict:
        change = harm.change
        note = (
            f"relative change in {figure} against the champion over {harm.users} users and {harm.events} events; "
            f"interval at Holm's level [{change.low:.4f}, {change.high:.4f}]"
        )
        outcome = passes(not harm.is_harmed)
        return Verdict(f"no_harm_to_{name}", self.slice_change, change.value, outcome, note, change.low, change.high)

    def harms(
        self, challenger: Evaluation, champion: Evaluation, slices_E: Mapping[str, np.ndarray], limits: CaseLimits
    ) -> dict[str, Harm]:
        """Each slice's ``Harm``, in their order, without those of too few users or hits, and the last of too many.

        ``slices_E`` are masks over the events of both. Raises ValueError where the two did not judge the same events.
        """
        if not np.array_equal(challenger.events["position"].to_numpy(), champion.events["position"].to_numpy()):
            raise ValueError(f"{challenger.name} and {champion.name} were not judged on the same events")
        users_E, ours_E = values(challenger, limits.metric)
        values_SE = np.stack([ours_E, values(champion, limits.metric)[1]])
        tested: dict[str, tuple[float, np.ndarray, int]] = {}
        for name, mask_E in slices_E.items():
            change = self._change(users_E[mask_E], values_SE[:, mask_E], limits.user_cap)
            if change is not None:
                tested[name] = change
            if len(tested) == self.slices.most:
                break
        chances = {
            name: (1 + (drawn_R >= self.slice_change).sum()) / (1 + len(drawn_R))
            for name, (_, drawn_R, _) in tested.items()
        }
        levels, rejected = holm(chances, self.slices.level)
        return {
            name: Harm(
                change=percentiles(value, drawn_R, users, 1 - 2 * levels[name]),
                users=users,
                events=int(slices_E[name].sum()),
                is_harmed=name in rejected,
            )
            for name, (value, drawn_R, users) in tested.items()
        }

    def _change(self, users_E: np.ndarray, values_SE: np.ndarray, cap: float) -> tuple[float, np.ndarray, int] | None:
        """The relative change, its replicates (R,) and the number of users; None where nothing can be compared."""
        defined_E = ~np.isnan(values_SE).any(axis=0)
        sums_SU, counts_U = by_user(users_E[defined_E], values_SE[:, defined_E], cap)
        if len(counts_U) < self.slices.least_users or not sums_SU[1].any():
            return None
        sums_RS, _ = replicated(sums_SU, counts_U, REPLICATES, seed=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn_R = np.where(sums_RS[:, 1] > 0, sums_RS[:, 0] / sums_RS[:, 1] - 1.0, np.inf)
        ours, theirs = sums_SU.sum(axis=1)
        return float(ours / theirs - 1.0), drawn_R, len(counts_U)


def holm(chances: Mapping[str, float], level: float) -> tuple[dict[str, float], set[str]]:
    """The level at which each is tested, and which are rejected: the least likely first, until one stands."""
    levels, rejected, stands = {}, set[str](), False
    for place, name in enumerate(sorted(chances, key=lambda name: (chances[name], name))):
        levels[name] = level / (len(chances) - place)
        stands = stands or chances[name] > levels[name]
        if not stands:
            rejected.add(name)
    return levels, rejected


def slices(evaluation: Evaluation, training_set: TrainingSet, after: int, limits: SliceLimits) -> dict[str, np.ndarray]:
    """A mask over ``evaluation.events`` (E,) by name, in the order of the tests; slices may overlap or be empty.

    Events up to the moment ``after`` say who is new, light or heavy, and what is long-tail.
    """
    rows_E = event_rows(evaluation, training_set)
    before = training_set.times <= after
    history_U = np.bincount(training_set.users[before], minlength=len(training_set.user_ids))
    earlier_E = history_U[training_set.users[rows_E]]
    is_new_E, is_heavy_E = earlier_E < limits.light_from, earlier_E >= limits.heavy_from
    item_E, catalogue = training_set.items[rows_E], training_set.catalogue
    used_N = np.bincount(training_set.items[before], minlength=len(catalogue))
    order = np.argsort(-used_N, kind="stable")
    is_head_N = np.zeros(len(used_N), bool)
    is_head_N[order[np.cumsum(used_N[order]) - used_N[order] < limits.head_share * used_N.sum()]] = True
    pairs = [(place, genre) for place in np.unique(item_E).tolist() for genre in catalogue.genres[place]]
    place_R, genre_R = np.array([place for place, _ in pairs], np.int64), np.array([name for _, name in pairs], object)
    others = {
        **masks_by_trait(training_set.traits, "item", catalogue.item_ids, item_E, limits),
        **masks_by_trait(training_set.traits, "user", training_set.user_ids, training_set.users[rows_E], limits),
    }
    return {
        **dict(zip(STANDING, (is_new_E, ~is_new_E & ~is_heavy_E, is_heavy_E, ~is_head_N[item_E]), strict=True)),
        **masks_by_value(place_R, _recorded("genre", genre_R), item_E, limits.values, "other_genres"),  # no such genre
        **_of_decades(catalogue.years, item_E, limits.decade_share),
        **dict(sorted(others.items(), key=lambda mask: -mask[1].sum())),
    }


def _of_decades(years: Sequence[float | None], item_E: np.ndarray, share: float) -> dict[str, np.ndarray]:
    """The targets of each decade, oldest first; rare ones together with the next, or at the end with the one before."""
    decade_E = np.array([np.nan if year is None else year // 10 * 10 for year in years])[item_E]
    decades, counts = np.unique(decade_E[~np.isnan(decade_E)], return_counts=True)
    spans: list[tuple[float, float]] = []
    start, targets = 0, 0
    for place, count in enumerate(counts):
        targets += count
        if targets >= share * counts.sum():
            spans.append((decades[start], decades[place]))
            start, targets = place + 1, 0
    if targets:  # there is a span: all together have enough
        spans[-1] = spans[-1][0], decades[-1]
    return {
        f"decade_{first:.0f}" if first == last else f"years_{first:.0f}_to_{last + 9:.0f}": (decade_E >= first)
        & (decade_E <= last)
        for first, last in spans
    }


def masks_by_value(
    place_R: np.ndarray, name_R: np.ndarray, place_E: np.ndarray, largest: int, rest: str
) -> dict[str, np.ndarray]:
    """Of E events, each at a place, those of each of the ``largest`` most frequent names, and of all others ``rest``.

    R pairs say which place has which name; a place may have several, and a pair may be said twice.
    """
    used_P = np.bincount(place_E, minlength=place_R.max(initial=0) + 1)
    is_used_R = used_P[place_R] > 0
    codes_R, names = pd.factorize(name_R[is_used_R])
    pairs_2R = np.unique(np.stack([codes_R, place_R[is_used_R]]), axis=1)
    counts = np.bincount(pairs_2R[0], used_P[pairs_2R[1]], len(names))
    by_use = sorted(range(len(names)), key=lambda code: (-counts[code], names[code]))
    parts = {str(names[code]): [code] for code in by_use[:largest]}
    if by_use[largest:]:
        parts[rest] = by_use[largest:]
    masks = {}
    for name, codes in parts.items():
        has_name_P = np.zeros(len(used_P), bool)
        has_name_P[pairs_2R[1][np.isin(pairs_2R[0], codes)]] = True
        masks[name] = has_name_P[place_E]
    return masks


def masks_by_trait(
    traits: pd.DataFrame, whose: str, ids: Sequence[str] | np.ndarray, place_E: np.ndarray, limits: SliceLimits
) -> dict[str, np.ndarray]:
    """The targets by those attributes of their items, or users, whose frequent values hold most of the targets."""
    sliced, attributes = dict[str, np.ndarray](), 0
    for attribute, place_R, value_R in _attributes(traits, whose, ids, place_E):
        name_R, rest = _recorded(attribute, value_R), f"other_{attribute}"
        masks = masks_by_value(place_R, name_R, place_E, limits.values, rest)
        frequent_E = np.any([mask_E for name, mask_E in masks.items() if name != rest], axis=0)
        if frequent_E.sum() < limits.told_share * np.any(list(masks.values()), axis=0).sum():
            continue
        kept = {name: mask_E for name, mask_E in masks.items() if mask_E.mean() <= limits.nearly_all}
        for name, mask_E in kept.items():
            sliced[name] = sliced[name] | mask_E if name in sliced else mask_E
        attributes += bool(kept)
        if attributes == limits.attributes:
            break
    return sliced


def _attributes(
    traits: pd.DataFrame, whose: str, ids: Sequence[str] | np.ndarray, place_E: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each attribute as slices are named by it, with places and values: what most events are about comes first."""
    rows = traits[traits["whose"] == whose]
    place_R = pd.Index(ids).get_indexer(rows["id"].astype(object))
    used_P = np.bincount(place_E, minlength=len(ids))
    is_used_R = (place_R >= 0) & (used_P[place_R] > 0)
    place_R, value_R = place_R[is_used_R], rows["value"].to_numpy(object)[is_used_R]
    name_R = _recorded(whose, rows["attribute"].to_numpy(object)[is_used_R])
    rows_of = pd.Series(name_R).groupby(name_R).indices
    events = {name: used_P[np.unique(place_R[row_A])].sum() for name, row_A in rows_of.items()}
    for name in sorted(rows_of, key=lambda attribute: (-events[attribute], attribute)):
        yield str(name), place_R[rows_of[name]], value_R[rows_of[name]]


def _recorded(of: str, value_R: np.ndarray) -> np.ndarray:
    """The name that each value (R,) of ``of`` is recorded under; values that are written alike share one."""
    codes_R, values = pd.factorize(value_R)
    return np.array([f"{of}_{metric_name(value).replace('/', '_')[:LONGEST]}" for value in values], object)[codes_R]
