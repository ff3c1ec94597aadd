"""Measures a challenger and those it is compared with on one hold-out, and holds it against the gates."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import perf_counter

from evaluation import gate as gates
from evaluation.calibration import curves
from evaluation.case import Replayed, earlier, replays
from evaluation.comparison import against_champion, calibrated, panel_users
from evaluation.data_contract import faults, no_numbers
from evaluation.exploration_worth import worth_kept
from evaluation.gate import Evidence, Gate, Lineage
from evaluation.intervals import Interval, interval, paired
from evaluation.latency import answer_ms, states_of
from evaluation.limits import GateLimits
from evaluation.offpolicy.value_change import ValueChange, change_of
from evaluation.report import Judgement
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.metrics import CUT, SLICES, Evaluation, coverage, rolling_hits, summary
from models.recommender import PopularityAlone, Served

COMPARED = ("ndcg@10", "hr@10")
RIVALS = {
    "champion": gates.not_worse_than_champion,
    "anchor": gates.not_worse_than_anchor,
    "elder": gates.not_worse_than_elder,
}
"""Who was champion now, first, and ten promotions ago, and the gate against each."""
NOBODY = {
    "champion": "nothing has been promoted before",
    "anchor": "nothing has been promoted before",
    "elder": "there have not been ten promotions since",
}
LATENCY_USERS, DRAWN_USERS = 25, 100


def judge_folders(
    challenger: Path,
    champion: Path | None,
    anchor: Path | None,
    training_set_folder: Path,
    accept_undecided: bool = False,
    limits: GateLimits | None = None,
    elder: Path | None = None,
    slates: Path | None = None,
    lost: Mapping[str, str] | None = None,
) -> Judgement:
    """``judge`` on the training set of a folder, on everything that all of the models left to the judgement."""
    training_set = TrainingSet.load(training_set_folder, with_traits=True)
    return judge(
        challenger,
        champion,
        anchor,
        training_set,
        limits=limits,
        accept_undecided=accept_undecided,
        elder_folder=elder,
        slates_folder=slates,
        lost=lost,
    )


def judge(
    challenger_folder: Path,
    champion_folder: Path | None,
    anchor_folder: Path | None,
    training_set: TrainingSet,
    after: int | None = None,
    upto: int | None = None,
    limits: GateLimits | None = None,
    accept_undecided: bool = False,
    elder_folder: Path | None = None,
    replayed: Replayed | None = None,
    slates_folder: Path | None = None,
    lost: Mapping[str, str] | None = None,
) -> Judgement:
    """Judge the bundle of a challenger on the events at positions in (after, upto].

    By default the hold-out begins where the last of the models declared it, and ends with the training set. What the
    challenger really learned from was measured apart, so the gate `lineage` can refuse it. Who judges many challengers
    on one hold-out hands over one mapping ``replayed`` each time: those they are compared with are replayed once, see
    ``evaluation.case``. ``slates_folder`` has what the champion showed (``features.logged_slates``): by it,
    too, the challenger is valued. ``lost`` says of an anchor or elder that there was why it cannot be compared with any
    more. Raises BundleError when a bundle is not whole.
    """
    limits = limits or GateLimits()
    bundles = _load(challenger=challenger_folder, champion=champion_folder, anchor=anchor_folder, elder=elder_folder)
    after = unlearned_after(bundles.values()) if after is None else after
    upto = int(training_set.positions.max()) if upto is None else upto
    began = perf_counter()
    compared = replays(bundles, training_set, after, upto, limits, replayed)
    older = earlier(bundles, training_set, after, limits.panel, replayed)
    seconds = perf_counter() - began
    challenger, found = bundles["challenger"], compared["challenger"]
    valued = None
    if slates_folder is not None:
        valued = change_of(bundles, slates_folder, training_set, after, limits.off_policy)
    answers = _answers_ms(bundles, training_set, after)
    panel = found.only(panel_users(training_set))
    return Judgement(
        gates=(
            *_quality(compared, lost or {}, limits),
            *against_champion(bundles, compared, older, training_set, after, limits),
            *_off_policy(bundles, valued, limits),
            _coverage(compared, limits),
            calibrated(compared, limits),
            *_latency(answers, limits),
            gates.exploration(_worth_kept(challenger, training_set, after), limits),
            gates.live_weight(challenger.hybrid.live, limits),
            gates.data_contract(faults(bundles, compared, training_set, after, limits)),
            gates.parity(challenger.golden_difference(), limits),
            gates.lineage(_lineage(challenger, training_set, after)),
        ),
        metrics=summary(found),
        baselines={name: summary(one) for name, one in compared.items() if name != "challenger"},
        panel=summary(panel),
        intervals=_intervals(compared, limits),
        hold_out=_hold_out(found, after, upto),
        cost={
            "replay_seconds": seconds,
            "score_ms_per_history": 1e3 * found.seconds / max(len(found.groups), 1),
            "answer_ms": answers["challenger"],
            "popularity_answer_ms": answers["popularity"],
            "bundle_mb": challenger.bytes / 1e6,
        },
        limits=limits,
        accept_undecided=accept_undecided,
        versions={name: bundle.digest for name, bundle in bundles.items()},
        rolling=rolling_hits(compared),
        off_policy=valued,
        calibration=curves(compared),
    )


def unlearned_after(bundles: Iterable[Bundle]) -> int:
    """The position after which everything was left to the judgement by all of the bundles, of which there is one.

    Whoever gathers anything for a judgement asks here, or it speaks of another window than the judgement does.
    """
    return max(bundle.holdout_after for bundle in bundles)


def _load(**folders: Path | None) -> dict[str, Bundle]:
    """The bundles by their part in the comparison; one folder in two parts is loaded once."""
    loaded: dict[Path, Bundle] = {}
    for folder in folders.values():
        if folder is not None and folder not in loaded:
            loaded[folder] = Bundle.load(folder)
    return {name: loaded[folder] for name, folder in folders.items() if folder is not None}


def _quality(compared: Mapping[str, Evaluation], lost: Mapping[str, str], limits: GateLimits) -> list[Gate]:
    """The gates on the metric: against popularity, the champion and the anchor."""
    challenger = compared["challenger"]
    gain = paired(challenger, compared["popularity"], limits.metric, cap=limits.user_cap)
    evidence = Evidence(gain.users, gain.rows)
    found = [gates.beats_popularity(gain.absolute, evidence, limits)]
    done: list[Evaluation] = []
    for name, gate in RIVALS.items():
        if name in lost:
            found.append(gates.lost(f"not_worse_than_{name}", lost[name]))
        elif name not in compared:
            found.append(gates.not_applicable(f"not_worse_than_{name}", NOBODY[name]))
        elif any(compared[name] is one for one in done):
            found.append(gates.not_applicable(f"not_worse_than_{name}", "it is one of those before"))
        else:
            done.append(compared[name])
            change = paired(challenger, compared[name], limits.metric, cap=limits.user_cap).relative
            found.append(gate(change, evidence, limits))
    return found


def _off_policy(bundles: Mapping[str, Bundle], valued: ValueChange | None, limits: GateLimits) -> list[Gate]:
    """The gate on what was shown; none where there is no champion that showed anything."""
    if "champion" not in bundles:
        return []
    if valued is None:
        return [gates.not_applicable("off_policy_value", "no logged slates were handed over")]
    return [gates.off_policy_value(valued, limits)]


def _coverage(compared: Mapping[str, Evaluation], limits: GateLimits) -> Gate:
    challenger, champion = compared["challenger"], compared.get("champion")
    attainable = min(CUT * len(challenger.groups) / max(challenger.catalogue_size, 1), 1.0)
    return gates.coverage(coverage(challenger), coverage(champion) if champion else None, attainable, limits)


def _answers_ms(bundles: Mapping[str, Bundle], training_set: TrainingSet, after: int) -> dict[str, float]:
    """The milliseconds of an answer: the challenger's, the champion's, and those of popularity alone.

    A challenger whose numbers are none gives no answer: infinite, as is then everybody's.
    """
    names = [name for name in ("challenger", "champion") if name in bundles]
    timed: list[Served] = [*(bundles[name] for name in names), PopularityAlone.of(bundles["challenger"])]
    names.append("popularity")
    if no_numbers(bundles["challenger"]):
        return dict.fromkeys(names, math.inf)
    states = states_of(training_set, after, LATENCY_USERS)
    return dict(zip(names, answer_ms(timed, states, int(training_set.times.max())), strict=True))


def _worth_kept(challenger: Bundle, training_set: TrainingSet, after: int) -> float | None:
    """What the challenger's policy keeps of its best slates; None for one whose numbers are none."""
    if no_numbers(challenger):
        return None
    return worth_kept(challenger, states_of(training_set, after, DRAWN_USERS), int(training_set.times.max()))


def _latency(answers: Mapping[str, float], limits: GateLimits) -> list[Gate]:
    """The gates on the time of an answer."""
    found = [gates.latency(answers["challenger"], answers["popularity"], limits)]
    if "champion" in answers:
        found.append(gates.not_slower_than_champion(answers["challenger"], answers["champion"], limits))
    return found


def _lineage(challenger: Bundle, training_set: TrainingSet, after: int) -> Lineage:
    later = training_set.positions[training_set.positions > after]
    first = int(later.min()) if len(later) else after + 1
    return Lineage(challenger.trained_upto, first, challenger.panel_users_trained)


def _intervals(compared: Mapping[str, Evaluation], limits: GateLimits) -> dict[str, dict[str, Interval]]:
    """The challenger's own figures, and its differences from those it is compared with (relative ones last).

    The former are those of ``metrics``; in the latter one user counts for at most the cap, as for the gates.
    """
    challenger = compared["challenger"]
    keys = [(metric, part, metric if part == "all" else f"{metric} {part}") for metric in COMPARED for part in SLICES]
    found = {"challenger": {key: interval(challenger, metric, part) for metric, part, key in keys}}
    for name in ("popularity", *RIVALS):
        if name in compared:
            pairs = {
                key: paired(challenger, compared[name], metric, part, cap=limits.user_cap) for metric, part, key in keys
            }
            found[f"against {name}"] = {key: pair.absolute for key, pair in pairs.items()}
            found[f"against {name}, relative"] = {key: pair.relative for key, pair in pairs.items()}
    return found


def _hold_out(found: Evaluation, after: int, upto: int) -> dict[str, int]:
    return {
        "after": after,
        "upto": upto,
        "events": len(found.events),
        "users": int(found.events["user_id"].nunique()) if len(found.events) else 0,
        "groups": len(found.groups),
        "repeated": found.repeated,
        "unmarked": found.unmarked,
        "unknown": found.unknown,
    }
