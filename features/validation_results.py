"""What validation said of each batch of positions, kept as one JSON file a batch.

Batches may overlap: the newest verdict on a position is the one that holds. Training reads only positions whose
verdict passed, without a gap from the first.
"""

import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path

from attune.errors import DataContractError
from attune.files import write_whole

WARNINGS_KEPT = 20


@dataclass(frozen=True)
class Verdict:
    """The verdict on positions in (``after``, ``upto``]; ``broken`` says which critical expectations were.

    ``number`` is its place in the order of judging, from 1: ``Verdicts.record`` gives it.
    """

    after: int
    upto: int
    broken: tuple[str, ...]
    warnings: tuple[str, ...]
    number: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing critical was broken."""
        return not self.broken


class Verdicts:
    """The folder of verdicts; a batch that is judged again replaces its verdict."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, verdict: Verdict) -> Verdict:
        """Write a verdict as the newest of all, and return it with its number; it appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            numbered = replace(verdict, number=1 + max((one.number for one in self.all()), default=0))
            write_whole(self._path(verdict), json.dumps(vars(numbered), indent=1))
        return numbered

    def _path(self, verdict: Verdict) -> Path:
        return self.folder / f"{verdict.after:015d}-{verdict.upto:015d}.json"

    def all(self) -> list[Verdict]:
        """Every verdict, in the order of the positions."""
        rows = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        return [
            Verdict(row["after"], row["upto"], tuple(row["broken"]), tuple(row["warnings"]), row["number"])
            for row in rows
        ]

    def standing(self) -> Iterator[tuple[int, int, Verdict | None]]:
        """(after, upto, the verdict that holds there or None), stretch after stretch from position 1, without gaps."""
        waiting = sorted(self.all(), key=lambda one: one.after, reverse=True)
        edges = sorted({0} | {edge for one in waiting for edge in (one.after, one.upto)})
        newest: list[tuple[int, int, Verdict]] = []
        for after, upto in pairwise(edges):
            while waiting and waiting[-1].after <= after:
                verdict = waiting.pop()
                heappush(newest, (-verdict.number, verdict.upto, verdict))
            while newest and newest[0][1] <= after:
                heappop(newest)
            yield after, upto, newest[0][2] if newest else None

    def passed_upto(self) -> int:
        """The last position up to which the newest verdict on every one passed; 0 when that is none."""
        reached = 0
        for _, upto, verdict in self.standing():
            if verdict is None or not verdict.ok:
                break
            reached = upto
        return reached

    def join(self) -> int:
        """Put one verdict in place of all that lie in the stretch that passed; how many went.

        The one that stands for them is written first, as the newest: a killed call leaves the same standing.
        """
        reached = self.passed_upto()
        inside = [one for one in self.all() if one.upto <= reached]
        if len(inside) < 2:
            return 0
        warnings = tuple(dict.fromkeys(warning for one in inside for warning in one.warnings))[:WARNINGS_KEPT]
        whole = self.record(Verdict(0, reached, (), warnings))
        gone = [one for one in inside if (one.after, one.upto) != (whole.after, whole.upto)]
        for one in gone:
            self._path(one).unlink(missing_ok=True)
        return len(gone)

    def demand(self, upto: int) -> None:
        """Raises DataContractError unless everything up to ``upto`` has passed; names what was broken."""
        reached = self.passed_upto()
        if reached >= upto:
            return
        for after, _, verdict in self.standing():
            if after >= reached and verdict is not None and not verdict.ok:
                raise DataContractError(
                    f"training is stopped: positions {verdict.after + 1} to {verdict.upto} broke critical "
                    f"expectations ({'; '.join(verdict.broken)}); mend the source or the suite and validate again"
                )
        raise DataContractError(f"positions {reached + 1} to {upto} are not validated yet: run the flow `validate`")
