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
from evaluation.gate import Outcome, Verdict, accepts, refused_by
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

ENOUGH, LITTLE = Evidence(300, 20_000), Evidence(299, 1_000_000)
FIGURE = st.floats(-1, 1)
INTERVALS = st.tuples(FIGURE, FIGURE, FIGURE).map(sorted).map(lambda f: Interval(f[1], f[0], f[2]))
VERDICTS = st.sampled_from(["pass", "fail", "undecided", "not_applicable"])
COMPARISONS = [partial(Rivals().verdict, rival) for rival in RIVALS]


@given(INTERVALS, st.sampled_from([ENOUGH, LITTLE, Evidence(10**6, 19_999)]))
def test_beating_popularity(gain: Interval, evidence: Evidence) -> None:
    verdict = BeatsPopularity().verdict(gain, evidence).verdict
    if gain.high <= 0:
        assert verdict == "fail"
    elif evidence is not ENOUGH:
        assert verdict == "undecided"
    else:
        assert verdict == ("pass" if gain.low > 0 else "fail")


@pytest.mark.parametrize("gate", COMPARISONS)
@given(change=INTERVALS, evidence=st.sampled_from([ENOUGH, LITTLE]))
def test_not_worse(gate, change: Interval, evidence: Evidence) -> None:
    verdict = gate(change, evidence).verdict
    if change.high < -0.02:
        assert verdict == "fail"
    elif evidence is LITTLE:
        assert verdict == "undecided"
    else:
        assert verdict == ("pass" if change.low >= -0.02 else "fail")


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


def test_the_risk_of_undecided_gates_ends_where_the_figure_itself_is_bad() -> None:
    few = Evidence(users=30, events=500)
    leaning = BeatsPopularity().verdict(Interval(-0.01, -0.05, 0.03), few)
    hopeful = BeatsPopularity().verdict(Interval(0.01, -0.03, 0.05), few)
    sound = Parity().verdict(0.0)
    assert (leaning.verdict, hopeful.verdict) == ("undecided", "undecided")
    assert accepts([hopeful, sound], accept_undecided=True)
    assert not accepts([leaning, sound], accept_undecided=True)
    level = BeatsPopularity().verdict(Interval(0.0, 0.0, 0.0), few)
    assert not accepts([level, sound], accept_undecided=True)
    assert refused_by([leaning, sound], accept_undecided=True) == [leaning]
    assert refused_by([hopeful, sound], accept_undecided=False) == [hopeful]


def test_where_nothing_was_measured_no_risk_can_be_taken() -> None:
    nothing = Evidence(users=0, events=0)
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
    assert (LIMITS_VERSION, digest) == (8, "548da67471b7")


def test_no_two_gates_have_a_limit_of_one_name() -> None:
    names = [field.name for part in (CaseLimits(), *GATES) for field in fields(part)]
    assert sorted(names) == sorted(gate_limits().as_dict().keys() - {"version"})


def test_lineage_says_what_stands_for_times_that_an_import_had_not() -> None:
    assert without_times(np.array([ORDER_ONLY, ORDER_ONLY + DAY])) == ""
    note = without_times(np.array([0, SHUFFLED - 1, SHUFFLED, ORDER_ONLY]))
    assert "2 of 4 events have no time: the order of the rows" in note
    assert "1 of 4 events have no time: they are random events of every user" in note
