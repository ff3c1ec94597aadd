"""Feedback as reactions: what each is worth, when it was taken back, and which of it does not count.

Labels and training sets ask here, so what is set aside as no reaction teaches no model either.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from attune.clock import DAY, MINUTE
from attune.columns import Columns
from attune.event_types import RETRACT
from features.stats import rewards

KEY = [Columns.SLATE_ID, Columns.USER_ID, Columns.ITEM_ID]
"""What a reaction is to: one item of one slate, by the user whom the slate was made for."""

NEVER = int(np.iinfo(np.int64).max)
"""The position of the take-back of what was never taken back."""

TAKEN_BACK_AT, REASON = "taken_back_at", "reason"

OUT_OF_RANGE = "reward outside 0 to 1"
BURST = "burst"
UNKNOWN_SLATE = "unknown slate"
ANOTHER_USER = "another user's slate"
NOT_SHOWN = "not on the slate"
BY_ITSELF = (OUT_OF_RANGE, BURST)
"""Why feedback does not count whatever its slate says: this follows from what the user sent alone."""

REASONS = (*BY_ITSELF, UNKNOWN_SLATE, ANOTHER_USER, NOT_SHOWN)
"""Why feedback is set aside, in the order in which they are looked for."""


@dataclass(frozen=True)
class Terms:
    """What counts as a reaction to a slate.

    ``patience`` is the attribution window in microseconds: silence until then says nothing for good, and feedback that
    came later is called late. ``reach`` is how many positions before a window slates are looked for. ``most_a_minute``
    is how many reactions of one user that carry the same minute count; the further ones are a script's, not a person's.
    Raises ValueError for a number that is not positive.
    """

    patience: int = DAY
    reach: int = 1_000_000
    most_a_minute: int = 60

    def __post_init__(self) -> None:
        for name in ("patience", "reach", "most_a_minute"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def reactions(behaviour: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """The feedback among the behaviour (in the order of positions), take-backs left out.

    Adds ``reward`` (float32), ``taken_back_at`` (the position of its user's first take-back, or ``NEVER``) and
    ``reason`` (``OUT_OF_RANGE``, ``BURST`` or None). Both reasons follow from the events alone, however the log is cut
    into windows.
    """
    found = behaviour[_is_reaction(behaviour)].reset_index(drop=True)
    worth = rewards(found[Columns.KIND], found[Columns.VALUE])
    return found.assign(
        **{
            Columns.REWARD: worth.astype(np.float32),
            TAKEN_BACK_AT: _taken_back_at(found, behaviour),
            REASON: _reasons(found, worth, terms),
        }
    )


def that_counts(behaviour: pd.DataFrame, terms: Terms) -> tuple[pd.DataFrame, dict[str, int]]:
    """The behaviour without the reactions that do not count ``BY_ITSELF``, and how many of them each reason left out.

    ``behaviour`` is the log from its first position on, in the order of positions: an event's verdict follows from
    those before it alone, so nothing that is logged later changes it, however early it is dated. Interactions all
    stay: imported history has whole sessions in one minute.
    """
    is_reaction = _is_reaction(behaviour).to_numpy()
    found = behaviour[is_reaction]
    reasons = _reasons(found, rewards(found[Columns.KIND], found[Columns.VALUE]), terms)
    stays = np.ones(len(behaviour), bool)
    stays[is_reaction] = pd.isna(reasons)
    return behaviour[stays].reset_index(drop=True), {reason: int((reasons == reason).sum()) for reason in BY_ITSELF}


def standing(found: pd.DataFrame, upto: int) -> pd.DataFrame:
    """The last word on each slate, user and item as the log stood at ``upto``: one row for each ``KEY`` at most."""
    counts = found[REASON].isna() & (found[Columns.POSITION] <= upto) & (found[TAKEN_BACK_AT] > upto)
    return found[counts].drop_duplicates(KEY, keep="last")


def _is_reaction(behaviour: pd.DataFrame) -> pd.Series:
    return (behaviour[Columns.TYPE] == "feedback") & (behaviour[Columns.KIND] != RETRACT)


def _reasons(found: pd.DataFrame, worth: np.ndarray, terms: Terms) -> np.ndarray:
    """Which of the reasons ``BY_ITSELF`` holds for each reaction, or None (object array)."""
    minute = found[Columns.EVENT_TIMESTAMP] // MINUTE
    turn = found.groupby([found[Columns.USER_ID], minute]).cumcount().to_numpy()
    in_range = (worth >= 0.0) & (worth <= 1.0)
    reason = np.full(len(found), None, object)
    reason[turn >= terms.most_a_minute] = BURST
    reason[~in_range] = OUT_OF_RANGE
    return reason


def _taken_back_at(found: pd.DataFrame, behaviour: pd.DataFrame) -> np.ndarray:
    named = behaviour.loc[behaviour[Columns.KIND] == RETRACT, [Columns.USER_ID, Columns.RETRACTS, Columns.POSITION]]
    pairs = found[[Columns.EVENT_ID, Columns.USER_ID, Columns.POSITION]].merge(
        named,
        left_on=[Columns.EVENT_ID, Columns.USER_ID],
        right_on=[Columns.RETRACTS, Columns.USER_ID],
        suffixes=("", "_of_retract"),
    )
    pairs = pairs[pairs[Columns.POSITION] < pairs["position_of_retract"]]
    first = pairs.groupby(Columns.EVENT_ID)["position_of_retract"].min()
    at: np.ndarray = first.reindex(found[Columns.EVENT_ID], fill_value=NEVER).to_numpy(np.int64)
    return at
