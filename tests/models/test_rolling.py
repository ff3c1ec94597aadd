"""The rolling hit rate against a count by hand."""

import numpy as np
import pandas as pd

from models.metrics import EVENT_COLUMNS, GROUP_COLUMNS, LEAST_WINDOW, Evaluation, rolling_hits


def evaluation(ranks: list[float]) -> Evaluation:
    events = pd.DataFrame({name: np.zeros(len(ranks)) for name in EVENT_COLUMNS})
    events["rank"], events["reward"] = ranks, 1.0
    groups = pd.DataFrame({name: [] for name in GROUP_COLUMNS})
    return Evaluation("by hand", events, groups, np.zeros((0, 10), np.int32), 20, 0, 0, 0, 0.0)


def test_each_point_is_the_mean_of_its_window() -> None:
    ranks = np.random.default_rng(3).choice([1.0, 10.0, 11.0, np.inf], 1_000).tolist()
    found = rolling_hits({"challenger": evaluation(ranks), "item-knn alone": evaluation([1.0] * 1_000)})
    assert found is not None
    assert set(found.lines) == {"targets", "challenger"}
    for end, value in zip(found.lines["targets"], found.lines["challenger"], strict=True):
        window = ranks[int(end) - found.window : int(end)]
        assert len(window) == found.window
        assert value == sum(rank <= 10 for rank in window) / found.window
    assert found.lines["targets"][-1] == 1_000


def test_too_few_targets_give_no_line() -> None:
    assert rolling_hits({}) is None
    assert rolling_hits({"challenger": evaluation([1.0] * (2 * LEAST_WINDOW - 1))}) is None
    assert rolling_hits({"challenger": evaluation([1.0] * (2 * LEAST_WINDOW))}) is not None
