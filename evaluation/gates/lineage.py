"""Was anything of the hold-out trained on, or a user of the panel?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Verdict, passes


@dataclass(frozen=True)
class Lineage(Gate):
    def __call__(self, case: Case) -> Iterator[Verdict]:
        later = case.training_set.positions[case.training_set.positions > case.after]
        first = int(later.min()) if len(later) else case.after + 1
        yield self.verdict(case.challenger.trained_upto, first, case.challenger.panel_users_trained)

    def verdict(self, trained_upto: int, first_holdout: int, panel_users: int) -> Verdict:
        note = f"last position trained on (the hold-out begins at {first_holdout})"
        if panel_users:
            note += f"; {panel_users} users of the panel were trained on"
        clean = trained_upto < first_holdout and not panel_users
        return Verdict("lineage", float(first_holdout - 1), float(trained_upto), passes(clean), note, at_most=True)
