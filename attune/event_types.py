"""The kinds of behaviour that attune knows, and what each is worth: the reward table.

A reward lies in [0, 1]: 1 positive, 0 negative, 0.5 says nothing. Learning and ranking use the centred
reward ``2 * reward - 1``, so that a kind that says nothing moves nothing.
The table is versioned; the version is written into every bundle that learned from it. Whoever changes what a kind
is worth raises it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REWARD_TABLE_VERSION = 1

SILENCE = 0.5
"""What an item is worth that was shown and that nobody reacted to within the attribution window."""

DWELL_FULL_SECONDS = 60.0
"""Dwell time from which on an item counts as fully consumed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of behaviour.

    ``low`` and ``high`` bound the value (inclusive); ``needs_value`` says whether it may be absent.
    ``reward`` maps the value (None when absent) to [0, 1].
    """

    name: str
    meaning: str
    reward: Callable[[float | None], float]
    needs_value: bool = False
    low: float = float("-inf")
    high: float = float("inf")
    marks_seen: bool = True


def _always(reward: float) -> Callable[[float | None], float]:
    return lambda value: reward


def _rating(value: float | None) -> float:
    return 0.5 if value is None else min(max((value - 1.0) / 4.0, 0.0), 1.0)


def _share_consumed(value: float | None) -> float:
    return 0.5 if value is None else value


def _dwell(value: float | None) -> float:
    return 0.5 if value is None else 0.5 + 0.5 * min(value / DWELL_FULL_SECONDS, 1.0)


_KINDS = (
    Kind("impression", "the item was shown", _always(0.5), marks_seen=False),
    Kind("view", "the item's page was opened", _always(0.75)),
    Kind("click", "the item was clicked", _always(1.0)),
    Kind("like", "the user said yes", _always(1.0)),
    Kind("dislike", "the user said no", _always(0.0)),
    Kind("hide", "the user wants to see it no more", _always(0.0)),
    Kind("skip", "the user passed over it", _always(0.25)),
    Kind("rating", "stars, 0.5 to 5; 1 and below are worth 0, 3 says nothing, 5 is worth 1", _rating, True, 0.5, 5.0),
    Kind("watch", "the share watched, heard or read, 0 to 1", _share_consumed, True, 0.0, 1.0),
    Kind("dwell", "seconds spent; 60 and more are worth 1", _dwell, True, 0.0),
    Kind("survey", "the answer to a question, 0 to 1", _share_consumed, True, 0.0, 1.0),
    Kind("favourite", "kept for later", _always(1.0)),
    Kind("cart", "put into the basket", _always(1.0)),
    Kind("purchase", "bought", _always(1.0)),
    Kind("share", "sent to somebody", _always(1.0)),
    Kind("comment", "written about", _always(0.75)),
    Kind("retract", "takes an earlier event back, named by `retracts`", _always(0.5), marks_seen=False),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}
SEEN_KINDS = frozenset(name for name, kind in KINDS.items() if kind.marks_seen)
RETRACT = "retract"

VERDICTS = ("like", "dislike", "hide", "skip")
"""Kinds that say yes or no outright: what they say of an item is the centred reward, so a `dislike` pushes it down."""


def reward(kind: str, value: float | None = None) -> float:
    """What an event of this kind and value is worth, in [0, 1] (0.5: it says nothing).

    Raises KeyError for an unknown kind: the row rules let none in.
    """
    return KINDS[kind].reward(value)


def centred(rewards: np.ndarray) -> np.ndarray:
    """Rewards in [0, 1] of any shape as centred ones in [-1, 1], float64: 0 says nothing, so silence adds nothing."""
    return np.asarray(2.0 * np.asarray(rewards, np.float64) - 1.0)
