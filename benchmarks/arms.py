"""The arms of a prequential replay: what answers the stream's questions, each with its own idea of being up to date.

An arm is shown each window before its questions are asked and told when it has gone by. What lies in a window at or
after a question's moment must not change the answer to it. A model that learns on, learns in ``close``; one that is
trained otherwise is a ``Live`` with another hybrid.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from benchmarks.decayed import LivePopularity, LiveProfile
from benchmarks.stream import Memory, Questions
from models.baselines import ItemKnn
from models.history import HistoryBatch
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet


class Arm(Protocol):
    """Whatever answers. ``scores`` is called by several threads between ``open`` and ``close``."""

    @property
    def name(self) -> str: ...

    def open(self, window: TrainingSet) -> None:
        """A window begins; by default nothing."""
        return

    def scores(self, asked: Questions) -> np.ndarray:
        """scores_BN of all items, an array of the caller's own; the replay removes what was seen."""
        ...

    def close(self, window: TrainingSet) -> None:
        """The window has gone by: all of it is revealed; by default nothing."""
        return


def answers(hybrid: Hybrid, batch: HistoryBatch, live_BN: np.ndarray | None = None) -> np.ndarray:
    """scores_BN as served; ``live_BN`` is what everybody says of the items at each question's moment."""
    return hybrid.served(batch, hybrid.sources(batch, hybrid.states(batch), live_BN))


@dataclass(frozen=True)
class RecentPopularity(Arm):
    """What everybody used lately, counted up to each question's moment."""

    popularity: LivePopularity
    name: str = "recent popularity"

    def open(self, window: TrainingSet) -> None:
        """The window's uses count from their moments on."""
        self.popularity.open(window)

    def scores(self, asked: Questions) -> np.ndarray:
        """The same for everybody who asks at one moment."""
        return self.popularity.scores(asked.batch.now_B)

    def close(self, window: TrainingSet) -> None:
        """The window's uses are kept."""
        self.popularity.close()


@dataclass(frozen=True)
class Neighbours(Arm):
    """Item-kNN as of the cut, over live histories."""

    knn: ItemKnn
    name: str = "item-kNN"

    def scores(self, asked: Questions) -> np.ndarray:
        """Its own."""
        return self.knn.scores(asked.batch)


@dataclass(frozen=True)
class Live(Arm):
    """The model with histories up to each question's moment."""

    hybrid: Hybrid
    name: str = "live history"

    def scores(self, asked: Questions) -> np.ndarray:
        """Of live histories and statistics."""
        return answers(self.hybrid, asked.batch)


@dataclass(frozen=True)
class Frozen(Arm):
    """Another arm, asked as of the cut: lists that were made then, and are served ever since.

    ``memory`` is what was remembered at the cut. The moment asked about is the cut's as well. What was seen since is
    removed all the same, as in every arm, so such a list goes on further down.
    """

    arm: Arm
    memory: Memory
    name: str = "frozen at the cut"

    def scores(self, asked: Questions) -> np.ndarray:
        """Of histories, of what had been seen, and of statistics as of the cut."""
        then = self.memory.histories(asked.users_B, np.full(len(asked), self.memory.latest))
        return self.arm.scores(replace(asked, batch=then, seen_BN=self.memory.seen(asked.users_B)))


@dataclass(frozen=True)
class LiveItems(Arm):
    """The same with the live item profile in the mix; ``hybrid.live`` is its weight."""

    hybrid: Hybrid
    profile: LiveProfile
    prior: float
    name: str = "+ item profile"

    def open(self, window: TrainingSet) -> None:
        """The window's reactions count from their moments on."""
        self.profile.open(window)

    def scores(self, asked: Questions) -> np.ndarray:
        """Of live histories, and of what everybody said before each moment."""
        return answers(self.hybrid, asked.batch, self.profile.scores(asked.batch.now_B, self.prior))

    def close(self, window: TrainingSet) -> None:
        """The window's reactions are kept."""
        self.profile.close()
