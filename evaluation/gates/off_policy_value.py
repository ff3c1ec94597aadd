"""Would the challenger's slates have been worth less than those that the champion showed?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.offpolicy.value_change import ValueChange


@dataclass(frozen=True)
class OffPolicyValue(Gate):
    """The champion's slates have not been shown to be worth more than the challenger's would have been.

    A log that decides nothing blocks nobody: the note says why, and how many slates it would take.
    """

    off_policy_change: float = -0.02
    """Absolute: two likes less in a hundred slates than what was shown brought. Below it the whole interval of the
    challenger's off-policy value may not lie, where the log decides."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        if case.champion is not None:
            value = case.value_change
            no_slates = not_applicable("off_policy_value", "no logged slates were handed over")
            yield no_slates if value is None else self.verdict(value)

    def verdict(self, value: ValueChange) -> Verdict:
        """Of the challenger's value on the slates that were shown."""
        name, left_out = "off_policy_value", "; ".join(f"{count:,} {why}" for why, count in value.left_out.items())
        note = f"{value.slates:,} slates of {value.users:,} users" + (f" (left out: {left_out})" if left_out else "")
        if value.reasons:
            return not_applicable(name, f"{note} do not decide: {'; '.join(value.reasons)}")
        change, limit = value.change, self.off_policy_change
        note = (
            f"centred reward that a slate's top {value.top} would have brought ({value.challenger.value:.4f}) less "
            f"what it did ({value.shown.value:.4f}), 95 % interval by user [{change.low:.4f}, {change.high:.4f}]; "
            f"{note}, worth {value.effective:.0f}"
        )
        return Verdict(name, limit, change.value, passes(not change.high < limit), note, change.low, change.high)
