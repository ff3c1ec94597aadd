"""Is what the policy draws worth enough of the best slates? Gates rank; users are shown what is drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attune.user_state import UserState
from evaluation.case import Case, user_states
from evaluation.gate import Gate, Verdict, not_applicable, passes
from models.recommender import BundleView, Request, recommend

SLATE, USERS = 10, 100


@dataclass(frozen=True)
class Exploration(Gate):
    worth_kept: float = 0.75
    """The share of the best slates' worth that the policy's slates must keep. The default policy keeps 0.94, one that
    draws blindly among a hundred candidates 0.6."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        states = [] if case.not_finite else user_states(case.training_set, case.after, USERS)
        yield self.verdict(worth_kept(case.challenger, states, case.now))

    def verdict(self, share: float | None) -> Verdict:
        """``share`` is None where nobody could be drawn for."""
        if share is None:
            return not_applicable("exploration", "nobody to draw for")
        note = "share of the best slate's worth, by the model's own scores, that the policy's slates keep"
        return Verdict("exploration", self.worth_kept, share, passes(share >= self.worth_kept), note)


def worth_kept(bundle: BundleView, states: Sequence[UserState], now: int) -> float | None:
    """The share of the best slates' worth that the drawn ones keep, the mean over the users; None without any.

    By the model's own scores of its candidates, counted from the worst of them, as ``models.ranking.exploration`` does.
    """
    slates = (recommend(bundle, state, None, Request(SLATE, now, seed=seed)) for seed, state in enumerate(states))
    shares = []
    for slate in slates:
        if slate.shown:
            scores = {candidate.item_id: candidate.score for candidate in slate.candidates}
            best_C = np.sort(np.array(list(scores.values())))[::-1]
            shown_K = np.array([scores[item.item_id] for item in slate.shown])
            most = float((best_C[: len(shown_K)] - best_C[-1]).sum())
            shares.append(float((shown_K - best_C[-1]).sum()) / most if most > 0 else 1.0)
    return float(np.mean(shares)) if shares else None
