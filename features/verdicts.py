"""What validation said of each batch of positions, kept as one JSON file a batch.

Training reads only positions that a passing verdict covers, without a gap from the first.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from attune.errors import DataContractError


@dataclass(frozen=True)
class Verdict:
    """The verdict on positions in (``after``, ``upto``]; ``broken`` says which critical expectations were."""

    after: int
    upto: int
    broken: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing critical was broken."""
        return not self.broken


class Verdicts:
    """The folder of verdicts; a batch that is judged again replaces its verdict."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record(self, verdict: Verdict) -> None:
        """Write a verdict; it appears whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{verdict.after:015d}-{verdict.upto:015d}.json"
        draft = path.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(json.dumps(vars(verdict), indent=1))
        draft.replace(path)

    def all(self) -> list[Verdict]:
        """Every verdict, in the order of the positions."""
        rows = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        return [Verdict(row["after"], row["upto"], tuple(row["broken"]), tuple(row["warnings"])) for row in rows]

    def passed_upto(self) -> int:
        """The last position that passing verdicts cover without a gap; 0 when none does."""
        reached = 0
        for verdict in self.all():
            if verdict.ok and verdict.after <= reached:
                reached = max(reached, verdict.upto)
        return reached

    def demand(self, upto: int) -> None:
        """Raises DataContractError unless everything up to ``upto`` has passed; names what was broken."""
        reached = self.passed_upto()
        if reached >= upto:
            return
        for verdict in self.all():
            if not verdict.ok and verdict.upto > reached:
                raise DataContractError(
                    f"training is stopped: positions {verdict.after + 1} to {verdict.upto} broke critical "
                    f"expectations ({'; '.join(verdict.broken)}); mend the source or the suite and validate again"
                )
        raise DataContractError(f"positions {reached + 1} to {upto} are not validated yet: run the flow `validate`")
