"""The latest questions that were answered, and how a model that is to take over answers them first.

The rehearsal warms what the first requests after a swap would otherwise pay for: the network at each size of group,
the vectors of the users who were here last, the masks of their filters. It is also the last check: a model that
cannot answer what was just asked answers nobody.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from attune.clock import Clock
from attune.errors import BundleError
from attune.user_state import empty
from models.recommender import UNKNOWN_USER_STATS, Recommendation, Request
from serving.caps import AtMost
from serving.catalogue_snapshot import Choice, Offer, Where
from serving.champion import Champion
from serving.ranking import Question, rank
from serving.state import Known

QUESTIONS = 64
"""Users whose latest question is remembered."""

PAUSE_SHARE, PAUSE_SECONDS = 2.0, 0.1
"""After each group the rehearsal rests for so many times as long as it took, and no longer than this: Python's lock and
the processor are needed by the requests of that moment."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A question without the model that answered it, which is not kept from being forgotten."""

    known: Known
    request: Request
    where: Where
    at_most: AtMost

    def to(self, champion: Champion, now: int) -> Question:
        """The same, asked of another model at another time."""
        offer = Offer.of(Choice(champion.shelf, self.where))
        return Question(champion, offer, self.known, replace(self.request, now=now), self.at_most)


class Rehearsal:
    """Remembers questions, in memory alone; ``together`` is the largest group that requests are ranked in."""

    def __init__(self, clock: Clock, together: int) -> None:
        self._clock = clock
        self._together = together
        self._latest: dict[str, Recorded] = {}
        """By user; who asked last stands last."""
        self._failed: tuple[int, Sequence[Recorded]] = (-1, ())
        """The fence of the promotion that failed last, and the questions that it failed on."""

    @property
    def remembered(self) -> int:
        """How many questions are remembered."""
        return len(self._latest)

    def remember(self, known: Known, request: Request, where: Where, at_most: AtMost) -> None:
        """Keep a question that was answered in place of the user's former one. For the event loop's thread alone."""
        latest, user_id = self._latest, known.state.user_id
        latest.pop(user_id, None)
        latest[user_id] = Recorded(known, request, where, at_most)
        if len(latest) > QUESTIONS:
            del latest[next(iter(latest))]

    def play(self, champion: Champion) -> int:
        """Have a model that answers nobody yet answer what was asked; returns how many questions there were.

        Before anybody asked, nobody's request is played. Raises BundleError where an answer is none. Whoever failed is
        asked the same again when it is tried again, so that it does not pass once others have asked something else.
        """
        fence, failed = self._failed
        asked = [*(failed if fence == champion.promotion.fence else ()), *tuple(self._latest.values())]
        for one, group in self._groups(champion, asked or [self._nobody()]):
            started = time.monotonic()
            try:
                self._play(one, group)
            except Exception as error:
                self._failed = (champion.promotion.fence, group)
                raise BundleError(
                    f"version {champion.version} fails on requests that were answered: {error!r}"
                ) from error
            time.sleep(min(PAUSE_SHARE * (time.monotonic() - started), PAUSE_SECONDS))
        return len(asked)

    def _groups(self, champion: Champion, asked: Sequence[Recorded]) -> Iterator[tuple[Champion, Sequence[Recorded]]]:
        """A group of each size without any vector that is kept, then everybody, in order that the vectors are kept."""
        forgetful = replace(champion, vectors=None)
        size = 1
        while size <= self._together:
            yield forgetful, list(islice(cycle(asked), size))
            size *= 2
        for start in range(0, len(asked), self._together):
            yield champion, asked[start : start + self._together]

    def _play(self, champion: Champion, asked: Sequence[Recorded]) -> None:
        now = self._clock()
        questions = [one.to(champion, now) for one in asked]
        for question, slate in zip(questions, rank(questions), strict=True):
            _check(question, slate)

    def _nobody(self) -> Recorded:
        request = Request(k=10, seed=0, now=self._clock())
        return Recorded(Known(empty("warm-up"), UNKNOWN_USER_STATS), request, {}, {})


def _check(question: Question, slate: Recommendation) -> None:
    """Raises BundleError for an answer that nobody should get."""
    expected, found = min(question.request.k, _left(question)), len(slate.shown)
    if found > expected or (found < expected and not question.at_most):  # caps may leave fewer
        raise BundleError(f"{found} items came back where there are {expected}")
    scores = [one.score for one in slate.shown] + [one.score for one in slate.candidates]
    figures = scores + [one.propensity for one in slate.shown]
    if not np.isfinite(figures).all():
        raise BundleError("a score or a propensity is no number")


def _left(question: Question) -> int:
    """How many items there are for the question."""
    catalogue = question.offer.shop.served.catalogue
    own = catalogue.places([*question.known.state.seen, *question.request.exclude])
    is_left_N = np.ones(len(catalogue), bool)
    is_left_N[own[own >= 0]] = False
    is_left_N[question.offer.removed] = False
    return int(is_left_N.sum())
