"""What the model's thread does: the pipeline on the bundle that each question captured, for many questions at once."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from models.recommender import POPULARITY, Asked, PopularityAlone, Recommendation, Request, encode, recommend_many
from serving.champion import Champion
from serving.popular import Popular
from serving.state import Known


@dataclass(frozen=True, slots=True)
class Question:
    """One request, with the model that was the champion when it came in (None: nothing but counts)."""

    champion: Champion | None
    popular: Popular | None
    known: Known
    request: Request

    @property
    def asked(self) -> Asked:
        """The question as the pipeline takes it."""
        return Asked(self.known.state, self.known.user_stats, self.request)


def rank(questions: Sequence[Question]) -> list[Recommendation]:
    """A slate for each question, those of one model together; no slate mixes two. Blocks for its CPU time."""
    by_champion: dict[int, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        by_champion[id(question.champion)].append(place)
    found: dict[int, Recommendation] = {}
    for places in by_champion.values():
        champion = questions[places[0]].champion
        group = [questions[place] for place in places]
        slates = [by_counts(one) for one in group] if champion is None else _ranked(champion, group)
        found.update(zip(places, slates, strict=True))
    return [found[place] for place in range(len(questions))]


def by_counts(question: Question) -> Recommendation:
    """A slate by popularity: the model's own if there is one, else what the log's events count."""
    champion = question.champion
    bundle = question.popular or Popular([]) if champion is None else PopularityAlone.of(champion.bundle)
    return replace(recommend_many(bundle, [question.asked])[0], served_by=POPULARITY)


def _ranked(champion: Champion, questions: Sequence[Question]) -> list[Recommendation]:
    asked = [question.asked for question in questions]
    return recommend_many(champion.bundle, asked, encode(champion.bundle, asked, champion.vectors))
