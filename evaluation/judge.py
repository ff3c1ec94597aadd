"""Holds a case against the gates: judging is a loop over ``GATES``."""

from collections.abc import Callable

from evaluation.case import RIVALS, Case, CaseLimits
from evaluation.gate import Gate, GateLimits, Verdict
from evaluation.gates.calibration import Calibration, curves
from evaluation.gates.coverage import Coverage
from evaluation.gates.data_contract import DataContract
from evaluation.gates.dislikes import Dislikes
from evaluation.gates.exploration import Exploration
from evaluation.gates.latency import Latency
from evaluation.gates.lineage import Lineage
from evaluation.gates.live_weight import LiveWeight
from evaluation.gates.memory import Memory
from evaluation.gates.off_policy_value import OffPolicyValue
from evaluation.gates.panel import Panel
from evaluation.gates.parity import Parity
from evaluation.gates.popularity import BeatsPopularity
from evaluation.gates.rivals import Rivals
from evaluation.gates.shuffled_rows import ShuffledRows
from evaluation.gates.slices import Slices
from evaluation.gates.variety import Variety
from evaluation.intervals import Interval, interval
from evaluation.report import Judgement
from models.metrics import SLICES, rolling_hits, summary

GATES: tuple[Gate, ...] = (
    BeatsPopularity(),
    ShuffledRows(),
    Rivals(),
    Dislikes(),
    Slices(),
    Panel(),
    Variety(),
    Memory(),
    OffPolicyValue(),
    Coverage(),
    Calibration(),
    Latency(),
    Exploration(),
    LiveWeight(),
    DataContract(),
    Parity(),
    Lineage(),
)
"""Every gate, in the order of a report. A new one is a file in ``evaluation/gates`` and a line here."""

LIMITS_VERSION = 10
"""Raised with any change of a limit, and recorded with each judgement."""

COMPARED = ("ndcg@10", "hr@10")


def gate_limits(limits: CaseLimits | None = None) -> GateLimits:
    """Every limit of a judgement, those of the case being the usual ones unless others are given."""
    return GateLimits(LIMITS_VERSION, limits or CaseLimits(), GATES)


def judge(
    case: Case, accept_undecided: bool = False, on_progress: Callable[[float], None] = lambda share: None
) -> Judgement:
    """The verdicts of all gates on a case, and the figures that they rest on.

    ``on_progress`` is told the share of the gates that is done; what several need is computed for the first of them.
    """
    verdicts: list[Verdict] = []
    for number, gate in enumerate(GATES, 1):
        verdicts += gate(case)
        on_progress(number / len(GATES))
    replays, milliseconds = case.replays, case.answer_ms
    challenger = replays["challenger"]
    return Judgement(
        verdicts=tuple(verdicts),
        metrics=summary(challenger),
        baselines={name: summary(replay) for name, replay in replays.items() if name != "challenger"},
        panel=summary(challenger.only(case.panel_users)),
        intervals=_intervals(case),
        hold_out={
            "after_time": case.after,
            "upto_time": case.upto,
            "late": case.late,
            "events": len(challenger.events),
            "users": int(challenger.events["user_id"].nunique()) if len(challenger.events) else 0,
            "groups": len(challenger.groups),
            "repeated": challenger.repeated,
            "unmarked": challenger.unmarked,
            "unknown": challenger.unknown,
        },
        cost={
            "replay_seconds": sum(case.replay_seconds),
            "score_ms_per_history": 1e3 * challenger.seconds / max(len(challenger.groups), 1),
            "answer_ms": milliseconds["challenger"],
            "popularity_answer_ms": milliseconds["popularity"],
            "bundle_mb": case.challenger.bytes / 1e6,
        },
        limits=gate_limits(case.limits),
        accept_undecided=accept_undecided,
        versions={name: bundle.digest for name, bundle in case.bundles.items()},
        rolling=rolling_hits(replays),
        off_policy=case.value_change,
        calibration=curves(replays),
        part=case.part,
    )


def _intervals(case: Case) -> dict[str, dict[str, Interval]]:
    """The challenger's own figures, and its differences from others, where one user counts for at most the cap."""
    keys = [(metric, part, metric if part == "all" else f"{metric} {part}") for metric in COMPARED for part in SLICES]
    challenger = case.replays["challenger"]
    intervals = {"challenger": {key: interval(challenger, metric, part) for metric, part, key in keys}}
    for name in ("popularity", *RIVALS):
        if name in case.replays:
            pairs = {key: case.paired(name, metric, part) for metric, part, key in keys}
            intervals[f"against {name}"] = {key: pair.absolute for key, pair in pairs.items()}
            intervals[f"against {name}, relative"] = {key: pair.relative for key, pair in pairs.items()}
    return intervals
