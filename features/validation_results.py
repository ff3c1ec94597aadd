"""What validation found in each batch of positions, kept as one JSON file a batch.

Batches may overlap: the newest result on a position is the one that holds. Training reads only positions whose
result passed, without a gap from the first.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import pairwise
from pathlib import Path

import msgspec

from attune.errors import DataContractError
from attune.files import locked, write_whole

WARNINGS_KEPT = 20


@dataclass(frozen=True)
class ValidationResult:
    """The result on positions in (``after``, ``upto``]; ``broken`` names the critical expectations that failed.

    ``number`` is its place in the order of validation, from 1: ``ValidationResults.record`` gives it.
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


class ValidationResults:
    """The folder of results; a batch that is validated again replaces its result."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, result: ValidationResult) -> ValidationResult:
        """Write a result as the newest of all, and return it with its number; it appears whole or not at all."""
        with locked(self.folder / ".lock"):
            numbered = replace(result, number=1 + max((earlier.number for earlier in self.all()), default=0))
            write_whole(self._path(result), json.dumps(vars(numbered), indent=1))
        return numbered

    def _path(self, result: ValidationResult) -> Path:
        return self.folder / f"{result.after:015d}-{result.upto:015d}.json"

    def all(self) -> list[ValidationResult]:
        """Every result, in the order of the positions."""
        decode = msgspec.json.Decoder(ValidationResult).decode
        return [decode(path.read_bytes()) for path in sorted(self.folder.glob("*.json"))]

    def standing(self) -> Iterator[tuple[int, int, ValidationResult | None]]:
        """(after, upto, the result that holds there or None), stretch after stretch from position 1, without gaps."""
        waiting = sorted(self.all(), key=lambda result: result.after, reverse=True)
        edges = sorted({0} | {edge for result in waiting for edge in (result.after, result.upto)})
        newest: list[tuple[int, int, ValidationResult]] = []
        for after, upto in pairwise(edges):
            while waiting and waiting[-1].after <= after:
                result = waiting.pop()
                heappush(newest, (-result.number, result.upto, result))
            while newest and newest[0][1] <= after:
                heappop(newest)
            yield after, upto, newest[0][2] if newest else None

    def passed_upto(self) -> int:
        """The last position up to which the newest result on every one passed; 0 when that is none."""
        reached = 0
        for _, upto, result in self.standing():
            if result is None or not result.ok:
                break
            reached = upto
        return reached

    def join(self) -> int:
        """Put one result in place of all that lie in the stretch that passed; how many went.

        The one that stands for them is written first, as the newest: a killed call leaves the same standing.
        """
        reached = self.passed_upto()
        inside = [result for result in self.all() if result.upto <= reached]
        if len(inside) < 2:
            return 0
        warnings = tuple(dict.fromkeys(warning for result in inside for warning in result.warnings))[:WARNINGS_KEPT]
        whole = self.record(ValidationResult(0, reached, (), warnings))
        gone = {self._path(result) for result in inside} - {self._path(whole)}
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def demand(self, upto: int) -> None:
        """Raises DataContractError unless everything up to ``upto`` has passed; names what was broken."""
        reached = self.passed_upto()
        if reached >= upto:
            return
        for after, _, result in self.standing():
            if after >= reached and result is not None and not result.ok:
                raise DataContractError(
                    f"training is stopped: positions {result.after + 1} to {result.upto} broke critical "
                    f"expectations ({'; '.join(result.broken)}); mend the source or the suite and validate again"
                )
        raise DataContractError(f"positions {reached + 1} to {upto} are not validated yet: run the flow `validate`")
