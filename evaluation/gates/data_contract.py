"""Whether a bundle speaks of the same things as the training set that it is judged on.

A challenger of another feature service, reward table or catalogue answers all the same: it recommends other things than
it means.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attune.columns import ITEM_STATS, USER_STATS
from attune.event_types import KINDS, REWARD_TABLE_VERSION
from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_above
from evaluation.hold_out import event_rows
from evaluation.intervals import capped_mean
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.learning.dataset import TrainingSet

ATTRIBUTES = ("titles", "genres", "years")


@dataclass(frozen=True)
class DataContract(Gate):
    attributes_changed: float = 0.05
    """The share of the items known to both that may have another title (genres, year): some are put right now and then,
    an id table in disorder changes nearly all."""
    counts_likeness: float = 0.3
    """What the counts of use of these items must correlate at least, as the bundle has them and the training set."""
    counts_items: int = 50
    """Of fewer items with counts on both sides, how alike the counts are says nothing."""
    unknown_more: float = 0.02
    """Absolute: the share of targets outside the catalogue may be so much above the champion's."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        challenger, training_set = case.challenger, case.training_set
        faults = [
            *_declared_faults(challenger.config, training_set.window),
            *([f"not every number is finite in {_words(case.not_finite)}"] if case.not_finite else []),
            *self._catalogue_faults(challenger.catalogue, training_set.catalogue),
            *self._unknown_targets(case),
        ]
        sound = "events, features, rewards, items and their attributes are those that it learned from"
        yield not_above("data_contract", 0.0, float(len(faults)), "; ".join(faults) or sound)

    def _catalogue_faults(self, its: Catalogue, ours: Catalogue) -> Iterator[str]:
        place_N = ours.places(its.item_ids)
        pairs = [(mine, int(place)) for mine, place in enumerate(place_N) if place >= 0]
        for name in ATTRIBUTES:
            left, right = getattr(its, name), getattr(ours, name)
            share = sum(left[mine] != right[place] for mine, place in pairs) / max(len(pairs), 1)
            if share > self.attributes_changed:
                yield f"{share:.0%} of the items that both know have other {name}"
        its_M, ours_M = its.stats_NF[place_N >= 0, 0], ours.stats_NF[place_N[place_N >= 0], 0]
        known_M = np.isfinite(its_M) & np.isfinite(ours_M)
        logs_2M = np.log1p(np.stack([its_M[known_M], ours_M[known_M]]).astype(np.float64))
        if known_M.sum() < self.counts_items or not logs_2M.std(axis=1).all():
            return
        likeness = float(np.corrcoef(logs_2M)[0, 1])
        if likeness < self.counts_likeness:
            yield f"the items that it knows as much used are not those that were (correlation {likeness:.2f})"

    def _unknown_targets(self, case: Case) -> Iterator[str]:
        """Whether it knows what people choose: as much as the champion, or as could be known before the hold-out."""
        replay, training_set = case.replays["challenger"], case.training_set
        if not len(replay.events):
            return
        if case.champion is not None:
            known_N, whom = _known(case.champion, training_set), "the champion"
        else:
            earlier = training_set.items[training_set.times <= case.after]
            known_N = np.isin(np.arange(len(training_set.catalogue)), earlier)
            whom = "whoever saw what lies before the hold-out"
        item_E, users_E = training_set.items[event_rows(replay, training_set)], replay.events["user_id"].to_numpy()
        share, of_others = (
            capped_mean(~is_known_N[item_E], users_E, case.limits.user_cap)
            for is_known_N in (_known(case.challenger, training_set), known_N)
        )
        if share > of_others + self.unknown_more:
            yield f"it does not know the items of {share:.1%} of the targets, {whom} of {of_others:.1%}"


def _declared_faults(config: Mapping[str, Any], window: Mapping[str, Any]) -> list[str]:
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
        f"the {name} that it learned from is {_words(its)}, the training set's {_words(ours)}"
        for name, (its, ours) in known.items()
        if its != ours
    ]


def _known(bundle: Bundle, training_set: TrainingSet) -> np.ndarray:
    """Whether the bundle's catalogue holds each item (N,) of the training set's."""
    return bundle.catalogue.places(training_set.catalogue.item_ids) >= 0


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
