"""Thompson sampling: chances that are true to what they estimate, and a posterior that learns."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from models.ranking.policy import Pool
from models.ranking.thompson import LinearPosterior, Thompson

RNG = np.random.default_rng(4)
SCORES_C = np.array([0.30, 0.25, 0.20, 0.10, 0.00, -0.4])
FEATURES_CF = RNG.uniform(-1, 1, (6, 3))
POLICY = Thompson(LinearPosterior.prior(3, 0.3), ("sequence", "item-knn", "live"), samples=256, floor=1e-3)
ALL = np.ones(6, bool)


def pool(seed: int, k: int = 3, **named) -> Pool:
    return Pool(SCORES_C, k, np.random.default_rng(seed), features_CF=FEATURES_CF, **named)


def long_run(open_C: np.ndarray, samples: int = 400_000) -> np.ndarray:
    """The chance of each candidate to be the best by drawn weights, computed by hand."""
    weights_MF = np.random.default_rng(0).normal(0.0, 0.3, (samples, 3))
    values_MC = np.where(open_C, SCORES_C + weights_MF @ FEATURES_CF.T, -np.inf)
    return np.bincount(values_MC.argmax(axis=1), minlength=6) / samples


def test_propensities_lie_within_their_standard_errors_of_the_long_run() -> None:
    exact, off = {}, []
    for seed in range(400):
        (drawn,) = POLICY.draw_many([pool(seed)])
        open_C = ALL.copy()
        for place, propensity, error in zip(
            drawn.places_K.tolist(), drawn.propensities_K, drawn.notes["errors"], strict=True
        ):
            if open_C.tobytes() not in exact:
                exact[open_C.tobytes()] = long_run(open_C, 100_000)
            count = np.count_nonzero(open_C)
            expected = POLICY.floor + (1 - count * POLICY.floor) * exact[open_C.tobytes()][place]
            off.append((propensity - expected) / error)
            open_C[place] = False
    assert np.abs(off).max() < 4.5
    assert 0.93 < np.mean(np.abs(off) < 1.96) < 0.98, "the errors are neither too small nor too large"


def test_first_places_are_as_frequent_as_the_long_run_says() -> None:
    counts = np.zeros(6)
    for seed in range(5_000):
        counts[POLICY.draw_many([pool(seed, 1)])[0].places_K[0]] += 1
    expected = POLICY.floor + (1 - 6 * POLICY.floor) * long_run(ALL)
    assert chisquare(counts, 5_000 * expected / expected.sum()).pvalue > 0.001


def test_dividing_by_the_propensities_is_unbiased() -> None:
    rewards_C = np.array([0.1, 0.9, 0.4, 0.0, 0.7, 0.3])
    found = []
    for seed in range(5_000):
        (drawn,) = POLICY.draw_many([pool(seed, 1)])
        found.append(rewards_C[drawn.places_K[0]] / drawn.propensities_K[0] / 6)
    assert np.mean(found) == pytest.approx(rewards_C.mean(), abs=4 * np.std(found) / np.sqrt(5_000))


@given(floor=st.floats(1e-6, 0.9), samples=st.integers(1, 50), closed=st.sets(st.integers(0, 5), max_size=5))
def test_no_open_candidate_falls_under_the_floor(floor: float, samples: int, closed: set[int]) -> None:
    open_C = ~np.isin(np.arange(6), list(closed))
    chances_C, wins_C = replace(POLICY, floor=floor, samples=samples).chances(pool(0), open_C)
    assert chances_C.sum() == pytest.approx(1.0, abs=1e-12)
    assert (chances_C[open_C] >= min(floor, 1 / np.count_nonzero(open_C)) - 1e-12).all()
    assert wins_C.sum() == samples
    assert (wins_C[~open_C] == 0).all()


def test_it_explores_less_the_more_is_known() -> None:
    random = np.random.default_rng(1)
    features_RF = random.uniform(-1, 1, (2_000, 3))
    known = POLICY.posterior.updated(features_RF, 0.05 * random.normal(size=2_000), noise=0.05)
    sure = replace(POLICY, posterior=known)
    best = [np.mean([policy.draw_many([pool(seed, 1)])[0].places_K[0] == 0 for seed in range(300)])
            for policy in (POLICY, sure)]  # fmt: skip
    assert best[0] < 0.7
    assert best[1] > 0.95


def test_the_posterior_finds_the_weights_that_reactions_were_made_by() -> None:
    random, truth_F = np.random.default_rng(2), np.array([0.4, -0.2, 0.1])
    features_RF = random.uniform(-1, 1, (5_000, 3))
    residuals_R = features_RF @ truth_F + 0.5 * random.normal(size=5_000)
    found = POLICY.posterior.updated(features_RF, residuals_R, noise=0.5)
    deviation_F = np.sqrt(np.diag(np.linalg.inv(np.array(found.precision))))
    assert (deviation_F < 0.02).all()
    assert (np.abs(np.array(found.mean) - truth_F) < 4 * deviation_F).all()


def test_what_its_slates_log_is_enough_to_learn_what_the_mix_does_not_know() -> None:
    """Reactions follow another mix than the hybrid's: by the logged notes alone it comes to beat that mix."""
    random, truth_F, policy = np.random.default_rng(7), np.array([-0.4, 0.5, 0.0]), POLICY
    worth: dict[str, list[float]] = {"ranking": [], "learned": []}
    for turn in range(30):
        for slate in range(10):
            scores_C, features_CF = random.uniform(-0.3, 0.3, 40), random.uniform(-1, 1, (40, 3))
            drawn = policy.draw_many([Pool(scores_C, 3, np.random.default_rng([turn, slate]), features_CF=features_CF)])
            places_K = drawn[0].places_K
            value_C = scores_C + features_CF @ truth_F
            residuals_K = value_C[places_K] + 0.5 * random.normal(size=3) - scores_C[places_K]
            policy = replace(policy, posterior=policy.posterior.updated(drawn[0].notes["features"], residuals_K, 0.5))
            worth["ranking"].append(value_C[np.argsort(-scores_C)[:3]].mean())
            worth["learned"].append(value_C[places_K].mean())
    late = {name: np.mean(values[-100:]) for name, values in worth.items()}
    assert late["learned"] > late["ranking"] + 0.3


@given(cut=st.integers(0, 40), seed=st.integers(0, 2**32))
def test_reactions_in_parts_or_at_once_come_to_the_same(cut: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features_RF, residuals_R = random.normal(size=(40, 3)), random.normal(size=40)
    once = POLICY.posterior.updated(features_RF, residuals_R, 0.7)
    parts = POLICY.posterior.updated(features_RF[:cut], residuals_R[:cut], 0.7)
    parts = parts.updated(features_RF[cut:], residuals_R[cut:], 0.7)
    np.testing.assert_allclose(parts.mean, once.mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(parts.precision, once.precision, rtol=1e-9)


def test_draws_of_the_weights_have_the_posteriors_mean_and_covariance() -> None:
    posterior = LinearPosterior((0.5, -1.0), ((4.0, 1.0), (1.0, 2.0)))
    weights_MF = posterior.weights(np.random.default_rng(0).standard_normal((200_000, 2)))
    np.testing.assert_allclose(weights_MF.mean(axis=0), posterior.mean, atol=0.01)
    np.testing.assert_allclose(np.cov(weights_MF.T), np.linalg.inv(posterior.precision), atol=0.01)


@pytest.mark.parametrize(
    "precision", [((1.0,),), ((1.0, 0.5), (0.0, 1.0)), ((1.0, 2.0), (2.0, 1.0)), ((float("nan"), 0.0), (0.0, 1.0))]
)
def test_a_precision_that_is_none_is_refused(precision: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match="positive definite"):
        LinearPosterior((0.0, 0.0), precision)


@pytest.mark.parametrize(
    ("named", "said"), [({"samples": 0}, "samples"), ({"floor": 0.0}, "floor"), ({"sources": ("live",)}, "sources")]
)
def test_settings_out_of_range_are_refused(named: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(POLICY, **named)


@pytest.mark.parametrize("features_CF", [None, np.zeros((6, 2)), np.full((6, 3), np.nan)])
def test_without_sound_features_nothing_is_drawn(features_CF: np.ndarray | None) -> None:
    with pytest.raises(ValueError, match="features of the sources sequence, item-knn, live"):
        POLICY.draw_many([replace(pool(0), features_CF=features_CF)])
