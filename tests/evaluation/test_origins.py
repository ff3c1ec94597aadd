"""Origins in the order of time: each model learns from what lies before its own, and is judged on what comes next."""

from dataclasses import replace

import numpy as np
import pytest

from attune.errors import DataContractError
from evaluation import origins
from evaluation.case import CaseLimits
from evaluation.origins import rolling_origins, spread
from evaluation.replay import replay_together
from evaluation.simple_baselines import simple_baselines
from models.metrics import summary


def test_origins_move_on_and_the_model_beats_popularity_at_each(planted, quick) -> None:
    found = rolling_origins(planted, replace(quick, epochs=4), folds=2, seed=1)
    assert [one.after for one in found[1:]] == [one.upto for one in found[:-1]]
    assert found[-1].upto == planted.times.max()
    assert all(one.events > 0 and one.model["ndcg@10"] > one.popularity["ndcg@10"] for one in found)
    table = spread(found)
    hits = [one.model["hr@10"] for one in found]
    assert table["model"]["hr@10"] == pytest.approx(np.mean(hits))
    assert table["model"]["hr@10 sd"] == pytest.approx(np.std(hits, ddof=1))


def test_no_model_learns_from_what_came_after_its_origin(tastes, quick, monkeypatch) -> None:
    learned = []
    train = origins.train

    def told(training_set, recipe, train_upto, validate_upto, seed):
        trained = train(training_set, recipe, train_upto, validate_upto, seed)
        learned.append((trained.trained_upto, validate_upto))
        return trained

    monkeypatch.setattr(origins, "train", told)
    found = rolling_origins(tastes, replace(quick, epochs=1), folds=2, seed=1)
    assert [limit for _, limit in learned] == [one.after for one in found]
    assert all(upto <= limit for upto, limit in learned)


def test_one_origin_has_no_spread_and_few_events_no_origins(tastes, quick) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        rolling_origins(tastes, quick, folds=1, seed=1)
    with pytest.raises(DataContractError, match="too few"):
        rolling_origins(tastes.select(np.arange(20)), quick, folds=15, seed=1)


def test_popularity_is_the_strongest_that_the_panel_taught_nothing(planted, quick) -> None:
    (first, _) = rolling_origins(planted, replace(quick, epochs=1), folds=2, seed=1)
    baselines = simple_baselines(planted, first.after, CaseLimits().half_lives, CaseLimits().trends)
    found = [summary(one) for one in replay_together(baselines, planted, first.after, first.upto)]
    best = max(found, key=lambda figures: figures["positive"]["ndcg@10"])
    liked, every = best["positive"], best["all"]["ndcg@10"]
    assert first.popularity == {name: liked[name] for name in origins.SHOWN} | {origins.ALL_TARGETS: every}
