"""What a model's policy makes of its ranking: gates rank, users are shown what is drawn."""

from collections.abc import Sequence

import numpy as np

from attune.user_state import UserState
from models.recommender import Recommendation, Request, Served, recommend

SLATE = 10


def worth_kept(bundle: Served, states: Sequence[UserState], now: int) -> float | None:
    """The share of the best slates' worth that the drawn ones keep, the mean over the users; None without any.

    By the model's own scores of its candidates, counted from the worst of them, as ``models.ranking.exploration`` does.
    A policy that always shows the best keeps 1.
    """
    drawn = [recommend(bundle, state, None, Request(SLATE, now, seed=place)) for place, state in enumerate(states)]
    kept = [_kept(one) for one in drawn if one.shown]
    return float(np.mean(kept)) if kept else None


def _kept(one: Recommendation) -> float:
    scores = {candidate.item_id: candidate.score for candidate in one.candidates}
    best_C = np.sort(np.array(list(scores.values())))[::-1]
    shown_K = np.array([scores[item.item_id] for item in one.shown])
    most = float((best_C[: len(shown_K)] - best_C[-1]).sum())
    return float((shown_K - best_C[-1]).sum()) / most if most > 0 else 1.0
