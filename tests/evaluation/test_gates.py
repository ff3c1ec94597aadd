"""The decisions, as properties of the figures that they are given."""

import hashlib
import json
import math
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import DAY, ORDER_ONLY, SHUFFLED
from evaluation.case import RIVALS, CaseLimits, Evidence
from evaluation.gate import Outcome, Verdict, accepts, decision, kept_out_by
from evaluation.gates.coverage import Coverage
from evaluation.gates.latency import Latency
from evaluation.gates.lineage import Lineage, without_times
from evaluation.gates.live_weight import LiveWeight
from evaluation.gates.memory import Memory
from evaluation.gates.panel import Panel
from evaluation.gates.parity import Parity
from evaluation.gates.popularity import BeatsPopularity
from evaluation.gates.rivals import Rivals
from evaluation.gates.slices import Harm, Slices
from evaluation.gates.variety import Variety
from evaluation.intervals import Interval
from evaluation.judge import GATES, LIMITS_VERSION, gate_limits

ENOUGH, LITTLE = Evidence(90, 200, 40.0), Evidence(10**6, 10**7, 39.9)
FIGURE = st.floats(-1, 1)
INTERVALS = st.tuples(FIGURE, FIGURE, FIGURE).map(sorted).map(lambda f: Interval(f[1], f[0], f[2]))
VERDICTS = st.sampled_from(["pass", "fail", "undecided", "not_applicable"])
COMPARISONS = [partial(Rivals().verdict, rival) for rival in RIVALS]


@given(INTERVALS, st.sampled_from([ENOUGH, LITTLE, Evidence(10**6, 199, 10.0**6)]))
def test_beating_popularity(gain: Interval, evidence: Evidence) -> None:
    """An interval that lies wholly on one side decides, once it is valid; one that holds the limit never does."""
    verdict = BeatsPopularity().verdict(gain, evidence).verdict
    decided = "pass" if gain.low > 0 else "fail" if gain.high <= 0 else "undecided"
    assert verdict == (decided if evidence is ENOUGH else "undecided")


@pytest.mark.parametrize("gate", COMPARISONS)
@given(change=INTERVALS, evidence=st.sampled_from([ENOUGH, LITTLE]))
def test_not_worse(gate, change: Interval, evidence: Evidence) -> None:
    verdict = gate(change, evidence).verdict
    decided = "pass" if change.low >= -0.02 else "fail" if change.high < -0.02 else "undecided"
    assert verdict == (decided if evidence is ENOUGH else "undecided")


@given(INTERVALS, st.floats(0, 1))
def test_a_better_challenger_never_gets_a_worse_verdict(change: Interval, lift: float) -> None:
    order = ["fail", "undecided", "pass"]
    better = Interval(change.value + lift, change.low + lift, change.high + lift)
    for evidence in (ENOUGH, LITTLE):
        before, after = (COMPARISONS[0](found, evidence) for found in (change, better))
        assert order.index(after.verdict) >= order.index(before.verdict)


@pytest.mark.parametrize("gate", [BeatsPopularity().verdict, *COMPARISONS])
def test_an_infinite_interval_decides_nothing(gate) -> None:
    found = gate(Interval(-0.5, -math.inf, math.inf), LITTLE)
    assert found.verdict == "undecided"
    assert found.to_json()["low"] is None
    json.dumps(found.to_json(), allow_nan=False)


@given(st.floats(0, 1), st.none() | st.floats(0, 1))
def test_coverage_keeps_a_floor_and_a_share_of_the_champions(measured: float, of_champion: float | None) -> None:
    gate = Coverage().verdict(measured, of_champion, 1.0)
    wanted = measured >= 0.005 and (of_champion is None or measured >= 0.5 * of_champion)
    assert (gate.verdict == "pass") == wanted


def test_too_few_lists_decide_nothing_of_coverage() -> None:
    assert Coverage().verdict(0.001, None, 0.002).verdict == "undecided"
    assert Coverage().verdict(0.001, None, 0.02).verdict == "fail"


def test_harm_to_a_slice_is_what_was_tested() -> None:
    harm = Harm(Interval(-0.3, -0.4, -0.2), users=60, events=900, is_harmed=True)
    gate = Slices().verdict("new_users", harm, "ndcg@10")
    assert (gate.name, gate.verdict, gate.measured, gate.high) == ("no_harm_to_new_users", "fail", -0.3, -0.2)
    assert "60 users and 900 events" in gate.note
    assert Slices().verdict("new_users", replace(harm, is_harmed=False), "ndcg@10").verdict == "pass"


@given(FIGURE, FIGURE, FIGURE)
def test_the_panel_refuses_only_what_is_lost_for_certain(value: float, below: float, above: float) -> None:
    change = Interval(value, value - abs(below), value + abs(above))
    gate = Panel().of_change("no_harm_to_panel", change, 80, "ndcg@10")
    assert (gate.verdict == "fail") == (change.high < Panel().panel_change)


@given(st.floats(0, 10), st.floats(0, 10))
def test_variety_keeps_a_share_of_the_champions(measured: float, of_champion: float) -> None:
    gate = Variety().verdict("novelty", measured, of_champion)
    assert (gate.verdict == "pass") == (measured >= Variety().variety_share * of_champion)


def test_a_bundle_may_grow_but_not_to_many_times_the_champions() -> None:
    assert Memory().verdict(3_000_000, 1_000_000).verdict == "pass"
    assert Memory().verdict(3_000_001, 1_000_000).verdict == "fail"


def test_latency_is_a_ratio_of_the_same_run() -> None:
    assert Latency().against_popularity(59.9, 1.0).verdict == "pass"
    assert Latency().against_popularity(60.1, 1.0).verdict == "fail"
    assert Latency().against_champion(2.9, 1.0).verdict == "pass"
    assert Latency().against_champion(3.1, 1.0).verdict == "fail"


def test_parity_has_a_tolerance_and_nan_is_no_parity() -> None:
    verdicts = [Parity().verdict(difference).verdict for difference in (0.0, 1e-4, 2e-4, math.nan, math.inf)]
    assert verdicts == ["pass", "pass", "fail", "fail", "fail"]


def test_lineage() -> None:
    assert Lineage().verdict(99, 100, 0).verdict == "pass"
    assert Lineage().verdict(100, 100, 0).verdict == "fail"
    panel = Lineage().verdict(99, 100, 3)
    assert panel.verdict == "fail"
    assert "3 users of the panel" in panel.note


@given(st.lists(VERDICTS, max_size=8), st.booleans())
def test_acceptance(verdicts: list[Outcome], accept_undecided: bool) -> None:
    found = [Verdict(str(place), None, None, verdict, "") for place, verdict in enumerate(verdicts)]
    expected = "pass" in verdicts and "fail" not in verdicts and (accept_undecided or "undecided" not in verdicts)
    assert accepts(found, accept_undecided) == expected
    if not expected:
        waits = "fail" not in verdicts and "undecided" in verdicts and not accept_undecided
        assert decision(found, accept_undecided) == ("undecided" if waits else "refused")


@given(st.lists(VERDICTS.filter(lambda verdict: verdict != "fail"), max_size=8), st.booleans())
def test_without_a_failed_gate_nobody_is_called_refused_by_one(verdicts: list[Outcome], adverse: bool) -> None:
    found = [Verdict("one", None, None, verdict, "", adverse=adverse) for verdict in verdicts]
    said = decision([*found, Verdict("another", None, None, "pass", "")], accept_undecided=True)
    assert said == ("undecided" if adverse and "undecided" in verdicts else "accepted")


def test_95_users_decide_where_their_interval_does() -> None:
    """The figures of a public music set, which fewer than 300 users once left undecided."""
    gain = BeatsPopularity().verdict(Interval(0.085, 0.071, 0.100), Evidence(95, 9_000, 91.0))
    assert (gain.verdict, decision([gain], accept_undecided=False)) == ("pass", "accepted")


def test_what_stays_undecided_says_how_many_more_it_likely_takes() -> None:
    evidence = Evidence(100, 5_000, 80.0, days=10.0)
    straddling = BeatsPopularity().verdict(Interval(0.01, -0.005, 0.025), evidence)
    assert straddling.note.endswith(
        "holds the limit; about 125 more users, or 13 more days at this pace, would likely decide"
    )
    few = BeatsPopularity().verdict(Interval(0.05, 0.04, 0.06), Evidence(30, 5_000, 25.0))
    assert few.note.endswith("(at least 40 and 200); about 19 more users would likely decide")
    level = BeatsPopularity().verdict(Interval(0.0001, -0.01, 0.01), evidence)
    assert "would hardly decide" in level.note
    assert "cannot be foretold" in BeatsPopularity().verdict(Interval(0.0, -math.inf, math.inf), evidence).note


def test_the_risk_of_undecided_gates_ends_where_the_figure_itself_is_bad() -> None:
    few = Evidence(users=30, events=500, effective=30.0)
    leaning = BeatsPopularity().verdict(Interval(-0.01, -0.05, 0.03), few)
    hopeful = BeatsPopularity().verdict(Interval(0.01, -0.03, 0.05), few)
    sound = Parity().verdict(0.0)
    assert (leaning.verdict, hopeful.verdict) == ("undecided", "undecided")
    assert accepts([hopeful, sound], accept_undecided=True)
    assert not accepts([leaning, sound], accept_undecided=True)
    level = BeatsPopularity().verdict(Interval(0.0, 0.0, 0.0), few)
    assert not accepts([level, sound], accept_undecided=True)
    assert kept_out_by([leaning, sound], accept_undecided=True) == [leaning]
    assert kept_out_by([hopeful, sound], accept_undecided=False) == [hopeful]


def test_where_nothing_was_measured_no_risk_can_be_taken() -> None:
    nothing = Evidence(users=0, events=0, effective=0.0)
    unknown = Interval(0.0, -math.inf, math.inf)
    quality = [
        BeatsPopularity().verdict(unknown, nothing),
        COMPARISONS[0](unknown, nothing),
    ]
    assert [gate.verdict for gate in quality] == ["undecided", "undecided"]
    assert not accepts([*quality, Parity().verdict(0.0)], accept_undecided=True)


def test_what_no_hold_out_can_judge_may_not_decide() -> None:
    assert [LiveWeight().verdict(weight).verdict for weight in (0.0, 0.5, 0.51)] == ["pass", "pass", "fail"]


def test_a_changed_limit_is_another_version() -> None:
    """Judgements name the version: raise it in ``evaluation.judge`` with any change, and put the new digest here."""
    table = sorted((name, value) for name, value in gate_limits().as_dict().items() if name != "version")
    digest = hashlib.sha256(repr(table).encode()).hexdigest()[:12]
    assert (LIMITS_VERSION, digest) == (10, "64c4be683a89")


def test_no_two_gates_have_a_limit_of_one_name() -> None:
    names = [field.name for part in (CaseLimits(), *GATES) for field in fields(part)]
    assert sorted(names) == sorted(gate_limits().as_dict().keys() - {"version"})


def test_lineage_says_what_stands_for_times_that_an_import_had_not() -> None:
    assert without_times(np.array([ORDER_ONLY, ORDER_ONLY + DAY])) == ""
    note = without_times(np.array([0, SHUFFLED - 1, SHUFFLED, ORDER_ONLY]))
    assert "2 of 4 events have no time: the order of the rows" in note
    assert "1 of 4 events have no time: they are random events of every user" in note
