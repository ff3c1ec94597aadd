"""What counts as a target: decided in one place, for choosing on validation and for judging alike."""

from dataclasses import dataclass

import numpy as np

from attune.event_types import KINDS
from models.history import KIND_INDEX
from models.learning.dataset import Groups, Ragged, TrainingSet, seen

_KINDS = np.array([place for name, place in KIND_INDEX.items() if KINDS[name].marks_seen])


@dataclass(frozen=True)
class Targets:
    """The T targets of a batch of groups: the row of the batch that each stands in, and its event's place.

    ``seen`` holds what each group's user had before, by the training set's own catalogue. ``repeated`` counts the
    events left out because the user had the item, ``unmarked`` those whose kind is no sign of use.
    """

    row_T: np.ndarray
    event_T: np.ndarray
    seen: Ragged
    repeated: int
    unmarked: int


def targets(training_set: TrainingSet, asked: Groups) -> Targets:
    """The events of the groups that are to be foreseen.

    Left out are impressions and other kinds that are no use of the item, items that the user had seen strictly
    before, and all but the first event of one item in one group.
    """
    known, count = seen(training_set, asked), len(training_set.catalogue)
    event_T, row_T = asked.rows.values, asked.rows.row_of_value()
    used_T = np.isin(training_set.kinds[event_T], _KINDS)
    unmarked = int((~used_T).sum())
    event_T, row_T = event_T[used_T], row_T[used_T]
    key_T = row_T * count + training_set.items[event_T]
    fresh_T = np.zeros(len(key_T), bool)
    fresh_T[np.unique(key_T, return_index=True)[1]] = True
    fresh_T &= ~np.isin(key_T, known.row_of_value() * count + known.values)
    return Targets(row_T[fresh_T], event_T[fresh_T], known, int((~fresh_T).sum()), unmarked)
