"""What a model knew of users when slates were drawn: their events up to a log position, as the slates state it."""

from dataclasses import replace

import numpy as np

from attune.columns import USER_STATS
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.learning.dataset import Groups, Ragged, TrainingSet, histories

_ALWAYS = np.iinfo(np.int64).max


def states_at(
    training_set: TrainingSet, users_B: np.ndarray, positions_B: np.ndarray, moments_B: np.ndarray, catalogue: Catalogue
) -> HistoryBatch:
    """The users' latest events at log positions up to ``positions_B``, asked at ``moments_B`` (microseconds).

    ``users_B`` are places of the training set's users, -1 for somebody without any event. As serving folds a state, and
    other than ``models.learning.dataset.histories``, it goes by what had been logged, not by what is dated earlier: an
    event that was logged later is not known, however early its date. Items refer to ``catalogue``.

    Two things may be other than they were. What a user took back since is left out (the training set lacks it). The
    statistics are those before the user's latest event, where serving had those of the last materialisation.
    """
    starts_B, ends_B = training_set.known_before(users_B, np.full(len(users_B), _ALWAYS))
    lengths_B = ends_B - starts_B
    question_R = np.repeat(np.arange(len(users_B)), lengths_B)
    within_R = np.arange(len(question_R)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
    row_R = training_set.by_user[starts_B[question_R] + within_R]
    known_R = training_set.positions[row_R] <= positions_B[question_R]
    row_R, question_R = row_R[known_R], question_R[known_R]
    order = np.argsort(row_R, kind="stable")  # rows of a training set are in the order of time
    row_R, question_R = row_R[order], question_R[order]
    stats_BF = np.full((len(users_B), len(USER_STATS)), np.nan, np.float32)
    stats_BF[question_R] = training_set.user_stats_EF[row_R]  # the latest one stays
    nobody = len(users_B)  # has an event, so that there is one at all
    own = training_set.select(np.append(row_R, 0))
    own = replace(own, users=np.append(question_R, nobody))  # each question is a user of its own: they overlap
    none = Ragged(np.zeros(len(users_B) + 1, np.int64), np.zeros(0, np.int64))
    asked = Groups(np.arange(len(users_B)), np.full(len(users_B), _ALWAYS), stats_BF, none)
    return replace(histories(own, asked, catalogue=catalogue), now_B=moments_B)
