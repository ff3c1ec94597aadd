"""The mix: a common scale, weights by validation, moved by what users say."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from model_worlds import three_parts

from models.baselines import Latest
from models.ease import Ease, EaseChoice
from models.history import KIND_INDEX, HistoryBatch
from models.hybrid import Hybrid, mixed, normalised
from models.learning.dataset import TrainingSet
from models.learning.selection import MixSearch, Validation, is_best
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
    hybrid = replace(three_parts(trained_on_tastes.hybrid), weights=(0.2, 0.5, 0.3), preference=None)
    batch = said([1, 20], "like", 1.0)
    expected = sum(w * normalised(p.scores(batch)) for p, w in zip(hybrid.parts, hybrid.weights, strict=True))
    np.testing.assert_allclose(hybrid.scores(batch), expected, atol=1e-6)


@pytest.mark.parametrize("weights", MIXES)
@pytest.mark.parametrize("reacted", [0, 5, 18])
def test_other_items_of_the_cluster_fall_after_a_dislike_and_rise_after_a_like(trained_on_tastes, weights, reacted):
    hybrid = replace(three_parts(trained_on_tastes.hybrid), weights=weights)
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
    found = {name: row["objective"] for name, row in trained_on_tastes.report["validation"].items()}
    assert found.keys() == {"network", "item-knn", "popularity", "ease", "latest", "hybrid"}
    assert found["hybrid"] >= max(found[name] for name in ("network", "item-knn", "ease")) - 1e-9
    assert found["hybrid"] >= 0.98 * max(found["popularity"], found["latest"])


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
    fourth_knows = MixSearch((hybrid.network, hybrid.knn, hybrid.popularity, Oracle()), validation)
    weights, tried = fourth_knows.choose(0.25)
    assert weights[3] >= 0.5
    assert len(tried) < 100


@pytest.mark.parametrize("size", [60, 700])
def test_a_mix_is_measured_as_validation_measures_it(make_training_set, hashed, fixed_scores, size: int):
    """Ties, dislikes, what was seen and several targets at one moment; in the larger world not all items are rivals."""
    rng, rows = np.random.default_rng(size), []
    for position in range(1, 1_500):
        user, item, kind = f"u{rng.integers(40)}", f"i{rng.integers(size):03d}", str(rng.choice(["like", "dislike"]))
        rows.append((position, user, item, kind, None, position // 2 * 1_000_000))
    world = make_training_set(rows, [f"i{place:03d}" for place in range(size)])
    validation = Validation.over(world, 300_000_000, 10**12, most=10**6)
    popular = fixed_scores(np.bincount(world.items, minlength=size))
    popular.shared_N = popular.scores_N
    parts = (hashed(size), hashed(size, 500, salt=3), popular, hashed(size, 900, salt=9))
    search = MixSearch(parts, validation)
    for weights in [(1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.3, 0.3, 0.1, 0.3), (0.0, 0.7, 0.0, 0.3)]:
        scores = (mixed([normalised(part.scores(row.batch)) for part in parts], weights) for row in validation.batches)
        expected = validation.figures_of(scores)["objective"]
        assert search.measure(weights) == pytest.approx(expected, abs=1e-9 if size == 60 or max(weights) == 1 else 0.01)
    best, tried = search.choose(0.25)
    assert sum(best) == pytest.approx(1.0)
    assert search.measure(best) == max(row["objective"] for row in tried) >= search.measure((0.25, 0.25, 0.25, 0.25))


def test_a_score_that_is_no_number_is_no_hit(tastes: TrainingSet, fixed_scores, hashed):
    last, count = int(tastes.times.max()), len(tastes.catalogue)
    validation = Validation.over(tastes, int(last * 0.9), last, 50)
    search = MixSearch((fixed_scores(np.full(count, np.nan)), hashed(count)), validation)
    assert search.measure((1.0, 0.0)) == search.measure((0.5, 0.5)) == 0.0
    assert search.measure((0.0, 1.0)) == pytest.approx(validation.figures(hashed(count))["objective"])


@given(hnp.arrays(np.float32, (2, 12), elements=st.sampled_from([-np.inf, 0.0, 1.0, 2.0, 3.0])), st.integers(1, 14))
def test_the_best_of_a_row_are_those_of_a_full_sort(masked_BN: np.ndarray, k: int):
    for row_N, found_N in zip(masked_BN, is_best(masked_BN, k), strict=True):
        order = [place for place in np.argsort(-row_N, kind="stable") if row_N[place] > -np.inf][:k]
        assert sorted(order) == np.flatnonzero(found_N).tolist()


def test_what_is_the_same_for_everybody_never_stands_alone(trained_on_tastes: Trained):
    for row in trained_on_tastes.report["tried"]["weights"]:
        assert row["network"] + row["item-knn"] + row["ease"] > 0.01
        assert sum(share for name, share in row.items() if name != "objective") == pytest.approx(1.0)


def test_what_validation_gave_no_weight_is_left_out_but_item_knn_and_popularity(tastes, trained_on_tastes: Trained):
    hybrid = trained_on_tastes.hybrid
    ease = Ease.fit(tastes, EaseChoice(penalty=10.0, history=10, decay=1.0, slope=0.5, neighbours=9, items=9))
    others = hybrid.knn, hybrid.popularity, ease, Latest.fit(tastes, 1.0)
    whole = replace(hybrid, others=others, weights=(0.0, 0.0, 0.0, 0.9, 0.1))
    assert whole.without_idle() == whole
    left = replace(whole, weights=(0.9, 0.0, 0.0, 0.0, 0.1)).without_idle()
    assert (left.names, left.weights) == (("network", "item-knn", "popularity", "latest"), (0.9, 0.0, 0.0, 0.1))
    assert left.knn is hybrid.knn


def test_a_part_without_weight_is_not_asked(trained_on_tastes: Trained):
    class Silent:
        name = "network"

        def scores(self, batch: HistoryBatch) -> np.ndarray:
            raise AssertionError("asked")

    hybrid = three_parts(trained_on_tastes.hybrid)
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
