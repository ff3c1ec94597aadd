"""What a challenger would have brought on slates that were shown, against what they did bring."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.intervals import REPLICATES, Interval
from evaluation.offpolicy.estimate import OffPolicyLimits, distant, estimate, holds
from evaluation.offpolicy.estimators import bootstrap, effective, mean, rips
from evaluation.offpolicy.logged_policy import LoggedSlates
from evaluation.offpolicy.logs import SlateLog, counts_of
from models.figures import short


@dataclass(frozen=True)
class ValueChange:
    """Values are centred rewards summed over the ``top`` positions, a slate's mean; intervals of 95 %, by user.

    ``challenger`` is its value by RIPS, ``shown`` that of what was shown, ``change`` their difference. ``reasons`` say
    why it is not believed; without any it is decided. ``needed`` is how many slates like these would do, None where
    more of them mend nothing. ``effective`` is what the slates are worth. The last five are those of ``LoggedSlates``.
    """

    slates: int
    users: int
    top: int
    effective: float
    challenger: Interval
    shown: Interval
    change: Interval
    reasons: tuple[str, ...]
    needed: int | None
    left_out: Mapping[str, int]
    alike: int
    restated: int
    shortened: int
    feedback: Mapping[str, int]

    def rows(self) -> list[list[str]]:
        """For a table of a report: name, figure, low, high."""
        counts = {
            "slates": self.slates,
            "users": self.users,
            "positions from the top": self.top,
            "slates that these are worth": round(self.effective),
            "slates with the champion's scores alone": self.alike,
            "slates whose propensities its policy gives again": self.restated,
            "slates that count down to what was left of a budget": self.shortened,
            **{f"left out: {reason}": count for reason, count in self.left_out.items()},
            **{f"feedback in that time: {what}": count for what, count in self.feedback.items() if count},
        }
        values = {"shown": self.shown, "challenger": self.challenger, "change": self.change}
        return [
            *([name, *map(short, (value.value, value.low, value.high))] for name, value in values.items()),
            *([name, short(count), "", ""] for name, count in counts.items()),
        ]


def value_change(
    slates: LoggedSlates, limits: OffPolicyLimits | None = None, replicates: int = REPLICATES
) -> ValueChange:
    """The change by RIPS, over as many positions from the top as the slates are enough for, at least the first.

    The weights alone say how many those are, so no outcome chooses the number.
    """
    log, limits = slates.log, limits or OffPolicyLimits()
    if log is None:
        unknown = Interval(math.nan, -math.inf, math.inf)
        figures = (0, 0, 0, 0.0, unknown, unknown, unknown, ("there is no slate to judge by",), None)
        return ValueChange(*figures, slates.left_out, 0, 0, 0, slates.feedback)
    log = log.top(max(_reliable(log, limits, replicates), 1))
    answer = estimate(log, limits, replicates=replicates)
    value, diagnosis = answer.estimates["rips"], answer.diagnosis
    is_restated = slates.restated >= limits.restated * len(log)
    unlike = f"the champion's policy gives the propensities of {slates.restated} of {len(log)} slates again"
    shown = mean(log.filled_rewards_SK.sum(axis=1))
    counts_S = counts_of(log, limits.user_cap)
    drawn = bootstrap({"challenger": rips(log), "shown": shown}, log.users_S, replicates, counts_N=counts_S)
    return ValueChange(
        slates=len(log),
        users=diagnosis.users,
        top=log.rewards_SK.shape[1],
        effective=diagnosis.effective,
        challenger=value.interval,
        shown=drawn.interval("shown"),
        change=drawn.difference("challenger", "shown"),
        reasons=(*value.reasons, *(() if is_restated else (unlike,))),
        needed=value.rows_needed if is_restated else None,
        left_out=slates.left_out,
        alike=slates.alike,
        restated=slates.restated,
        shortened=slates.shortened,
        feedback=slates.feedback,
    )


def _reliable(log: SlateLog, limits: OffPolicyLimits, replicates: int) -> int:
    """Down to which position the slates are worth enough, and the champion takes enough of what the challenger does.

    It stops above the first position whose mean weight is not 1 by the interval that ``estimate`` gives a last
    position; further up that one is wider, of the same draws, so what is left is not refused for its weights.
    """
    counts_S, weights_KS = counts_of(log, limits.user_cap), log.prefixes_SK.T
    means = {str(k): mean(weights_S) for k, weights_S in enumerate(weights_KS)}
    drawn = bootstrap(means, log.users_S, replicates, counts_N=counts_S)
    for k, weights_S in enumerate(weights_KS):
        is_scarce = effective(counts_S * weights_S) < limits.effective
        is_one = holds(drawn.interval(str(k), 1 - (1 - limits.check_level) / (k + 1)), 1.0)
        if is_scarce or not is_one or distant(weights_S, counts_S) > limits.distant:
            return k
    return len(weights_KS)
