"""Does the gain stay when the rows of each user are shuffled, where the order of a file stands for time?

A file that is sorted (by user, by release) is learned as if its order were time: who has learned it foretells the next
row of the file. The order is real where the gain stays, or where the import vouched for it.

Shuffled are users whose events taught the challenger nothing: the panel, and those who begin in the hold-out. Of others
it has learned the rows, in whatever order they come. All of their rows by order change places, so that the items of the
hold-out and those before it are a random part of what each did. Baselines are chosen and count anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from attune.clock import SHUFFLED
from evaluation.case import Case, Evidence
from evaluation.gate import Gate, Verdict, not_applicable, on_interval
from evaluation.hold_out import CachedHybrid
from evaluation.intervals import paired
from evaluation.replay import replay_together
from evaluation.simple_baselines import simple_baselines, strongest
from models.learning.dataset import TrainingSet, is_panel
from models.metrics import decisive
from models.network.sequence import torch_threads

ROW_ORDER = "row_order"


@dataclass(frozen=True)
class ShuffledRows(Gate):
    gain_kept: float = 0.25
    """The share of the gain over the best simple baseline that must stay."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        data = case.training_set
        by_row = (data.times >= 0) & (data.times < SHUFFLED)
        if case.orders_in_doubt and (by_row & (data.times > case.after)).any():
            yield self.verdict(case, by_row)

    def verdict(self, case: Case, by_row: np.ndarray) -> Verdict:
        data, limits = case.training_set, case.limits
        unlearned = is_panel(data.user_ids)
        unlearned[np.setdiff1d(np.arange(len(unlearned)), data.users[data.times <= case.after])] = True
        user_ids = set(data.user_ids[unlearned])
        challenger, baseline = (case.replays[name].only(user_ids) for name in ("challenger", "popularity"))
        gain = paired(challenger, baseline, limits.metric, case.part, limits.user_cap)
        sources = ", ".join(case.orders_in_doubt)
        cure = f"if the rows of {sources} are in the order of time, import them again with --order row --order-is-real"
        if not gain.absolute.value > 0.0:
            note = f"no gain over the best simple baseline among {gain.users} users who taught nothing; {cure}"
            return not_applicable(ROW_ORDER, note)
        shuffled = shuffled_rows(data, by_row & unlearned[data.users])
        window = shuffled.select(unlearned[shuffled.users]), case.after, case.upto
        with torch_threads(1):
            hybrid = CachedHybrid(case.challenger.hybrid)
            challenger = replay_together([hybrid], *window, case.challenger.catalogue)[0]
            baselines = simple_baselines(shuffled, case.after, limits.half_lives, limits.trends)
            baseline = strongest(baselines, *window, limits.metric)
        stays = paired(challenger, baseline, limits.metric, decisive(challenger), limits.user_cap)
        limit, left = self.gain_kept * gain.absolute.value, stays.absolute
        evidence = Evidence(stays.users, stays.rows, stays.effective, limits=limits, figure=case.figure)
        unit = (
            f"gain in {case.figure} over the best simple baseline ({baseline.name}) with each user's rows shuffled;"
            f" in the order of the file it is {gain.absolute.value:.4f}, of which {self.gain_kept:.0%} must stay"
        )
        sides = left.low >= limit, left.high < limit, left.value >= limit
        verdict = on_interval(ROW_ORDER, limit, left, sides, evidence, unit)
        return verdict if verdict.verdict == "pass" else replace(verdict, note=f"{verdict.note}; {cure}")


def shuffled_rows(data: TrainingSet, chosen: np.ndarray) -> TrainingSet:
    """The training set in which what each user did at the ``chosen`` rows (a mask) is in a random order."""
    rows = np.flatnonzero(chosen)
    chance = np.random.default_rng(0).random(len(rows))
    places, drawn = (rows[np.lexsort((order, data.users[rows]))] for order in (np.arange(len(rows)), chance))
    columns = {}
    for name in ("items", "kinds", "rewards", "item_stats_EF"):
        columns[name] = getattr(data, name).copy()
        columns[name][places] = getattr(data, name)[drawn]
    return replace(data, **columns)
