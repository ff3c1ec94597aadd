"""Everybody who is compared, replayed over the same events side by side.

Who judges many challengers on one hold-out against the same champion keeps the replays of all but the challenger: what
a bundle says of a hold-out does not change.
"""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from evaluation.calibration import Foretelling
from evaluation.limits import GateLimits, PanelLimits
from evaluation.replay import RememberedHybrid, remembering, replay_together
from models.baselines import Popularity
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import Recommender
from models.learning.dataset import TrainingSet, is_panel
from models.metrics import Evaluation, values
from models.network.config import Recipe
from models.network.sequence import torch_threads

Exam = tuple[str, str, int, int]
"""Who was asked (a bundle's digest, or popularity), on whose events (the window's digest, and whether
the panel's alone), and which: positions in (after, upto]. Training sets of one digest are taken to be equal, and so are
the limits of all judgements that share replays."""


Replayed = MutableMapping[Exam, Evaluation]
"""Replays by exam, of bundles other than a challenger."""


@dataclass(frozen=True)
class Asked:
    """Recommenders over one catalogue, asked together.

    ``whole`` is the one among them whose chances are wanted, ``floor`` the ``reward_floor`` that it learned with.
    Of some only the strongest is told, by the metric ``strongest_by``.
    """

    recommenders: tuple[Recommender, ...]
    catalogue: Catalogue
    whole: RememberedHybrid | None = None
    floor: float = Recipe.reward_floor
    strongest_by: str | None = None

    @staticmethod
    def of(bundle: Bundle, *others: Recommender, whole: RememberedHybrid) -> "Asked":
        """A bundle's hybrid, its chances, and other recommenders over its catalogue."""
        floor = float(bundle.config["recipe"].get("reward_floor", Recipe.reward_floor))
        return Asked((whole, *others), bundle.catalogue, whole, floor)


@dataclass(frozen=True)
class Stretch:
    """The events that everybody is asked: of ``training_set`` those at positions in (after, upto].

    Where ``each`` is given, only so many groups of each user, the latest ones.
    """

    training_set: TrainingSet
    after: int
    upto: int
    whose: str
    each: int | None = None

    def exam(self, who: str) -> Exam:
        """The name of one's exam on these events."""
        return who, self.whose, self.after, self.upto

    def replay(self, asked: Asked) -> list[Evaluation]:
        """What became of each recommender; the chances stand with the first."""
        if asked.strongest_by is not None:
            found = replay_together(
                asked.recommenders, self.training_set, self.after, self.upto, catalogue=asked.catalogue
            )
            return [strongest(found, asked.strongest_by)]
        positions = self.training_set.positions
        events = int(((positions > self.after) & (positions <= self.upto)).sum())
        onlooker = None if asked.whole is None else Foretelling(asked.whole, asked.floor, events)
        first, *others = replay_together(
            asked.recommenders,
            self.training_set,
            self.after,
            self.upto,
            catalogue=asked.catalogue,
            onlooker=onlooker,
            each=self.each,
        )
        return [first if onlooker is None else replace(first, chances=onlooker.chances()), *others]


def replays(
    bundles: Mapping[str, Bundle],
    training_set: TrainingSet,
    after: int,
    upto: int,
    limits: GateLimits,
    replayed: Replayed | None = None,
) -> dict[str, Evaluation]:
    """Everybody on the same events: the bundles, fresh popularity, and each part of the challenger alone.

    Bundles are asked for their chances too. Whoever but the challenger stands in ``replayed`` is taken from there,
    whoever does not is put there.
    """
    challenger, counted = bundles["challenger"], "popularity, counted afresh"
    hybrid, parts = remembering(challenger.hybrid)
    asked = {
        challenger.digest: Asked.of(challenger, *parts, whole=hybrid),  # the longest first
        counted: Asked(
            fresh_popularity(training_set, after, limits.half_lives),
            training_set.catalogue,
            strongest_by=limits.metric,
        ),
    }
    for bundle in bundles.values():
        asked.setdefault(bundle.digest, Asked.of(bundle, whole=RememberedHybrid(bundle.hybrid)))
    stretch = Stretch(training_set, after, upto, str(training_set.window["digest"]))
    found = _side_by_side(asked, stretch, challenger.digest, replayed)
    named = {name: found[bundle.digest][0] for name, bundle in bundles.items()}
    alone = {f"{one.name} alone": one for one in found[challenger.digest][1:]}
    return {**named, "popularity": found[counted][0], **alone}


def earlier(
    bundles: Mapping[str, Bundle],
    training_set: TrainingSet,
    after: int,
    limits: PanelLimits,
    replayed: Replayed | None = None,
) -> dict[str, Evaluation]:
    """Challenger and champion on what the panel did before the champion had learned; empty without a champion.

    These events taught neither, so both are examined on them as on a hold-out. They end where the champion's training
    did: those behind it belong to the times that the challenger learned from and the champion did not.
    """
    if "champion" not in bundles:
        return {}
    two = {name: bundles[name] for name in ("challenger", "champion")}
    panel = training_set.select(is_panel(training_set.user_ids)[training_set.users])
    upto = min(after, two["champion"].trained_upto)
    users = len(np.unique(panel.users[panel.positions <= upto]))
    whose = f"{training_set.window['digest']}, the panel"
    stretch = Stretch(panel, 0, upto, whose, each=max(limits.earlier // max(users, 1), 1))
    asked = {one.digest: Asked((RememberedHybrid(one.hybrid),), one.catalogue) for one in two.values()}
    found = _side_by_side(asked, stretch, two["challenger"].digest, replayed)
    return {name: found[one.digest][0] for name, one in two.items()}


def _side_by_side(
    asked: Mapping[str, Asked], stretch: Stretch, newcomer: str, replayed: Replayed | None
) -> dict[str, list[Evaluation]]:
    """The replays of each, of who is not the newcomer only those that are not kept yet.

    A thread each: numpy and torch compute outside Python's lock.
    """
    kept: Replayed = {} if replayed is None else replayed
    with torch_threads(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            who: pool.submit(stretch.replay, one)
            for who, one in asked.items()
            if who == newcomer or stretch.exam(who) not in kept
        }
        found = {who: one.result() for who, one in running.items()}
    kept.update({stretch.exam(who): one[0] for who, one in found.items() if who != newcomer})
    return {who: found[who] if who in found else [kept[stretch.exam(who)]] for who in asked}


def strongest(found: Sequence[Evaluation], metric: str) -> Evaluation:
    """Of replays over the same events the one with the largest sum of a metric."""
    return max(found, key=lambda one: float(np.nansum(values(one, metric)[1])))


def fresh_popularity(training_set: TrainingSet, after: int, half_lives: Sequence[float]) -> tuple[Popularity, ...]:
    """Popularity counted here from what lies before the hold-out, for every half-life (days).

    The panel's events are left out as in training.
    """
    known = training_set.select(
        (training_set.positions <= after) & ~is_panel(training_set.user_ids)[training_set.users]
    )
    return tuple(Popularity.fit(known, days) for days in half_lives)
