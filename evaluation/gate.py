"""Whether a challenger may take over: pure decisions over figures that somebody else measured.

A gate is a value. Its verdict is ``pass``, ``fail``, ``undecided`` (too little evidence either way) or
``not_applicable`` (nothing to compare with). A failed gate is a result, not an exception.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from evaluation.harm import Harm
from evaluation.intervals import Interval
from evaluation.limits import GateLimits

if TYPE_CHECKING:  # it imports models, which deciding does without
    from evaluation.offpolicy.value_change import ValueChange

Verdict = Literal["pass", "fail", "undecided", "not_applicable"]


@dataclass(frozen=True)
class Gate:
    """One question with its answer; ``measured`` and ``limit`` are in the unit that ``note`` states.

    ``adverse`` marks an undecided gate that nothing speaks for: its figure lies on the wrong side of its limit, or
    there was nothing to measure.
    """

    name: str
    limit: float | None
    measured: float | None
    verdict: Verdict
    note: str
    low: float | None = None
    high: float | None = None
    adverse: bool = False

    def to_json(self) -> dict[str, Any]:
        """The gate as JSON holds it: infinities become null."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in found.items()}


@dataclass(frozen=True)
class Evidence:
    """How much a comparison rests on."""

    users: int
    events: int

    def enough(self, limits: GateLimits) -> bool:
        """Whether a quality gate may decide on it."""
        return self.users >= limits.min_users and self.events >= limits.min_events


@dataclass(frozen=True)
class Lineage:
    """Where the training ended and the hold-out begins (log positions), and how many panel users were trained on."""

    trained_upto: int
    first_holdout: int
    panel_users_trained: int


def not_applicable(name: str, note: str) -> Gate:
    """A gate with nothing to compare with."""
    return Gate(name, None, None, "not_applicable", note)


def lost(name: str, why: str) -> Gate:
    """A gate whose comparison cannot be made any more, though it should be: undecided, for a caller to risk."""
    return Gate(name, None, None, "undecided", why)


def beats_popularity(gain: Interval, evidence: Evidence, limits: GateLimits) -> Gate:
    """The lower bound of the gain over popularity (absolute, paired, by user) is above its limit."""
    holds = gain.low > limits.popularity_gain
    lost = gain.high <= limits.popularity_gain
    unit = f"gain in {limits.metric} over popularity"
    leans = gain.value > limits.popularity_gain
    return _quality("beats_popularity", limits.popularity_gain, gain, (holds, lost, leans), evidence, limits, unit)


def not_worse_than_champion(change: Interval, evidence: Evidence, limits: GateLimits) -> Gate:
    """The lower bound of the relative change against the champion is not below its limit."""
    return _not_worse("not_worse_than_champion", "the champion", limits.champion_change, change, evidence, limits)


def not_worse_than_anchor(change: Interval, evidence: Evidence, limits: GateLimits) -> Gate:
    """The same against the first promoted model."""
    return _not_worse("not_worse_than_anchor", "the first champion", limits.anchor_change, change, evidence, limits)


def not_worse_than_elder(change: Interval, evidence: Evidence, limits: GateLimits) -> Gate:
    """The same against the champion of ten promotions ago."""
    return _not_worse("not_worse_than_elder", "an earlier champion", limits.elder_change, change, evidence, limits)


def no_harm(slice_name: str, found: Harm, limits: GateLimits) -> Gate:
    """A slice of users or items has not been shown to lose; whether it gains is not asked."""
    note = (
        f"relative change in {limits.metric} against the champion over {found.users} users and {found.events} events; "
        f"interval at Holm's level [{found.change.low:.4f}, {found.change.high:.4f}]"
    )
    verdict: Verdict = "fail" if found.is_harmed else "pass"
    change = found.change
    return Gate(f"no_harm_to_{slice_name}", limits.slice_change, change.value, verdict, note, change.low, change.high)


def no_harm_to_panel(change: Interval, users: int, limits: GateLimits) -> Gate:
    """The users whose events teach no model have not been shown to lose, at however many of them one looks."""
    return _of_panel("no_harm_to_panel", "users of the panel", limits.panel_change, change, users, limits)


def no_forgetting(change: Interval, users: int, limits: GateLimits) -> Gate:
    """The same on what the panel did before the hold-out, while the champion learned: older times are not forgotten."""
    whom = "users of the panel, on their events before the champion had learned"
    return _of_panel("no_forgetting", whom, limits.forgetting_change, change, users, limits)


def calibration(error: float, change: Interval | None, limits: GateLimits) -> Gate:
    """The chances that the network gives are about what comes true, or hardly further from it than the champion's.

    ``change`` is the error's difference to the champion's, None where there is none to compare with. Times change, and
    honest models are too sure of theirs: so neither a large error alone nor a small change of it fails.
    """
    note = "mean distance between the chance of the ten best, by the network, and the share that came true"
    if change is None:
        return Gate("calibration", limits.calibration_error, error, "not_applicable", f"{note}; no champion gives any")
    note += f"; more than the champion's by {change.value:.4f} [{change.low:.4f}, {change.high:.4f}]"
    lost = error > limits.calibration_error and change.low > limits.calibration_change
    verdict: Verdict = "fail" if lost or math.isnan(error) else "pass"
    return Gate("calibration", limits.calibration_error, error, verdict, note)


def off_policy_value(found: "ValueChange", limits: GateLimits) -> Gate:
    """What the champion showed has not been found to be worth more than what the challenger would have shown.

    A log that decides nothing blocks nobody: the note says why, and how many slates it would take.
    """
    name, left_out = "off_policy_value", "; ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
    note = f"{found.slates:,} slates of {found.users:,} users" + (f" (left out: {left_out})" if left_out else "")
    if found.reasons:
        return not_applicable(name, f"{note} do not decide: {'; '.join(found.reasons)}")
    change = found.change
    note = (
        f"centred reward that a slate's top {found.top} would have brought ({found.challenger.value:.4f}) less what it "
        f"did ({found.shown.value:.4f}), 95 % interval by user [{change.low:.4f}, {change.high:.4f}]; {note}, "
        f"worth {found.effective:.0f}"
    )
    verdict: Verdict = "fail" if change.high < limits.off_policy_change else "pass"
    return Gate(name, limits.off_policy_change, change.value, verdict, note, change.low, change.high)


def variety(name: str, measured: float, of_champion: float, limits: GateLimits) -> Gate:
    """The lists keep enough of the champion's diversity, or novelty; of one user's lists no more than the cap count."""
    limit = limits.variety_share * of_champion
    verdict: Verdict = "pass" if measured >= limit else "fail"
    return Gate(
        name, limit, measured, verdict, f"mean over the ten best of each group; the champion's {of_champion:.4f}"
    )


def memory(size: int, of_champion: int, limits: GateLimits) -> Gate:
    """The bundle is not many times the champion's."""
    ratio = size / max(of_champion, 1)
    verdict: Verdict = "pass" if ratio <= limits.memory_ratio else "fail"
    note = f"times the champion's bundle: {size / 1e6:.1f} MB against {of_champion / 1e6:.1f} MB"
    return Gate("memory", limits.memory_ratio, ratio, verdict, note)


def coverage(measured: float, of_champion: float | None, attainable: float, limits: GateLimits) -> Gate:
    """The top-10 lists show enough of the catalogue: an absolute floor, and a share of what the champion shows.

    ``attainable`` is what that many lists could show at most; below the limit they decide nothing. The one figure
    without ``user_cap``: an item is shown or is not, so no list can count for less, and of a small catalogue the lists
    that one account may have show more than the floor.
    """
    kept = 0.0 if of_champion is None else limits.coverage_share * of_champion
    limit = max(limits.coverage_floor, kept)
    note = "share of the catalogue in at least one top-10 list"
    if of_champion is not None:
        note += f"; the champion shows {of_champion:.4f}"
    verdict: Verdict = "pass" if measured >= limit else "fail"
    if attainable < limit:
        verdict, note = "undecided", f"{note}; so few lists could show {attainable:.4f} at most"
    return Gate("coverage", limit, measured, verdict, note)


def latency(model_ms: float, popularity_ms: float, limits: GateLimits) -> Gate:
    """The median answer takes at most so many times the popularity pipeline's, both measured in one run.

    Infinite milliseconds are those of a model that gives no answer.
    """
    ratio = model_ms / max(popularity_ms, 1e-9) if math.isfinite(model_ms) else math.inf
    note = f"times the popularity pipeline's median answer: {model_ms:.2f} ms against {popularity_ms:.2f} ms"
    return Gate("latency", limits.latency_ratio, ratio, "pass" if ratio <= limits.latency_ratio else "fail", note)


def not_slower_than_champion(model_ms: float, champion_ms: float, limits: GateLimits) -> Gate:
    """The median answer takes at most so many times the champion's, both measured in one run."""
    ratio = model_ms / max(champion_ms, 1e-9)
    note = f"times the champion's median answer: {model_ms:.2f} ms against {champion_ms:.2f} ms"
    verdict: Verdict = "pass" if ratio <= limits.latency_change else "fail"
    return Gate("not_slower_than_champion", limits.latency_change, ratio, verdict, note)


def data_contract(faults: Sequence[str]) -> Gate:
    """The bundle speaks of the same things as the training set; ``faults`` are sentences that say where it does not."""
    note = "; ".join(faults) or "events, features, rewards, items and their attributes are those that it learned from"
    return Gate("data_contract", 0.0, float(len(faults)), "fail" if faults else "pass", note)


def exploration(kept: float | None, limits: GateLimits) -> Gate:
    """What is drawn is worth enough of what could be shown."""
    if kept is None:
        return not_applicable("exploration", "nobody to draw for")
    note = "share of the best slate's worth, by the model's own scores, that the policy's slates keep"
    verdict: Verdict = "pass" if kept >= limits.worth_kept else "fail"
    return Gate("exploration", limits.worth_kept, kept, verdict, note)


def live_weight(weight: float, limits: GateLimits) -> Gate:
    """What no replay can judge may not decide the ranking."""
    verdict: Verdict = "pass" if weight <= limits.live_weight else "fail"
    note = "weight of the live item profile, which stands still while a hold-out is replayed"
    return Gate("live_weight", limits.live_weight, weight, verdict, note)


def parity(difference: float, limits: GateLimits) -> Gate:
    """The loaded bundle scores the golden inputs as the trained model did."""
    verdict: Verdict = "pass" if difference <= limits.parity else "fail"  # NaN fails
    return Gate("parity", limits.parity, difference, verdict, "largest difference to the golden scores of the training")


def lineage(found: Lineage) -> Gate:
    """Nothing of the hold-out was trained on, and no user of the panel."""
    note = f"last position trained on (the hold-out begins at {found.first_holdout})"
    clean = found.trained_upto < found.first_holdout
    if found.panel_users_trained:
        note += f"; {found.panel_users_trained} users of the panel were trained on"
        clean = False
    return Gate("lineage", float(found.first_holdout - 1), float(found.trained_upto), "pass" if clean else "fail", note)


def refused_by(gates: Iterable[Gate], accept_undecided: bool) -> list[Gate]:
    """The gates that keep a challenger out: those that failed, and undecided ones.

    A caller who takes the risk of undecided gates takes it only where the figure itself lies on the right side.
    """
    return [
        gate
        for gate in gates
        if gate.verdict == "fail" or (gate.verdict == "undecided" and (gate.adverse or not accept_undecided))
    ]


def accepts(gates: Iterable[Gate], accept_undecided: bool) -> bool:
    """Whether nothing keeps the challenger out and something speaks for it."""
    listed = list(gates)
    return any(gate.verdict == "pass" for gate in listed) and not refused_by(listed, accept_undecided)


def _of_panel(name: str, whom: str, limit: float, change: Interval, users: int, limits: GateLimits) -> Gate:
    """Fails when the whole confidence sequence is below the limit; wide as it is over few users, it seldom does."""
    note = (
        f"mean change a user in {limits.metric} against the champion's mean a user, over {users} {whom}; "
        f"confidence sequence [{change.low:.4f}, {change.high:.4f}]"
    )
    verdict: Verdict = "fail" if change.high < limit else "pass"
    return Gate(name, limit, change.value, verdict, note, change.low, change.high)


def _not_worse(name: str, other: str, limit: float, change: Interval, evidence: Evidence, limits: GateLimits) -> Gate:
    unit = f"relative change in {limits.metric} against {other}"
    sides = (change.low >= limit, change.high < limit, change.value >= limit)
    return _quality(name, limit, change, sides, evidence, limits, unit)


def _quality(
    name: str,
    limit: float,
    found: Interval,
    sides: tuple[bool, bool, bool],
    evidence: Evidence,
    limits: GateLimits,
    unit: str,
) -> Gate:
    """A gate on an interval: lost for certain fails always, the rest needs enough evidence.

    ``sides``: whether the whole interval is on the right side, whether the whole is on the wrong one, and whether
    the figure itself is on the right one.
    """
    holds, lost, leans = sides
    note = f"{unit}, 95 % interval by user [{found.low:.4f}, {found.high:.4f}]"
    verdict: Verdict = "pass" if holds else "fail"
    adverse = False
    if lost:
        verdict, note = "fail", f"{note}: the whole interval lies on the wrong side"
    elif not evidence.enough(limits):
        verdict, adverse = "undecided", not leans or evidence.users < limits.least_users
        note += (
            f"; {evidence.users} users and {evidence.events} events do not decide"
            f" (at least {limits.min_users} and {limits.min_events})"
        )
    return Gate(name, limit, found.value, verdict, note, found.low, found.high, adverse)
