"""How the events of a training set are shared out, in log order: learn, choose, judge."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attune.errors import DataContractError

LEAST_EVENTS = 20
"""Fewer events than this cannot be shared out."""


@dataclass(frozen=True)
class Windows:
    """Positions up to ``train_upto`` are learned from, up to ``validate_upto`` chosen on, up to ``upto`` judged on."""

    train_upto: int
    validate_upto: int
    upto: int


def demand_enough(events: int) -> None:
    """Raises DataContractError when so few events cannot be trained on."""
    if events < LEAST_EVENTS:
        raise DataContractError(
            f"{events} events are too few to train on; at least {LEAST_EVENTS} are needed: import some"
        )


def share_out(positions: np.ndarray, validation: float = 0.1, holdout: float = 0.1) -> Windows:
    """Share out events by their log positions (any order): the last ``holdout`` share is for the gates.

    Raises DataContractError when there are too few events.
    """
    demand_enough(len(positions))
    ordered = np.sort(positions)
    train = int(len(ordered) * (1.0 - validation - holdout))
    judged = int(len(ordered) * (1.0 - holdout))
    return Windows(int(ordered[train - 1]), int(ordered[judged - 1]), int(ordered[-1]))


# The panel: a fixed tenth of the users whose events teach no model, so that they can judge every one.
#
# An event of theirs is never a target and never part of a history in training, never counts for item-kNN or popularity
# and never decides a choice. The items' statistics are counted over everybody: they are facts about the item,
# computed before any model (``features.stats``), and serving has the same. So the panel is felt in one way: as a share
# of the counts that stand beside an item.


PANEL_SHARE = 0.1


def is_panel(user_ids: Sequence[str] | np.ndarray) -> np.ndarray:
    """For each user id whether it belongs to the panel: by a hash of the id alone, for ever the same."""
    edge = int(PANEL_SHARE * 2**64)
    digests = (hashlib.blake2b(b"attune-panel:" + str(one).encode(), digest_size=8).digest() for one in user_ids)
    return np.fromiter((int.from_bytes(digest, "big") < edge for digest in digests), bool, len(user_ids))
