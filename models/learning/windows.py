"""How the events of a training set are shared out, in log order: learn, choose, judge."""

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
