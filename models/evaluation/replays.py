"""Everybody who is compared, replayed over the same events side by side.

Who judges many challengers on one hold-out against the same champion keeps the replays of all but the challenger: what
a bundle says of a hold-out does not change.
"""

import os
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from models.baselines import Popularity
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.contract import Recommender
from models.evaluation.latency import one_thread
from models.evaluation.metrics import Evaluation
from models.evaluation.remembered import remembering
from models.evaluation.replay import replay_together
from models.learning.dataset import TrainingSet
from models.learning.panel import is_panel

Exam = tuple[str, str, int, int]
"""Who was asked (a bundle's digest, or how popularity was counted), the digest of the window, and the hold-out:
positions in (after, upto]. Training sets of one window and digest are taken to be equal."""

Replayed = MutableMapping[Exam, Evaluation]
"""Replays by exam, of bundles other than a challenger."""


def replays(
    bundles: Mapping[str, Bundle], training_set: TrainingSet, after: int, upto: int, replayed: Replayed | None = None
) -> dict[str, Evaluation]:
    """Everybody on the same events: the bundles, fresh popularity, and each part of the challenger alone.

    Whoever but the challenger stands in ``replayed`` is taken from there, whoever does not is put there. Models are
    scored side by side, a thread each: numpy and torch compute outside Python's lock.
    """
    challenger, kept = bundles["challenger"], {} if replayed is None else replayed
    popularity = _fresh_popularity(challenger, training_set, after)
    counted = f"{popularity.name} {popularity.half_life_days:g} days"
    hybrid, parts = remembering(challenger.hybrid)
    asked: dict[str, tuple[Sequence[Recommender], Catalogue]] = {
        challenger.digest: ((hybrid, *parts), challenger.catalogue),  # the longest first
        counted: ((popularity,), training_set.catalogue),
    }
    for bundle in bundles.values():
        asked.setdefault(bundle.digest, ((bundle.hybrid,), bundle.catalogue))

    def scored(recommenders: Sequence[Recommender], catalogue: Catalogue) -> list[Evaluation]:
        return replay_together(recommenders, training_set, after, upto, catalogue=catalogue)

    exams: dict[str, Exam] = {who: (who, str(training_set.window["digest"]), after, upto) for who in asked}
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {
            who: pool.submit(scored, *one)
            for who, one in asked.items()
            if who == challenger.digest or exams[who] not in kept
        }
        own, *alone = running.pop(challenger.digest).result()
        kept.update({exams[who]: one.result()[0] for who, one in running.items()})
    found = {challenger.digest: own, **{who: kept[exams[who]] for who in asked if who != challenger.digest}}
    named = {name: found[bundle.digest] for name, bundle in bundles.items()}
    return {**named, "popularity": found[counted], **{f"{one.name} alone": one for one in alone}}


def _fresh_popularity(challenger: Bundle, training_set: TrainingSet, after: int) -> Popularity:
    """Popularity counted here from what lies before the hold-out, whatever the challenger's own tables say.

    The half-life is the one that the challenger chose on validation; the panel's events are left out as in training.
    """
    known = training_set.select(
        (training_set.positions <= after) & ~is_panel(training_set.user_ids)[training_set.users]
    )
    return Popularity.fit(known, challenger.popularity.half_life_days)
