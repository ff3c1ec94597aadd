"""Chances against what came: right where they are known to be right, and told where they are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from model_worlds import three_parts, two_tastes

from evaluation import hold_out
from evaluation.case import Case, CaseLimits
from evaluation.gates import calibration
from evaluation.gates.calibration import Calibration, calibration_error, error_change, reliability
from evaluation.hold_out import CachedHybrid, ChanceRecorder
from evaluation.intervals import Interval
from evaluation.judge import judge
from evaluation.replay import replay_together
from evaluation.report import Judgement
from models.bundle import Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet, groups, histories, seen
from models.learning.training import Trained
from models.metrics import Chances
from models.network.sequence import SequenceRecommender

LIMITS = CaseLimits(min_users=30)
USERS, EACH = 200, 20


def foretold(chance_E: np.ndarray, came_E: np.ndarray) -> Chances:
    count = len(chance_E)
    users_E = np.array([f"u{place // EACH}" for place in range(count)], object)
    return Chances(np.arange(count), users_E, np.ones(count), chance_E, came_E, chance_E, came_E)


def watched(hybrid: Hybrid, training_set: TrainingSet, after: int, upto: int) -> Chances | None:
    whole = CachedHybrid(hybrid)
    events = int(((training_set.times > after) & (training_set.times <= upto)).sum())
    recorder = ChanceRecorder(whole, 0.5, events)
    replay_together([whole], training_set, after, upto, recorder=recorder)
    return recorder.chances()


def sharpened(hybrid: Hybrid, training_set: TrainingSet, times: float) -> Hybrid:
    """The same model with every logit of its network so many times as large: the same lists, surer of them."""
    network = hybrid.network
    tensors = network.tensors()
    for name in ("state_norm.weight", "bias_N"):
        tensors[name] = tensors[name] * np.float32(times)
    surer = SequenceRecommender.restore(training_set.catalogue, network.settings(), tensors)
    return replace(hybrid, network=surer)


def test_the_chances_are_the_softmax_over_what_each_had_not_seen(trained: Hybrid, planted, cut: int) -> None:
    last = int(planted.times.max())
    found = watched(trained, planted, cut, last)
    asked = groups(planted, cut, last)
    known, batch = seen(planted, asked), histories(planted, asked)
    logits_BN = trained.network.scores(batch).astype(np.float64)
    expected: dict[int, tuple[float, bool, float, bool]] = {}
    for row, logits_N in enumerate(logits_BN):
        open_N = np.setdiff1d(np.arange(len(logits_N)), known.values[known.row_of_value() == row])
        chance_N = dict(zip(open_N, np.exp(logits_N[open_N]) / np.exp(logits_N[open_N]).sum(), strict=True))
        best = sorted(open_N, key=lambda item: -logits_N[item])[:10]
        for event in asked.rows.values[asked.rows.row_of_value() == row]:
            target = planted.items[event]
            ten = sum(chance_N[item] for item in best)
            expected[int(planted.positions[event])] = (chance_N[best[0]], target == best[0], ten, target in best)
    assert sorted(found.positions_E.tolist()) == sorted(expected), "nobody repeats an item in this world"
    for place, position in enumerate(found.positions_E.tolist()):
        first, is_first, ten, in_ten = expected[position]
        assert found.first_E[place] == pytest.approx(first, rel=1e-4)
        assert found.ten_E[place] == pytest.approx(ten, rel=1e-4)
        assert (found.is_first_E[place], found.in_ten_E[place]) == (is_first, in_ten)


def test_right_chances_have_hardly_an_error_and_wrong_ones_that_by_which_they_are_wrong() -> None:
    rng = np.random.default_rng(0)
    chance_E = rng.beta(2, 5, 20_000)
    came_E = rng.random(20_000) < chance_E
    ones_E = np.ones(20_000)
    assert calibration_error(chance_E, came_E, ones_E) < 0.012
    assert calibration_error(chance_E + 0.2, came_E, ones_E) == pytest.approx(0.2, abs=0.005)
    rows = reliability(chance_E, came_E, ones_E)
    assert [row["targets"] for row in rows] == [2_000] * calibration.BINS
    assert all(abs(row["chance"] - row["share"]) < 0.04 for row in rows)
    assert calibration_error(np.zeros(0), np.zeros(0, bool), np.zeros(0)) == 0.0


def test_what_was_not_to_be_foreseen_weighs_nothing() -> None:
    chance_E, came_E = np.array([0.4, 0.4, 0.9, 0.2]), np.array([True, False, False, True])
    weight_E = np.array([1.0, 1.5, 0.0, 0.0])
    assert calibration_error(chance_E, came_E, weight_E) == pytest.approx(calibration_error(
        chance_E[:2], came_E[:2], weight_E[:2]))  # fmt: skip
    assert sum(row["targets"] for row in reliability(chance_E, came_E, weight_E)) == 2


def test_a_larger_error_is_certain_over_many_users_and_noise_is_not() -> None:
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(40):
        chance_E = rng.beta(2, 5, USERS * EACH)
        came_E = rng.random(USERS * EACH) < chance_E
        champion = foretold(chance_E, came_E)
        other_E = np.clip(chance_E + rng.normal(0.0, 0.02, USERS * EACH), 0.0, 1.0)
        alarms += error_change(foretold(other_E, came_E), champion).low > 0
    assert alarms <= 3, "one in forty is meant"
    worse = error_change(foretold(np.minimum(chance_E + 0.15, 1.0), came_E), champion)
    assert 0.1 < worse.low < worse.value < worse.high < 0.2
    with pytest.raises(ValueError, match="same targets"):
        error_change(foretold(chance_E[1:], came_E[1:]), champion)


@pytest.mark.parametrize(
    ("error", "low", "verdict"),
    [(0.2, 0.06, "fail"), (0.2, 0.04, "pass"), (0.09, 0.06, "pass"), (np.nan, 0.0, "fail")],
)
def test_the_gate_fails_where_the_error_is_large_and_certainly_much_larger(
    error: float, low: float, verdict: str
) -> None:
    assert Calibration().verdict(error, Interval(low + 0.01, low, low + 0.02)).verdict == verdict
    assert Calibration().verdict(error, None).verdict == "not_applicable"


def test_what_a_network_learned_by_sampled_softmax_are_chances(trained_on_tastes: Trained) -> None:
    """Judged on a thousand liked targets of other people of the same two tastes: the hold-out has 154."""
    others = two_tastes(seed=7)
    network = replace(three_parts(trained_on_tastes.hybrid), weights=(1.0, 0.0, 0.0))
    found = watched(network, others, 0, int(others.times.max()))
    liked_E = found.weights_E > 0
    assert liked_E.mean() == pytest.approx(0.5, abs=0.1), "dislikes are nothing to foresee"
    assert found.first_E[liked_E].mean() == pytest.approx(found.is_first_E[liked_E].mean(), abs=0.06)
    assert found.ten_E[liked_E].mean() == pytest.approx(found.in_ten_E[liked_E].mean(), abs=0.04)
    assert calibration_error(found.ten_E, found.in_ten_E, found.weights_E) < 0.1


@pytest.fixture
def judged(
    planted, policy, provenance: Provenance, cut: int, bundle_folder: Path, tmp_path: Path
) -> Callable[[Hybrid], Judgement]:
    """The judgement of a hybrid against the trained one."""

    def of(hybrid: Hybrid) -> Judgement:
        golden = golden_batch(planted, cut, planted.catalogue)
        folder = save_bundle(tmp_path / "challenger", hybrid, planted.catalogue, policy, provenance, golden)
        return judge(Case.load(planted, folder, bundle_folder, limits=LIMITS))

    return of


def test_who_is_too_sure_is_refused_by_this_gate_alone(judged, trained: Hybrid, planted) -> None:
    found = judged(sharpened(trained, planted, 50.0))
    assert [one.name for one in found.verdicts if one.verdict == "fail"] == ["calibration"]
    assert found.calibration.keys() == {"challenger", "champion"}
    assert found.calibration["challenger"]["error_ten"] > 0.3 > 0.1 > found.calibration["champion"]["error_ten"]
    assert "## Calibration" in found.markdown()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_chances_that_are_no_numbers_are_refused_and_not_drawn(judged, trained: Hybrid, planted) -> None:
    found = judged(sharpened(trained, planted, np.nan))
    assert {one.verdict for one in found.verdicts if one.name in ("calibration", "data_contract")} == {"fail"}
    assert found.calibration.keys() == {"champion"}


def test_a_mix_without_its_network_gives_no_chances(judged, trained: Hybrid) -> None:
    found = judged(replace(trained, weights=(0.0, 0.9, 0.1)))
    assert [one.verdict for one in found.verdicts if one.name == "calibration"] == ["not_applicable"]
    assert found.calibration.keys() == {"champion"}
    assert found.as_dict()["calibration"]["champion"]["targets"] == found.hold_out["events"]


def test_some_thousand_targets_are_asked_after_however_many_there_are(
    trained: Hybrid, planted, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = int(planted.times.max())
    everybody = watched(trained, planted, cut, last)
    monkeypatch.setattr(hold_out, "CHANCE_TARGETS", int((planted.times > cut).sum()) // 4)
    some = watched(trained, planted, cut, last)
    assert len(some.ten_E) == pytest.approx(len(everybody.ten_E) / 4, abs=2)
    assert some.positions_E.min() < 970
    assert some.positions_E.max() > planted.positions.max() - 10
