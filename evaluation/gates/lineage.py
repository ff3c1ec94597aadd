"""Was anything of the hold-out trained on, or a user of the panel?"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from attune.clock import ORDER_ONLY, SECOND, SHUFFLED, shown_time
from evaluation.case import Case
from evaluation.gate import Gate, Verdict, passes


@dataclass(frozen=True)
class Lineage(Gate):
    def __call__(self, case: Case) -> Iterator[Verdict]:
        data, challenger = case.training_set, case.challenger
        later = data.times[data.times > case.after]
        first = int(later.min()) if len(later) else case.after + 1
        learned = data.moment(challenger.trained_upto, challenger.trained_upto_time)
        verdict = self.verdict(learned, first, challenger.panel_users_trained)
        yield replace(verdict, note=verdict.note + without_times(later))

    def verdict(self, trained_upto: int, first_holdout: int, panel_users: int) -> Verdict:
        seconds = (first_holdout - trained_upto) / SECOND
        note = (
            f"seconds from the latest event trained on ({shown_time(trained_upto)}) to the first of the hold-out"
            f" ({shown_time(first_holdout)}), more than 0"
        )
        if panel_users:
            note += f"; {panel_users} users of the panel were trained on"
        return Verdict("lineage", 0.0, seconds, passes(seconds > 0.0 and not panel_users), note)


def without_times(times: np.ndarray) -> str:
    """What stands for the times of the hold-out's events where an import had none (``features.sources.row_order``)."""
    by_row, shuffled = ((times >= low) & (times < high) for low, high in ((0, SHUFFLED), (SHUFFLED, ORDER_ONLY)))
    notes = {
        "the order of the rows stands for it, as the import measured or was told": by_row,
        "they are random events of every user, since no order is believed": shuffled,
    }
    return "".join(
        f"; {is_one.sum():,} of {len(times):,} events have no time: {note}"
        for note, is_one in notes.items()
        if is_one.any()
    )
