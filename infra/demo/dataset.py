"""The real events of the demo and the two cuts in time that divide them.

Events up to cut A are imported; those from A to B arrive over HTTP; those after B are imported later, and judge.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from attune.clock import to_iso
from attune.columns import Columns
from features.importer import in_order
from features.sources import movielens
from features.sources.frames import SourceFrames

CUT_A, CUT_B = 0.8, 0.9


@dataclass(frozen=True)
class Dataset:
    """The source, its rows in the order of time with their event ids, and the cuts as row numbers."""

    frames: SourceFrames
    rows: pd.DataFrame
    cut_a: int
    cut_b: int

    @staticmethod
    def movielens() -> "Dataset":
        """MovieLens, 100,004 ratings; the cuts do not part events of one user at one moment."""
        frames = movielens.read()
        rows = in_order(frames)
        return Dataset(frames, rows, _between_moments(rows, CUT_A), _between_moments(rows, CUT_B))

    def events(self, first: int, last: int) -> list[dict[str, Any]]:
        """Rows [first, last) as the HTTP API takes them."""
        columns = [Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.EVENT_ID]
        part = self.rows.iloc[first:last]
        events = part[columns].to_dict("records")
        for event, moment in zip(events, part[Columns.EVENT_TIMESTAMP], strict=True):
            event[Columns.EVENT_TIMESTAMP] = to_iso(int(moment))
        return events

    def user_and_control(self) -> tuple[str, str]:
        """The two latest users with 30 to 80 events before cut A."""
        before = self.rows.iloc[: self.cut_a].groupby(Columns.USER_ID)[Columns.EVENT_TIMESTAMP].agg(["size", "max"])
        fitting = before[before["size"].between(30, 80)].sort_values("max")
        return str(fitting.index[-1]), str(fitting.index[-2])


def _between_moments(rows: pd.DataFrame, share: float) -> int:
    """The first row number from ``share`` on that starts another moment than the row before it."""
    moments = rows[Columns.EVENT_TIMESTAMP].to_numpy()
    cut = int(len(rows) * share)
    while cut < len(rows) and moments[cut] == moments[cut - 1]:
        cut += 1
    return cut
