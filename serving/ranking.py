"""What the model's thread does: the pipeline on the bundle that each question captured, for many questions at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.recommender import POPULARITY, Asked, PopularityAlone, Recommendation, Request, encode, recommend_many
from serving.caps import AtMost, Caps
from serving.catalogue_snapshot import Offer
from serving.champion import Champion
from serving.state import Known


@dataclass(frozen=True, slots=True)
class Question:
    """One request, with the model that was the champion when it came in (None: nothing but counts).

    ``offer`` is of that model's items, or of those that were counted. ``explored`` is how many positions explored in
    the user's slates of before, as far as the model's policy has a budget.
    """

    champion: Champion | None
    offer: Offer
    known: Known
    request: Request
    at_most: AtMost = field(default_factory=dict)
    explored: int = 0

    @property
    def asked(self) -> Asked:
        """The question as the pipeline takes it."""
        rule = Caps(self.offer.shop, self.at_most) if self.at_most else None
        known = self.known
        return Asked(known.state, known.user_stats, self.request, self.offer.removed, rule, self.explored)


def rank(questions: Sequence[Question]) -> list[Recommendation]:
    """A slate for each question, those of one model together; no slate mixes two. Blocks for its CPU time."""
    by_bundle: dict[int, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        by_bundle[id(question.offer.shop.served)].append(place)
    found: dict[int, Recommendation] = {}
    for places in by_bundle.values():
        champion = questions[places[0]].champion
        group = [questions[place] for place in places]
        slates = [by_counts(one) for one in group] if champion is None else _ranked(champion, group)
        found.update(zip(places, slates, strict=True))
    return [found[place] for place in range(len(questions))]


def by_counts(question: Question) -> Recommendation:
    """A slate by popularity: the model's own if there is one, else what the log's events count."""
    bundle = PopularityAlone.of(question.offer.shop.served)
    return replace(recommend_many(bundle, [question.asked])[0], served_by=POPULARITY)


def _ranked(champion: Champion, questions: Sequence[Question]) -> list[Recommendation]:
    served = questions[0].offer.shop.served
    asked = [question.asked for question in questions]
    live_1N = fitting(champion.shelf.live_1N, len(served.catalogue))
    return recommend_many(served, asked, encode(served, asked, champion.vectors), live_1N)


def fitting(live_1N: np.ndarray | None, count: int) -> np.ndarray | None:
    """For a shop of so many items: nothing is known of those that came since, and those that it lacks are cut off."""
    if live_1N is None or live_1N.shape[1] == count:
        return live_1N
    found_1N = np.zeros((1, count), np.float32)
    found_1N[:, : live_1N.shape[1]] = live_1N[:, :count]
    return found_1N
