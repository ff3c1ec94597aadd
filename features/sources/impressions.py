"""Reads impression logs: who was shown which items, and which of them were clicked.

A row is one list. Each item of it becomes an interaction of the kind ``impression`` whose value is the position (from
1), each click one of the kind ``click``, at the list's time. Where a column has the propensities by which the list was
drawn, it becomes an imported slate besides, and its clicks are feedback to that. Labels, the examination curve and
off-policy estimates know imported slates apart from those that attune made.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd

from attune.columns import Columns
from attune.errors import DataContractError
from attune.imports import content_id
from attune.row_rules import Rejection
from features.sources import frames
from features.sources.delimited import Layout
from features.sources.frames import SourceFrames, Understanding
from features.sources.table_files import Paths, read_tables
from features.sources.tabular import FIRST_ROWS, Names, called, named_columns, parse_map, required_column
from features.sources.times import moments

SHOWN, CLICKED, PROPENSITIES = "shown", "clicked", "propensities"
COLUMNS = (Columns.USER_ID, Columns.EVENT_TIMESTAMP, SHOWN, CLICKED, PROPENSITIES)
IMPRESSION, CLICK = "impression", "click"

_BETWEEN = re.compile(r"[\s,;|\[\]'\"]+")
_MARKED = re.compile(r"(.+)-([01])")


def read(
    paths: Paths,
    mapping: Names = None,
    columns: str | None = None,
    unit: str | None = None,
    time_format: str | None = None,
    time_zone: str | None = None,
) -> SourceFrames:
    """The lists as impressions and clicks.

    ``mapping`` names the columns of ``COLUMNS``; ``shown`` holds the ids of a list from the top, as text ('N1 N2', with
    blanks, commas, semicolons or bars between) or as a list. ``clicked`` holds those that were clicked; without it each
    shown id ends in -1 (clicked) or -0, as in MIND. ``propensities`` holds as many numbers as there are ids, each the
    probability of the item given those above it; a list without any is a slate that judges no policy. ``columns`` names
    the columns of a file without a header, the times are read as by ``times.moments``. Rows without a user, a time or
    an item are turned away.
    Raises DataContractError for a missing file or column, and where nothing says what was clicked.
    """
    notes: list[str] = []
    named, path = parse_map(mapping), called(paths)
    for name in named:
        if name not in COLUMNS:
            raise DataContractError(f"map: {name!r} is not one of {', '.join(COLUMNS)}", name)
    option = "--columns impression_id,user_id,event_timestamp,history,shown"
    whole = read_tables(paths, Layout(columns, mapped=named.values(), known=COLUMNS, option=option))
    table, taken = whole.frame, named_columns(whole.frame, named, COLUMNS, path)
    user_column, time_column, shown_column = (required_column(table, taken, name, path) for name in COLUMNS[:3])
    lists = pd.DataFrame({
        Columns.USER_ID: whole.ids(user_column),
        Columns.EVENT_TIMESTAMP: moments(table[time_column], unit, time_format, time_zone, notes.append),
        SHOWN: _lists(table[shown_column]),
    })  # fmt: skip
    sound = _is_sound(lists)
    reason = "row: the user, the time or what was shown is absent or not understood"
    rejected = [*whole.rejected, *(Rejection(0, row, None, reason) for row in table[~sound].to_dict("records"))]
    lists = lists[sound]
    of_lists = {name: table.loc[sound, column] for name, column in taken.items()}
    shown, clicks = _shown_and_clicked(lists[SHOWN], of_lists.get(CLICKED), path)
    slates = pd.DataFrame()
    if PROPENSITIES in taken:
        slates = _slates(lists, shown[Columns.ITEM_ID], of_lists[PROPENSITIES])
        clicks[Columns.SLATE_ID] = slates[Columns.EVENT_ID].reindex(clicks.index)
    both = pd.concat([shown.assign(kind=IMPRESSION), clicks.assign(kind=CLICK)]).sort_index(kind="stable")
    both = both.join(lists.drop(columns=SHOWN))
    names = [*frames.INTERACTION_COLUMNS, *([Columns.SLATE_ID] if PROPENSITIES in taken else [])]
    notes.append(f"{len(lists):,} lists, {len(shown):,} impressions, {len(clicks):,} clicks")
    notes.append(_about_slates(slates))
    if unused := [str(name) for name in table.columns if name not in taken.values()]:
        notes.append(f"left out: {', '.join(unused)}")
    return SourceFrames(
        both[names].apply(frames.absent_as_none).reset_index(drop=True),
        rejected={"interaction": tuple(rejected)},
        understanding=Understanding({"interaction": taken}, tuple(notes), None, table.head(FIRST_ROWS)),
        slates=slates,
    )


def _is_sound(lists: pd.DataFrame) -> pd.Series:
    """Which of the lists have a user, a time and an item."""
    has_time, has_items = lists[Columns.EVENT_TIMESTAMP].map(type).eq(int), lists[SHOWN].map(len).gt(0)
    return lists[Columns.USER_ID].notna() & has_time & has_items


def _about_slates(slates: pd.DataFrame) -> str:
    if PROPENSITIES not in slates:
        return "no column of propensities: they are no slates, and no off-policy estimate uses them"
    absent = int(slates[PROPENSITIES].isna().sum())
    return f"{len(slates):,} imported slates; {absent:,} without propensities, which no off-policy estimate uses"


def _shown_and_clicked(
    shown: pd.Series, clicked: pd.Series | None, path: Path | str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each shown item, with its position, and for each click; the index is that of their list."""
    items = shown.explode()
    rows = pd.DataFrame({Columns.ITEM_ID: items, Columns.VALUE: items.groupby(level=0).cumcount() + 1.0})
    if clicked is not None:
        clicks = pd.DataFrame({Columns.ITEM_ID: _lists(clicked).explode().dropna()})
    else:
        marked = items.str.extract(_MARKED)
        if marked[0].isna().any():
            raise DataContractError(
                f"clicked: {path} does not say what was clicked: name a column of the clicked ids (clicked=...), or "
                f"let each shown id end in -1 or -0; {items[marked[0].isna()].iloc[0]!r} does not"
            )
        rows[Columns.ITEM_ID] = marked[0]
        clicks = rows.loc[marked[1] == "1", [Columns.ITEM_ID]]
    for part in (rows, clicks):
        part[Columns.ITEM_ID] = frames.ids(part[Columns.ITEM_ID])
    return rows, clicks


def _slates(lists: pd.DataFrame, items: pd.Series, propensities: pd.Series) -> pd.DataFrame:
    """The lists as ``SourceFrames.slates``; a propensity that is no number stays as it came."""

    words = _lists(propensities).explode()
    slates = lists.drop(columns=SHOWN).assign(
        items=items.groupby(level=0).agg(list), propensities=frames.numbers(words).groupby(level=0).agg(list)
    )
    slates[PROPENSITIES] = slates[PROPENSITIES].where(words.notna().groupby(level=0).any(), None)
    contents = slates.astype(str).agg("\x1f".join, axis=1)
    ids = map(content_id, "slate\x1f" + contents, contents.groupby(contents).cumcount())
    return slates.assign(**{Columns.EVENT_ID: list(ids)})


def _lists(column: pd.Series) -> pd.Series:
    """The ids of each cell, in their order; an absent cell is an empty list."""

    def ids(raw: object) -> list[str]:
        if isinstance(raw, list | tuple | np.ndarray):
            return [str(part).strip() for part in raw if part is not None]
        return [] if raw is None else [part for part in _BETWEEN.split(str(raw)) if part]

    return frames.absent_as_none(column).map(ids)
