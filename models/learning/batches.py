"""Training sequences cut into batches: what the network reads, and the targets that it predicts.

A target is an event; it is predicted from the user's last place strictly before its time, so events that share a
timestamp are all predicted from the same place and none sees another. A first event is predicted from nothing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.baselines import votes
from models.learning.dataset import TrainingSet
from models.network.sequence import Tokens, gap_buckets, reward_shares, scaled_stats

LEAST_PIECE = 8
"""A first piece of a user's sequence shorter than this is not cut off."""


@dataclass(frozen=True)
class Sequences:
    """E events user by user, in the order (time, position) inside a user: ``rows_E`` of the training set.

    ``first_E`` is the place of the user's first event, ``end_E`` the place after the last; ``before_E`` the place
    of the latest event strictly earlier in time, -1 for none. Statistics are scaled; gaps are buckets.
    """

    rows_E: np.ndarray
    items_E: np.ndarray
    kinds_E: np.ndarray
    rewards_E: np.ndarray
    gaps_E: np.ndarray
    pauses_E: np.ndarray
    item_stats_ES: np.ndarray
    user_stats_ES: np.ndarray
    weights_E: np.ndarray
    first_E: np.ndarray
    end_E: np.ndarray
    before_E: np.ndarray

    @staticmethod
    def of(training_set: TrainingSet, reward_floor: float) -> "Sequences":
        """Every event of the training set. As a target it weighs ``target_weights``."""
        rows = training_set.by_user
        users, times = training_set.users[rows], training_set.times[rows]
        place = np.arange(len(rows))
        new_user = np.append(True, users[1:] != users[:-1])
        new_moment = new_user | np.append(True, times[1:] != times[:-1])
        first_E = np.maximum.accumulate(np.where(new_user, place, 0))
        before_E = np.maximum.accumulate(np.where(new_moment, place, 0)) - 1
        before_E = np.where(before_E >= first_E, before_E, -1)
        gap = np.where(new_user, 0, times - times[place - 1])
        pause = np.where(before_E >= 0, times - times[before_E], 0)
        return Sequences(
            rows_E=rows,
            items_E=training_set.items[rows],
            kinds_E=training_set.kinds[rows],
            rewards_E=training_set.rewards[rows],
            gaps_E=gap_buckets(gap),
            pauses_E=gap_buckets(pause),
            item_stats_ES=scaled_stats(training_set.item_stats_EF[rows]),
            user_stats_ES=scaled_stats(training_set.user_stats_EF[rows]),
            weights_E=target_weights(training_set.kinds[rows], training_set.rewards[rows], reward_floor),
            first_E=first_E,
            end_E=np.searchsorted(users, users, side="right"),
            before_E=before_E,
        )


Choose = Callable[[Sequences, int, np.random.Generator], np.ndarray]
"""Gives the pieces of one epoch, of at most so many events each."""


def target_weights(kinds: np.ndarray, rewards: np.ndarray, floor: float) -> np.ndarray:
    """How much each event counts as something to foresee, float32: from ``floor`` (worth nothing) to 1.

    It is item-kNN's vote, moved to [0, 1]: a ``dislike``, a ``hide`` and an impression are nothing to foresee.
    """
    slope = (1.0 - floor) / (1.0 + floor)
    return np.maximum(votes(kinds, rewards, slope) / (1.0 + slope), 0.0).astype(np.float32)


def pieces(sequences: Sequences, context: int, rng: np.random.Generator) -> np.ndarray:
    """pieces_P2, the ranges [start, end) of at most ``context`` events that tile every user's sequence.

    Where the tiling starts is drawn anew each time, so that an event is seen after histories of all lengths.
    """
    starts = np.unique(sequences.first_E)
    ends = sequences.end_E[starts]
    shift = rng.integers(0, context, len(starts))
    shift = np.where((ends - starts <= context) | (shift < LEAST_PIECE), 0, shift)
    count = np.ceil((ends - starts - shift) / context).astype(np.int64)
    user = np.repeat(np.arange(len(starts)), count)
    nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    begin = starts[user] + shift[user] + nth * context
    tiled = np.stack([begin, np.minimum(begin + context, ends[user])], axis=1)
    heads = np.stack([starts, starts + shift], axis=1)[shift > 0]
    return np.concatenate([heads, tiled])


def new_and_replayed(is_new_E: np.ndarray, share: float) -> Choose:
    """Each epoch's pieces: all that hold a new event, and of the others as many as hold ``share`` events a new one.

    ``is_new_E`` says which rows of the training set are new.
    """

    def choose(sequences: Sequences, context: int, rng: np.random.Generator) -> np.ndarray:
        cut_P2 = pieces(sequences, context, rng)
        newer = np.concatenate([[0], np.cumsum(is_new_E[sequences.rows_E])])
        begin_P, end_P = cut_P2[:, 0], np.minimum(cut_P2[:, 1] + 1, sequences.end_E[cut_P2[:, 0]])
        new_P = newer[end_P] > newer[begin_P]
        old_P2 = cut_P2[~new_P][rng.permutation(int((~new_P).sum()))]
        events = np.cumsum(old_P2[:, 1] - old_P2[:, 0])
        replayed = int(np.searchsorted(events, share * newer[-1], side="right"))
        return np.concatenate([cut_P2[new_P], old_P2[:replayed]])

    return choose


@dataclass(frozen=True)
class TrainingBatch:
    """What one step learns from: tokens of B pieces, and Q targets in them.

    ``from_Q`` is the flat place (row * context + column) that a target is predicted from, -1 for the start.
    """

    tokens: Tokens
    from_Q: torch.Tensor
    pauses_Q: torch.Tensor
    user_stats_QS: torch.Tensor
    targets_Q: torch.Tensor
    weights_Q: torch.Tensor


def training_batches(
    sequences: Sequences, pieces_P2: np.ndarray, context: int, size: int, device: torch.device
) -> Iterator[TrainingBatch]:
    """The pieces in batches of like lengths; a piece's targets are its events and the one that follows."""

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    for batch_P in batches_of(pieces_P2[:, 1] - pieces_P2[:, 0], context, size):
        begin_B, end_B = pieces_P2[batch_P].T
        longest = int((end_B - begin_B).max())
        place_BL = begin_B[:, None] + np.arange(longest)
        known_BL = place_BL < end_B[:, None]
        row_BL = np.where(known_BL, place_BL, 0)
        next_B = np.where(end_B < sequences.end_E[begin_B], end_B, -1)  # -1 where the user has no later event
        target_BM = np.concatenate([np.where(known_BL, place_BL, -1), next_B[:, None]], axis=1)
        piece_Q, column_Q = np.nonzero(target_BM >= 0)
        event_Q = target_BM[piece_Q, column_Q]
        before_Q = sequences.before_E[event_Q]
        in_piece = (before_Q < 0) | (before_Q >= begin_B[piece_Q])
        piece_Q, event_Q, before_Q = piece_Q[in_piece], event_Q[in_piece], before_Q[in_piece]
        from_Q = np.where(before_Q < 0, -1, piece_Q * longest + before_Q - begin_B[piece_Q])
        rewards_BL = np.where(known_BL, sequences.rewards_E[row_BL], np.float32(0.5))
        later_BL = np.where(known_BL & (row_BL + 1 < sequences.end_E[row_BL]), row_BL + 1, 0)
        yield TrainingBatch(
            Tokens(
                items_BL=tensor(np.where(known_BL, sequences.items_E[row_BL] + 1, 0)),
                kinds_BL=tensor(np.where(known_BL, sequences.kinds_E[row_BL], 0)),
                rewards_BLR=tensor(reward_shares(rewards_BL)),
                gaps_BL=tensor(np.where(known_BL, sequences.gaps_E[row_BL], 0)),
                pauses_BL=tensor(sequences.gaps_E[later_BL]),
                item_stats_BLS=tensor(sequences.item_stats_ES[row_BL] * known_BL[..., None]),
            ),
            tensor(from_Q),
            tensor(sequences.pauses_E[event_Q]),
            tensor(sequences.user_stats_ES[event_Q]),
            tensor(sequences.items_E[event_Q]),
            tensor(sequences.weights_E[event_Q]),
        )


POOL = 50
"""Batches whose pieces are sorted by length together: random enough, and hardly any padding."""


def batches_of(lengths_P: np.ndarray, context: int, size: int) -> list[np.ndarray]:
    """Places of the pieces, batch by batch: at most ``size * context`` places each, padding included.

    The pieces come in random order; so many as fill ``POOL`` batches are sorted by length, cut, and taken in turn.
    """
    batches: list[np.ndarray] = []
    pool_P = np.cumsum(lengths_P) // (POOL * size * context)
    for pool in range(int(pool_P[-1]) + 1 if len(pool_P) else 0):
        places = np.flatnonzero(pool_P == pool)
        places = places[np.argsort(lengths_P[places], kind="stable")[::-1]]
        cut: list[np.ndarray] = []
        while len(places):
            count = max(1, size * context // int(lengths_P[places[0]]))
            cut.append(places[:count])
            places = places[count:]
        # sorted places say nothing of time or user, so the pool's first piece decides the order of its batches
        batches.extend(sorted(cut, key=lambda batch: int(batch[0])))
    return batches
