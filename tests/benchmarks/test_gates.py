"""`python -m benchmarks gates` on the first ratings of the demo, with models of one epoch."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import command, datasets, gates_faults, gates_power
from benchmarks.gates_challengers import Challenger, honest_finetune
from benchmarks.gates_experiment import Experiment, Split, train_champions
from benchmarks.gates_power import Audit, Result, judge_challenger
from evaluation.case import Case
from evaluation.intervals import Interval
from evaluation.judge import judge
from models.bundle import Bundle
from models.learning.dataset import is_panel
from models.network.config import Recipe

SPLIT = Split(0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
FAULTS = (*gates_faults.KNOWN, *gates_faults.UNSEEN)


@pytest.fixture(scope="module")
def experiment(quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    stream = datasets.movielens_demo().select(np.arange(4_000))
    return train_champions(stream, quick, SPLIT, tmp_path_factory.mktemp("experiment"), seed=0)


def test_stretches_follow_each_other(experiment: Experiment) -> None:
    champions = [Bundle.load(folder).holdout_after_time for folder in experiment.champions.values()]
    assert champions == sorted(champions)
    assert champions[-1] < experiment.learned < experiment.judged < experiment.audited == experiment.stream.times.max()
    later = experiment.later_events()
    assert later.times.min() > champions[-1]
    assert later.times.max() <= experiment.learned
    np.testing.assert_array_equal(experiment.with_later(later).items, experiment.stream.upto(experiment.learned).items)


def test_names_stand_once() -> None:
    assert len({one.name for one in FAULTS}) == len(FAULTS) > 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name)
def test_every_fault_can_be_planted(experiment: Experiment, fault: Challenger, tmp_path: Path) -> None:
    folder = fault.make(experiment, tmp_path / "bundle", 1)
    bundle, honest = Bundle.load(folder), experiment.honest()
    assert bundle.digest != honest.digest


def test_a_slow_one_answers_as_the_honest_one(experiment: Experiment, tmp_path: Path) -> None:
    slow = next(one for one in FAULTS if one.name == "slow: 12 times the blocks")
    bundle = Bundle.load(slow.make(experiment, tmp_path / "bundle", 1))
    assert bundle.hybrid.network.network.config.blocks == 12
    assert bundle.golden_difference() < 1e-5
    golden = {name: array for name, array in experiment.honest()._golden.items() if name == "scores_BN"}
    np.testing.assert_allclose(bundle._golden["scores_BN"], golden["scores_BN"], atol=1e-5)


def test_what_is_hidden_comes_last(experiment: Experiment, tmp_path: Path) -> None:
    hits = next(one for one in FAULTS if one.name == "all but hits hidden")
    bundle = Bundle.load(hits.make(experiment, tmp_path / "bundle", 1))
    shown = np.argsort(-bundle._golden["scores_BN"], axis=1)[:, :10]
    kept = np.argsort(-experiment.honest().popularity.weights_N)[:150]
    assert np.isin(shown, kept).all()


def test_bots_are_as_loud_as_everybody_and_no_panel(experiment: Experiment) -> None:
    later = experiment.later_events()
    poisoned = gates_faults.add_bots(later, np.random.default_rng(0))
    bots = poisoned.users >= len(later.user_ids)
    assert bots.sum() == (~bots).sum() == len(later)
    assert len(np.unique(poisoned.items[bots])) == 30
    assert (np.diff(poisoned.times) >= 0).all()
    assert is_panel(poisoned.user_ids[np.unique(poisoned.users[bots])]).mean() < 0.3


def test_a_challenger_is_judged_and_audited(experiment: Experiment) -> None:
    found = judge_challenger(experiment, Challenger("popularity", gates_faults.KNOWN[14].make), 1)
    assert not found.accepted
    assert "lineage" not in found.by
    honest = judge_challenger(experiment, Challenger("fine-tune", honest_finetune), 2)
    assert honest.audit is not None
    assert np.isfinite([honest.audit.every.value, honest.audit.liked.value]).all()


def test_champions_are_replayed_once(experiment: Experiment) -> None:
    kept: dict = {}
    champion, anchor = (experiment.champions[name] for name in ("champion", "anchor"))
    first, again = (
        judge(
            Case.load(
                experiment.stream,
                experiment.folder / "honest",
                champion,
                anchor,
                after=experiment.learned,
                upto=experiment.judged,
                replay_cache=kept,
            )
        )
        for _ in range(2)
    )
    assert kept
    assert [(one.name, one.verdict) for one in first.verdicts if one.name != "latency"] == [
        (one.name, one.verdict) for one in again.verdicts if one.name != "latency"
    ]


def _result(
    name: str, harm: float, by: tuple[str, ...] = (), by_construction: bool = False, harmed: tuple[str, ...] = ()
) -> Result:
    change = Interval(harm, harm - 0.01, harm + 0.01)
    return Result(name, not by, by, None if by_construction else Audit(change, change, harmed))


def test_who_counts_and_what_caught_whom() -> None:
    planted = [
        *(_result(f"harmful {place}", -0.1, ("champion",)) for place in range(18)),
        _result("harmless", 0.0, ("champion",)),
        _result("liar", 0.2, ("lineage", "parity"), by_construction=True),
        _result("slipped through", -0.1),
        _result("one too many", -0.1, ("champion",)),
    ]
    tuned = [
        *(_result(f"good {place}", 0.02) for place in range(19)),
        _result("harm", -0.3),
        _result("harm to some", 0.02, ("slice",), harmed=("decade_1940",)),
        _result("g", 0.0, ("x",)),
    ]
    told = {one.name: one for one in gates_power.figures("w", planted, tuned, gates_power.LIMITS)}
    assert told["w: bad ones refused, of 20"].value == 19
    assert told["w: bad ones refused, of 20"].holds
    assert told["w: good ones let through, of 20"].value == 19
    assert told["w: bad ones caught by champion"].value == 18
    assert told["w: bad ones caught by champion"].note.startswith("18 of them")
    assert told["w: bad ones caught by lineage"].note.startswith("0 of them")
    assert told["w: not counted, without harm, harmless, let through"].value == 0
    assert told["w: not counted, bad, one too many, let through"].value == 0
    assert told["w: not counted, bad, harm, let through"].value == 1
    assert told["w: not counted, bad, harm to some, let through"].note.endswith("harm to decade_1940")
    assert told["w: fine-tunes that do harm let through, of 2"].value == 1
    assert told["w: bad, slipped through, let through"].value == 1
    worse = [*planted[1:-1], _result("slipped through too", -0.1)]
    assert not gates_power.figures("w", worse, tuned, gates_power.LIMITS)[0].holds


def test_parts_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(datasets.DATA, str(tmp_path))
    with pytest.raises(Exception, match=r"ATTUNE_TEST_DATA.*ml-1m"):
        command.measure("gates", "gates_known", 0)
