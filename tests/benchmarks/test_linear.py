"""The linear item model against its definition, and on a world in which items come in pairs."""

from collections.abc import Callable

import numpy as np

from benchmarks.replay_arms import Ease
from benchmarks.replay_stream import StreamState, WindowQueries, windows
from models.learning.dataset import TrainingSet

ITEMS = [f"i{place:02d}" for place in range(12)]


def in_pairs(make_training_set: Callable, users: int = 60) -> TrainingSet:
    """Each user sees two pairs of items: (0, 1), (2, 3), ..."""
    rows, random = [], np.random.default_rng(0)
    for user in range(users):
        for pair in random.choice(6, 2, replace=False):
            for item in (2 * pair, 2 * pair + 1):
                rows.append((len(rows) + 1, f"u{user:02d}", ITEMS[item], "like", None, len(rows) * 10**6))
    return make_training_set(rows, ITEMS)


def test_weights_restore_rows_better_than_any_others_with_a_zero_diagonal(make_training_set: Callable) -> None:
    """The penalised loss rises whatever weight off the diagonal is moved."""
    stream, penalty = in_pairs(make_training_set), 3.0
    weights_NN = Ease.fit(stream, penalty).weights_NN.astype(np.float64)
    seen_UN = np.zeros((len(stream.user_ids), len(ITEMS)))
    seen_UN[stream.users, stream.items] = 1.0

    def loss(candidate_NN: np.ndarray) -> float:
        return float(((seen_UN - seen_UN @ candidate_NN) ** 2).sum() + penalty * (candidate_NN**2).sum())

    assert not weights_NN.diagonal().any()
    least, random = loss(weights_NN), np.random.default_rng(1)
    for _ in range(50):
        row, column = random.choice(len(ITEMS), 2, replace=False)
        for step in (-0.01, 0.01):
            moved_NN = weights_NN.copy()
            moved_NN[row, column] += step
            assert loss(moved_NN) > least


def test_the_other_of_a_pair_comes_first(make_training_set: Callable) -> None:
    linear = Ease.fit(in_pairs(make_training_set), 3.0)
    asked_of = make_training_set([(1, "new", ITEMS[4], "like", None, 1), (2, "new", ITEMS[5], "like", None, 2)], ITEMS)
    (window,) = windows(asked_of, 0, 2)
    queries = WindowQueries(StreamState(1, asked_of.catalogue), window).batch(0, 2)
    scores_BN = linear.scores(queries)
    first, second = np.argsort(queries.histories.now_B)
    assert scores_BN[second].argmax() == 5
    assert (scores_BN[first] < 1e-5).all()
