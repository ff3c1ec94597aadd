"""Reactions to slates teach a Thompson policy how far the weights of the sources are off.

A reaction is worth ``2 * reward - 1``, a score is what the mix says: they have no common scale, and who looks at lower
positions less, or reacts to everything, would look like a source. So rewards, features and scores are compared within a
slate, each less what is usual at its position. What then remains of the rewards is a straight line of the scores by its
slope, and the sources explain what the line does not:

    reward = slope * (score + features . w) + noise

The score is what the *new* mix says of the logged features, so that weights learned under an earlier mix go on meaning
what they say. The posterior is made anew from the prior each time: nothing counts twice, late and withdrawn reactions
count as they stand, and equal logs give equal posteriors. Reactions lose half of their weight in ``HALF_LIFE_DAYS``:
the sources are trained again and again, and a posterior that only grew would stop exploring for ever. Agrawal and Goyal
(2013), as in ``models.ranking.thompson``; forgetting as by the discounts of West and Harrison (1997), "Bayesian
forecasting and dynamic models".
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from attune.clock import DAY
from attune.columns import Columns
from attune.event_types import centred
from models.learning.splits import is_panel
from models.ranking.exploration import Bounded
from models.ranking.policy import Policy
from models.ranking.thompson import PRIOR_DEVIATION, LinearPosterior, Thompson

HALF_LIFE_DAYS = 30.0

MOST_OF_A_USER = 200.0
"""Shown items that one user counts for at most, so that nobody decides for all."""

SURE = 2.0
"""So many standard errors the slope must be above 0; else scores say nothing of rewards, and nothing follows."""


@dataclass(frozen=True)
class SourceReactions:
    """R shown items: what F ``sources`` said of each, its reward in [0, 1], its slate, rank (from 0), user and time.

    ``slates_R``, ``ranks_R`` and ``users_R`` are numbers from 0 on, ``times_R`` microseconds.
    """

    sources: tuple[str, ...]
    features_RF: np.ndarray
    rewards_R: np.ndarray
    slates_R: np.ndarray
    ranks_R: np.ndarray
    users_R: np.ndarray
    times_R: np.ndarray

    @staticmethod
    def load(path: Path, sources: tuple[str, ...]) -> "SourceReactions":
        """Of the file that ``features`` wrote the slates of exactly these sources, none of the panel's users."""
        frame = pd.read_parquet(path)
        told = frame["sources"].map(tuple) == sources
        frame = frame[told.to_numpy(bool) & ~is_panel(frame[Columns.USER_ID].to_numpy())]
        return SourceReactions(
            sources=sources,
            features_RF=np.array(frame["features"].tolist(), np.float64).reshape(len(frame), len(sources)),
            rewards_R=frame[Columns.REWARD].to_numpy(np.float64),
            slates_R=pd.factorize(frame[Columns.SLATE_ID])[0],
            ranks_R=frame[Columns.RANK].to_numpy(np.int64) - 1,
            users_R=pd.factorize(frame[Columns.USER_ID])[0],
            times_R=frame[Columns.EVENT_TIMESTAMP].to_numpy(np.int64),
        )

    @property
    def weights_R(self) -> np.ndarray:
        """What each counts: half after ``HALF_LIFE_DAYS``, and no user for more than ``MOST_OF_A_USER`` together."""
        age_R = (self.times_R.max(initial=0) - self.times_R) / (HALF_LIFE_DAYS * DAY)
        fresh_R = 0.5**age_R
        of_user_R = np.bincount(self.users_R, fresh_R)[self.users_R]
        weights_R: np.ndarray = fresh_R * np.minimum(1.0, MOST_OF_A_USER / of_user_R)
        return weights_R


def taught(policy: Policy, weights: Mapping[str, float], path: Path | None) -> Policy:
    """The policy of a model with this mix (the ``weights`` of its sources), having learned what the file says.

    Other policies than Thompson's stay as they are. Where the sources are others than before it starts from the prior;
    where there is nothing to learn from, from what was known.
    """
    if isinstance(policy, Bounded):
        return replace(policy, inner=taught(policy.inner, weights, path))
    if not isinstance(policy, Thompson):
        return policy
    sources = tuple(weights)
    prior = LinearPosterior.prior(len(sources), PRIOR_DEVIATION)
    if sources != policy.sources:
        policy = replace(policy, posterior=prior, sources=sources)
    if path is None:
        return policy
    found = posterior(prior, np.array(list(weights.values())), SourceReactions.load(path, sources))
    return policy if found is None else replace(policy, posterior=found)


def posterior(prior: LinearPosterior, mix_F: np.ndarray, reactions: SourceReactions) -> LinearPosterior | None:
    """What the reactions make of the prior, for a mix of these weights; None where they say nothing (see ``SURE``)."""
    if not len(reactions.rewards_R):
        return None
    weights_R = reactions.weights_R
    features_RF = _within(reactions, reactions.features_RF, weights_R)
    rewards_R = _within(reactions, centred(reactions.rewards_R)[:, None], weights_R)[:, 0]
    scores_R = features_RF @ mix_F
    spread = float(weights_R @ scores_R**2)
    if not spread > 0:
        return None
    slope = float(weights_R @ (scores_R * rewards_R)) / spread
    error = float(np.sqrt(weights_R @ (rewards_R - slope * scores_R) ** 2 / weights_R.sum()))
    if slope <= SURE * error / np.sqrt(spread) or not error > 0:
        return None
    root_R = np.sqrt(weights_R)
    return prior.updated(root_R[:, None] * features_RF, root_R * (rewards_R / slope - scores_R), error / slope)


def _within(reactions: SourceReactions, values_RX: np.ndarray, weights_R: np.ndarray) -> np.ndarray:
    """The values less the mean of their rank, and then of their slate."""
    for groups_R in (reactions.ranks_R, reactions.slates_R):
        total_G = np.bincount(groups_R, weights_R)
        means_GX = np.stack([np.bincount(groups_R, weights_R * column_R) for column_R in values_RX.T], axis=1)
        values_RX = values_RX - (means_GX / np.maximum(total_G, 1e-300)[:, None])[groups_R]
    return values_RX
