"""The mix: a common scale, weights by validation, moved by what users say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid, normalised
from models.learning.selection import MixSearch, Validation
from models.learning.training import Trained
from models.ranking.preference import Preference

MIXES = [(0.5, 0.5, 0.0), (0.3, 0.3, 0.4), (0.01, 0.01, 0.98)]


def said(items: list[int], kind: str, reward: float) -> HistoryBatch:
    length = len(items)
    return HistoryBatch(
        items_BL=np.array([items]) + 1,
        kinds_BL=np.full((1, length), KIND_INDEX[kind]),
        rewards_BL=np.full((1, length), reward, np.float32),
        times_BL=np.arange(1, length + 1)[None] * 1_000_000,
        item_stats_BLF=np.full((1, length, 4), np.nan, np.float32),
        user_stats_BF=np.full((1, 4), np.nan, np.float32),
        now_B=np.array([(length + 1) * 1_000_000]),
    )


@given(hnp.arrays(np.float32, (3, 8), elements=st.floats(-1e4, 1e4, width=32)))
def test_normalised_rows_keep_their_order_within_one(scores):
    found = normalised(scores)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1.0
    for row, out in zip(scores, found, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(out[order]) >= -1e-6).all()


def test_a_row_without_opinion_is_zero():
    assert (normalised(np.full((1, 5), 3.25, np.float32)) == 0).all()
    np.testing.assert_array_equal(normalised(np.array([[0.0, 0.0, 2.0, 2.0]], np.float32)), [[-1, -1, 1, 1]])


def test_the_mix_is_the_weighted_sum_of_its_parts(trained_on_tastes: Trained):
    hybrid = replace(trained_on_tastes.hybrid, weights=(0.2, 0.5, 0.3), preference=None)
    batch = said([1, 20], "like", 1.0)
    expected = sum(w * normalised(p.scores(batch)) for p, w in zip(hybrid.parts, hybrid.weights, strict=True))
    np.testing.assert_allclose(hybrid.scores(batch), expected, atol=1e-6)


@pytest.mark.parametrize("weights", MIXES)
@pytest.mark.parametrize("reacted", [0, 5, 18])
def test_other_items_of_the_cluster_fall_after_a_dislike_and_rise_after_a_like(trained_on_tastes, weights, reacted):
    hybrid = replace(trained_on_tastes.hybrid, weights=weights)
    cluster = np.array([item[0] for item in trained_on_tastes.catalogue.item_ids])
    others = np.flatnonzero((cluster == cluster[reacted]) & (np.arange(len(cluster)) != reacted))
    met = [place for place in others if int(trained_on_tastes.catalogue.item_ids[place][1:]) < 14]
    nothing = hybrid.scores(_silent())[0]
    like = hybrid.scores(said([reacted], "like", 1.0))[0]
    dislike = hybrid.scores(said([reacted], "dislike", 0.0))[0]
    assert (dislike[met] < like[met]).all()
    assert not np.array_equal(nothing, like)
    assert not np.array_equal(nothing, dislike)


def _silent() -> HistoryBatch:
    empty = said([0], "like", 0.5)
    return replace(empty, items_BL=np.zeros((1, 1), np.int64), kinds_BL=np.zeros((1, 1), np.int64))


def test_on_validation_it_is_no_worse_than_its_best_part(trained_on_tastes: Trained):
    found = trained_on_tastes.report["validation"]
    parts = [found[name]["objective"] for name in ("network", "item-knn")]
    assert found["hybrid"]["objective"] >= max(parts) - 1e-9
    assert found["hybrid"]["objective"] >= 0.98 * found["popularity"]["objective"]


def test_weights_find_the_part_that_knows(tastes, trained_on_tastes: Trained):
    """A part that gives the answers away gets the weight, wherever it stands."""
    last = int(tastes.times.max())
    validation = Validation.over(tastes, int(last * 0.9), last, 50)
    answers = {one.batch.now_B.tobytes(): one for one in validation.batches}

    class Oracle:
        name = "oracle"

        def scores(self, batch: HistoryBatch) -> np.ndarray:
            one = answers[batch.now_B.tobytes()]
            scores = np.zeros((len(batch), len(tastes.catalogue)), np.float32)
            scores[one.target_rows, one.target_items] = 2.0 * one.target_rewards - 1.0
            return scores

    hybrid = trained_on_tastes.hybrid
    network_knows = MixSearch((Oracle(), hybrid.knn, hybrid.popularity), validation)
    knn_knows = MixSearch((hybrid.network, Oracle(), hybrid.popularity), validation)
    assert network_knows.choose(0.25)[0][0] >= 0.5
    assert knn_knows.choose(0.25)[0][1] >= 0.5
    assert network_knows.measure((1.0, 0.0, 0.0)) == 1.0


def test_popularity_alone_is_never_chosen(trained_on_tastes: Trained):
    for row in trained_on_tastes.report["tried"]["weights"]:
        assert row["network"] + row["item-knn"] > 0
        assert row["network"] + row["item-knn"] + row["popularity"] == pytest.approx(1.0)


def test_a_part_without_weight_is_not_asked(trained_on_tastes: Trained):
    class Silent:
        name = "network"

        def scores(self, batch: HistoryBatch) -> np.ndarray:
            raise AssertionError("asked")

    hybrid = trained_on_tastes.hybrid
    mute = Hybrid(Silent(), hybrid.others, (0.0, 1.0, 0.0))  # type: ignore[arg-type]
    assert mute.scores(said([1], "like", 1.0)).shape == (1, 32)


def test_a_preference_joins_the_mix_and_travels_with_the_hybrid(trained_on_tastes: Trained):
    plain = replace(trained_on_tastes.hybrid, preference=None)
    hybrid = replace(plain, preference=Preference(step=0.3, weight=0.2))
    batch = said([1, 20, 3], "like", 1.0)
    items_ND = hybrid.network.unit_items_ND
    moved_BN = hybrid.preference.vectors(batch, items_ND) @ items_ND.T
    np.testing.assert_allclose(hybrid.scores(batch), plain.scores(batch) + 0.2 * moved_BN, atol=1e-6)
    again = Hybrid.restore(trained_on_tastes.catalogue, hybrid.settings(), hybrid.tensors())
    np.testing.assert_allclose(again.scores(batch), hybrid.scores(batch), atol=1e-6)
    assert Hybrid.restore(trained_on_tastes.catalogue, plain.settings(), plain.tensors()).preference is None


def test_the_live_profile_is_a_source_of_its_own_weight_and_travels_with_the_hybrid(trained_on_tastes: Trained):
    plain = replace(trained_on_tastes.hybrid, preference=None, live=0.0)
    hybrid = replace(plain, live=0.2)
    batch = said([1, 20, 3], "like", 1.0)
    live_1N = np.linspace(-1, 1, len(trained_on_tastes.catalogue), dtype=np.float32)[None]
    states_BD = hybrid.states(batch)
    sources = hybrid.sources(batch, states_BD, live_1N)
    assert sources["live"] is live_1N
    np.testing.assert_allclose(hybrid.mix(sources, 1), plain.scores(batch) + 0.2 * live_1N, atol=1e-6)
    assert "live" not in hybrid.sources(batch, states_BD)
    assert "live" not in plain.sources(batch, states_BD, live_1N)
    np.testing.assert_array_equal(hybrid.scores(batch), plain.scores(batch))
    again = Hybrid.restore(trained_on_tastes.catalogue, hybrid.settings(), hybrid.tensors())
    assert again.live == 0.2
    assert "live" not in plain.settings()
    assert Hybrid.restore(trained_on_tastes.catalogue, plain.settings(), plain.tensors()).live == 0


@pytest.mark.parametrize("weight", [-0.1, np.nan, np.inf])
def test_a_weight_of_the_live_profile_that_cannot_be_is_refused(trained_on_tastes: Trained, weight: float):
    with pytest.raises(ValueError, match="live profile"):
        replace(trained_on_tastes.hybrid, live=weight)
