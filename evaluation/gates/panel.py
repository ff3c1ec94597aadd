"""Do the users whose events teach no model lose, on the hold-out or on what they did before the champion learned?"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from evaluation.case import Case, CaseLimits
from evaluation.gate import Gate, Verdict, not_applicable, passes
from evaluation.intervals import Interval, confidence_sequence
from models.metrics import SLICE_WORDS, Evaluation, decisive, values


@dataclass(frozen=True)
class PanelLimits:
    """How the users whose events teach no model are listened to."""

    level: float = 0.95
    """Of the confidence sequence."""
    narrowest: int = 500
    """Users at which the sequence is tuned to be narrow; it holds at every number."""
    least_users: int = 50
    """Fewer give no interval: the theorem speaks of many."""
    earlier: int = 5_000
    """About so many moments before the hold-out say whether something was forgotten: as many of each user, the latest
    ones. A user's mean counts once, so that more users tell more than more moments."""


@dataclass(frozen=True)
class Panel(Gate):
    """No whole confidence sequence of the panel lies below its limit: wide over few users, it seldom does."""

    panel_change: float = -0.02
    """Relative: below it the panel's confidence sequence may not lie, at however many users a version is judged."""
    forgetting_change: float = -0.1
    """Relative: the same on what the panel did before the champion had learned. Wider, because a model that follows the
    times is a little worse at those that are over: an honest fine-tune of the demo's by 7 %."""
    panel: PanelLimits = field(default_factory=PanelLimits)

    def __call__(self, case: Case) -> Iterator[Verdict]:
        if case.champion is None:
            return
        challenger, champion = (case.replays[name].only(case.panel_users) for name in ("challenger", "champion"))
        yield self.verdict("no_harm_to_panel", challenger, champion, case.limits)
        yield self.verdict("no_forgetting", *case.panel_replays(self.panel.earlier), case.limits)

    def verdict(self, name: str, challenger: Evaluation, champion: Evaluation, limits: CaseLimits) -> Verdict:
        part = decisive(challenger)
        change = self.change(challenger.of(part), champion.of(part), limits.metric)
        if isinstance(change, str):
            return not_applicable(name, change)
        return self.of_change(name, *change, f"{limits.metric} over {SLICE_WORDS[part]}")

    def of_change(self, name: str, change: Interval, users: int, figure: str) -> Verdict:
        limit, whom = self.panel_change, "users of the panel"
        if name == "no_forgetting":
            limit, whom = self.forgetting_change, f"{whom}, on their events before the champion had learned"
        note = (
            f"mean change a user in {figure} against the champion's mean a user, over {users} {whom}; "
            f"confidence sequence [{change.low:.4f}, {change.high:.4f}]"
        )
        return Verdict(name, limit, change.value, passes(not change.high < limit), note, change.low, change.high)

    def change(self, challenger: Evaluation, champion: Evaluation, metric: str) -> tuple[Interval, int] | str:
        """The mean change a user, relative to the champion's mean (taken as known), and the users; or why not."""
        user_E, ours_E = values(challenger, metric)
        theirs_E = values(champion, metric)[1]
        users, place_E = np.unique(user_E.astype(str), return_inverse=True)
        ours_U, theirs_U = (np.bincount(place_E, value_E) / np.bincount(place_E) for value_E in (ours_E, theirs_E))
        if not theirs_U.any():
            return "the champion hits nothing of the panel's"
        limits, scale = self.panel, float(theirs_U.mean())
        mean = confidence_sequence(ours_U - theirs_U, limits.level, limits.narrowest, limits.least_users)
        if not np.isfinite(mean.low):
            return f"{len(users)} users of the panel say nothing yet"
        return Interval(mean.value / scale, mean.low / scale, mean.high / scale), len(users)
