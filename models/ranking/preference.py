"""What a user likes, as one vector in the space of the model's items, moved by every feedback.

An event with reward r on an item moves the vector a part of the way towards the item, or towards its opposite when
the reward is below one half; ``a`` is the step, and the vector of somebody new is zero:

    u <- u + a |2 r - 1| (sign(2 r - 1) item - u)

Above one half this is the usual u + a (2 r - 1) (item - u): Rocchio (1971) with exponential forgetting. Two things
differ from normalise(u + a (2 r - 1) (item - u)), which sticks where people really get to:

- Below one half that form steps along -(item - u), and at u = item, where a first like leads, this is no step at all:
  the item stays the favourite however often it is disliked (measured, a = 0.3, 128 dimensions: for good in float64;
  in float32 for about 60 dislikes). A step towards -item moves u from every start; from zero it is the same step.
- Stretched back to length 1, u = -item stays where it is under likes (for a < 1/2), and u = item under steps towards
  -item, until rounding chooses a direction. So the length is left as it comes out. Each step is a weighted mean of u
  and a unit vector, so u stays within the unit ball, and its length says how much and how consistent the evidence is.

So u . item, the score, falls with every dislike of the item and rises with every like, strictly and from every start
(except in the limits -1 and 1). The cosine falls too wherever u and the item span a plane; on one line it can only
change its sign. The recurrence is linear: u is a sum of items whose weights follow from the rewards alone.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from attune.clock import DAY
from attune.event_types import centred
from models.history import HistoryBatch

TINY = 1e-6  # a shorter vector has no direction: it is taken for zero


@dataclass(frozen=True)
class Preference:
    """How strongly feedback moves a user's vector, and how much the vector says in the ranking.

    ``step`` (0 < step < 1) is the part of the way that one event of reward 0 or 1 goes. ``weight`` is what the
    scores are multiplied with where they join others; it is not applied here. With ``half_life_days`` the vector
    fades, between events and up to the request: halved in so many days. Raises ValueError for values out of range.
    """

    step: float
    weight: float
    half_life_days: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.step < 1:
            raise ValueError(f"step must lie between 0 and 1, not {self.step}")
        if not (np.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight must be finite and not negative, not {self.weight}")
        if self.half_life_days is not None and not self.half_life_days > 0:
            raise ValueError(f"half_life_days must be positive, not {self.half_life_days}")

    def vectors(self, batch: HistoryBatch, items_ND: np.ndarray) -> np.ndarray:
        """u_BD of the users' histories, see ``preference_vectors``."""
        days = self.half_life_days
        fade_BL = None if days is None else fading(batch.times_BL, batch.now_B, days)
        return preference_vectors(batch.items_BL, batch.rewards_BL, items_ND, self.step, fade_BL)


def preference_vectors(
    items_BL: np.ndarray, rewards_BL: np.ndarray, items_ND: np.ndarray, step: float, fade_BL: np.ndarray | None = None
) -> np.ndarray:
    """u_BD, float32, within the unit ball: each row's events taken in from left to right, from the zero vector.

    ``items_BL`` is the catalogue index + 1 and 0 where there is nothing, ``rewards_BL`` lies in [0, 1], both as in
    ``HistoryBatch``: what was taken back and what the model lacks stands in neither, so it leaves no trace.
    ``items_ND`` (float32) has rows of length 1 or 0, see ``unit_rows``. ``fade_BL`` in [0, 1] is what is left of each
    event at the time of the request, see ``fading``.
    """
    users, length = items_BL.shape
    # the signed weight of each event's item: its own step times what later steps leave of it, together 1 at most
    weights_BL = step * centred(np.where(items_BL > 0, rewards_BL, 0.5))
    weights_BL[:, :-1] *= np.cumprod(1.0 - np.abs(weights_BL[:, :0:-1]), axis=1)[:, ::-1]
    if fade_BL is not None:
        weights_BL = weights_BL * fade_BL
    columns, rows = np.maximum(items_BL - 1, 0).ravel(), np.arange(users + 1) * length
    shape = (users, len(items_ND))
    return sp.csr_matrix((weights_BL.astype(np.float32).ravel(), columns, rows), shape=shape) @ items_ND


def fading(times_BL: np.ndarray, now_B: np.ndarray, half_life_days: float) -> np.ndarray:
    """0.5 to the age in half-lives, float64 in [0, 1]; times in microseconds, an event of the future has age 0."""
    days_BL = np.maximum(now_B[:, None] - times_BL, 0) / DAY
    return 0.5 ** (days_BL / half_life_days)


def unit_rows(vectors_ND: np.ndarray) -> np.ndarray:
    """Each row scaled to length 1, float32; a row shorter than ``TINY`` has no direction and becomes 0."""
    rows_ND = np.asarray(vectors_ND, np.float64)
    lengths_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    tiny_N1 = lengths_N1 < TINY
    return np.where(tiny_N1, 0.0, rows_ND / np.where(tiny_N1, 1.0, lengths_N1)).astype(np.float32)
