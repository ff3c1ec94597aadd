"""`attune bench gates` on the first ratings of the demo, with models of one epoch."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import gates, replay_worlds
from benchmarks.exam import known_faults, power, unseen_faults
from benchmarks.exam.planted import Planted, good
from benchmarks.exam.sitting import Audit, Result, examined
from benchmarks.exam.stretches import Era, Exam, prepared
from evaluation.case import Case
from evaluation.intervals import Interval
from evaluation.judge import judge
from models.bundle import Bundle
from models.learning.dataset import is_panel
from models.network.config import Recipe

ERA = Era(0.4, 0.5, 0.6, 0.75, 0.9, 1.0)
FAULTS = (*known_faults.FAULTS, *unseen_faults.FAULTS)


@pytest.fixture(scope="module")
def exam(quick: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Exam:
    stream = replay_worlds.movielens_demo().select(np.arange(8_000))
    return prepared(stream, quick, ERA, tmp_path_factory.mktemp("exam"), seed=0)


def test_stretches_follow_each_other(exam: Exam) -> None:
    champions = [Bundle.load(folder).holdout_after for folder in exam.champions.values()]
    assert champions == sorted(champions)
    assert champions[-1] < exam.learned < exam.judged < exam.audited == exam.stream.positions.max()
    later = exam.later()
    assert later.positions.min() > champions[-1]
    assert later.positions.max() <= exam.learned
    np.testing.assert_array_equal(exam.with_later(later).items, exam.stream.upto(exam.learned).items)


def test_names_stand_once() -> None:
    assert len({one.name for one in FAULTS}) == len(FAULTS) > 40


@pytest.mark.parametrize("fault", FAULTS, ids=lambda one: one.name)
def test_every_fault_can_be_planted(exam: Exam, fault: Planted, tmp_path: Path) -> None:
    folder = fault.make(exam, tmp_path / "bundle", 1)
    bundle, honest = Bundle.load(folder), exam.honest()
    assert bundle.digest != honest.digest


def test_a_slow_one_answers_as_the_honest_one(exam: Exam, tmp_path: Path) -> None:
    slow = next(one for one in FAULTS if one.name == "slow: 12 times the blocks")
    bundle = Bundle.load(slow.make(exam, tmp_path / "bundle", 1))
    assert bundle.hybrid.network.network.config.blocks == 12
    assert bundle.golden_difference() < 1e-5
    golden = {name: array for name, array in exam.honest()._golden.items() if name == "scores_BN"}
    np.testing.assert_allclose(bundle._golden["scores_BN"], golden["scores_BN"], atol=1e-5)


def test_what_is_hidden_comes_last(exam: Exam, tmp_path: Path) -> None:
    hits = next(one for one in FAULTS if one.name == "all but hits hidden")
    bundle = Bundle.load(hits.make(exam, tmp_path / "bundle", 1))
    shown = np.argsort(-bundle._golden["scores_BN"], axis=1)[:, :10]
    kept = np.argsort(-exam.honest().popularity.weights_N)[:150]
    assert np.isin(shown, kept).all()


def test_bots_are_as_loud_as_everybody_and_no_panel(exam: Exam) -> None:
    later = exam.later()
    poisoned = unseen_faults.by_bots(later, np.random.default_rng(0))
    bots = poisoned.users >= len(later.user_ids)
    assert bots.sum() == (~bots).sum() == len(later)
    assert len(np.unique(poisoned.items[bots])) == 30
    assert (np.diff(poisoned.times) >= 0).all()
    assert is_panel(poisoned.user_ids[np.unique(poisoned.users[bots])]).mean() < 0.3


def test_a_challenger_is_judged_and_audited(exam: Exam) -> None:
    found = examined(exam, Planted("popularity", known_faults.FAULTS[14].make), 1)
    assert not found.accepted
    assert "lineage" not in found.by
    honest = examined(exam, Planted("fine-tune", good), 2)
    assert honest.audit is not None
    assert np.isfinite([honest.audit.every.value, honest.audit.liked.value]).all()


def test_champions_are_replayed_once(exam: Exam) -> None:
    kept: dict = {}
    champion, anchor = (exam.champions[name] for name in ("champion", "anchor"))
    first, again = (
        judge(
            Case.load(
                exam.stream,
                exam.folder / "honest",
                champion,
                anchor,
                after=exam.learned,
                upto=exam.judged,
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
    told = {one.name: one for one in power.figures("w", planted, tuned, power.ASKED)}
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
    assert not power.figures("w", worse, tuned, power.ASKED)[0].holds


def test_parts_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(replay_worlds.DATA, str(tmp_path))
    with pytest.raises(Exception, match=r"ATTUNE_TEST_DATA.*ml-1m"):
        gates.measure(0, "gates_known")
