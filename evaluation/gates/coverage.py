"""Do the top-10 lists show enough of the catalogue?"""

from collections.abc import Iterator
from dataclasses import dataclass

from evaluation.case import Case
from evaluation.gate import Gate, Outcome, Verdict, passes
from models.metrics import CUT, coverage


@dataclass(frozen=True)
class Coverage(Gate):
    """An absolute floor, and a share of what the champion shows.

    It has no cap on what a user counts for: an item is shown or is not, so no list can count for less.
    """

    coverage_floor: float = 0.005
    """Absolute: the share of the catalogue that at least one top-10 list must show."""
    coverage_share: float = 0.5
    """Relative: the share of the champion's coverage that must be kept."""

    def __call__(self, case: Case) -> Iterator[Verdict]:
        challenger, champion = case.replays["challenger"], case.replays.get("champion")
        attainable = min(CUT * len(challenger.groups) / max(challenger.catalogue_size, 1), 1.0)
        yield self.verdict(coverage(challenger), coverage(champion) if champion else None, attainable)

    def verdict(self, measured: float, of_champion: float | None, attainable: float) -> Verdict:
        """``attainable`` is what that many lists could show at most; below the limit they decide nothing."""
        limit = max(self.coverage_floor, 0.0 if of_champion is None else self.coverage_share * of_champion)
        note = "share of the catalogue in at least one top-10 list"
        if of_champion is not None:
            note += f"; the champion shows {of_champion:.4f}"
        outcome: Outcome = passes(measured >= limit)
        if attainable < limit:
            outcome, note = "undecided", f"{note}; so few lists could show {attainable:.4f} at most"
        return Verdict("coverage", limit, measured, outcome, note)
