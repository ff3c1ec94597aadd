"""Whether a bundle speaks of the same things as the training set that it is judged on.

A challenger of another feature service, of rewards counted otherwise, of another catalogue or with its ids in disorder
answers all the same: it recommends other things than it means. Each fault is said in words.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import KINDS, REWARD_TABLE_VERSION
from evaluation.intervals import capped_mean
from evaluation.limits import GateLimits
from evaluation.slices import rows_of
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.learning.dataset import TrainingSet
from models.metrics import Evaluation

ATTRIBUTES = ("titles", "genres", "years")


def faults(
    bundles: Mapping[str, Bundle],
    replays: Mapping[str, Evaluation],
    training_set: TrainingSet,
    after: int,
    limits: GateLimits,
) -> list[str]:
    """What is wrong with the challenger, a sentence each; empty where it agrees.

    ``bundles`` and ``replays`` are the challenger's and, where there is one, the champion's; the latter over events
    after position ``after``.
    """
    challenger = bundles["challenger"]
    return [
        *_of_words(challenger.config, training_set.window),
        *_of_numbers(challenger),
        *_of_catalogue(challenger.catalogue, training_set.catalogue, limits),
        *_of_targets(bundles, replays["challenger"], training_set, after, limits),
    ]


def _of_words(config: Mapping[str, Any], window: Mapping[str, Any]) -> list[str]:
    """What the bundle says it learned from, beside what there is; of an older one what it does not say is not asked."""
    kinds = config.get("kinds", [])
    known: dict[str, tuple[Any, Any]] = {
        "feature service": (config.get("feature_service"), window.get("feature_service")),
        "reward table": (config.get("reward_table"), REWARD_TABLE_VERSION),
        "kinds of behaviour": (list(kinds), list(KINDS)[: len(kinds)]),  # kinds that came later it never met
        "statistics of users": (config.get("user_stats", list(USER_STATS)), list(USER_STATS)),
        "statistics of items": (config.get("item_stats", list(ITEM_STATS)), list(ITEM_STATS)),
    }
    return [
        f"the {name} that it learned from is {_said(its)}, the training set's {_said(ours)}"
        for name, (its, ours) in known.items()
        if its != ours
    ]


def no_numbers(bundle: Bundle) -> list[str]:
    """The weights and tables of a bundle in which not every value is finite, by name, and its scores.

    Statistics may be unknown, and are NaN then, but not infinite.
    """
    arrays = bundle.hybrid.tensors()
    broken = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    broken += ["the items' statistics"] * bool(np.isinf(bundle.catalogue.stats_NF).any())
    return broken or ["its scores"] * (not np.isfinite(bundle.golden_scores()).all())


def _of_numbers(bundle: Bundle) -> list[str]:
    broken = no_numbers(bundle)
    return [f"not every number is finite in {_said(broken)}"] if broken else []


def _of_catalogue(its: Catalogue, ours: Catalogue, limits: GateLimits) -> list[str]:
    """Whether the items of both are the same things: by their attributes, and by how often they were used."""
    place_N = ours.places(its.item_ids)
    pairs = [(mine, int(place)) for mine, place in enumerate(place_N) if place >= 0]
    found = []
    for name in ATTRIBUTES:
        left, right = getattr(its, name), getattr(ours, name)
        share = sum(left[mine] != right[place] for mine, place in pairs) / max(len(pairs), 1)
        if share > limits.attributes_changed:
            found.append(f"{share:.0%} of the items that both know have other {name}")
    counts = its.stats_NF[place_N >= 0, 0], ours.stats_NF[place_N[place_N >= 0], 0]
    likeness = _likeness(*counts, limits.counts_items)
    if likeness < limits.counts_likeness:
        found.append(f"the items that it knows as much used are not those that were (correlation {likeness:.2f})")
    return found


def _likeness(its_M: np.ndarray, ours_M: np.ndarray, least: int) -> float:
    """The correlation of the logarithms of two counts of the same items; 1 where they can say nothing."""
    known = np.isfinite(its_M) & np.isfinite(ours_M)
    logs_2M = np.log1p(np.stack([its_M[known], ours_M[known]]).astype(np.float64))
    if known.sum() < least or not logs_2M.std(axis=1).all():
        return 1.0
    return float(np.corrcoef(logs_2M)[0, 1])


def _of_targets(
    bundles: Mapping[str, Bundle], asked: Evaluation, training_set: TrainingSet, after: int, limits: GateLimits
) -> list[str]:
    """Whether it knows what people choose: as much of it as the champion, or as could be known before the hold-out.

    Of the shares one user makes up no more than the cap.
    """
    if not len(asked.events):
        return []
    if "champion" in bundles:
        known_N, whom = _known(bundles["champion"], training_set), "the champion"
    else:
        earlier = training_set.items[training_set.positions <= after]
        known_N = np.isin(np.arange(len(training_set.catalogue)), earlier)
        whom = "whoever saw what lies before the hold-out"
    item_E, users_E = training_set.items[rows_of(asked, training_set)], asked.events["user_id"].to_numpy()
    share, of_others = (
        capped_mean(~one_N[item_E], users_E, limits.user_cap)
        for one_N in (_known(bundles["challenger"], training_set), known_N)
    )
    if share <= of_others + limits.unknown_more:
        return []
    return [f"it does not know the items of {share:.1%} of the targets, {whom} of {of_others:.1%}"]


def _known(bundle: Bundle, training_set: TrainingSet) -> np.ndarray:
    """Whether the bundle's catalogue holds each item (N,) of the training set's."""
    known_N: np.ndarray = bundle.catalogue.places(training_set.catalogue.item_ids) >= 0
    return known_N


def _said(value: Any) -> str:
    """A value in a sentence."""
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
