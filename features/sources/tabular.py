"""Reads anyone's tables: files, and a map from attune's column names to theirs."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attune.clock import SECOND
from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_types import KINDS
from features.sources import frames
from features.sources.frames import INTERACTION_COLUMNS, OWN_IDS, SourceFrames, Unreadable
from features.sources.table_files import read_table

ITEM_COLUMNS = (Columns.ITEM_ID, Columns.TITLE, Columns.YEAR, Columns.GENRES, Columns.TEXT)
USER_COLUMNS = (Columns.USER_ID,)
"""Further names in the maps of items and users are attributes under that name."""

Names = Mapping[str, str] | str | None


def read(
    interactions: Path,
    items: Path | None = None,
    users: Path | None = None,
    mapping: Names = None,
    items_map: Names = None,
    users_map: Names = None,
    kind: str | None = None,
    kinds: Names = None,
    order: str | None = None,
    scale: str | tuple[float, float] | None = None,
    unit: str | None = None,
) -> SourceFrames:
    """The files as frames.

    ``mapping`` names the files' columns ('user_id=uid,item_id=iid', or a dict); a column of attune's own name needs no
    entry. Rows with an ``event_id`` keep it. ``kind`` is every row's kind; ``kinds`` renames kinds ('addtocart=cart',
    '1=view' whether 1 is text or a number). ``order='row'`` gives row n the time epoch + n seconds. ``scale`` ('1,10')
    maps that range of ratings to 1..5. ``unit`` is the unit of unix times (s, ms, us; by default inferred from their
    size).
    Items keep title, year, genres and text by name, and every other column as an attribute; so do users. Their maps
    may rename attributes ('price=cost'); a column whose name the map gives to another one is left out.
    Raises DataContractError for a missing file, no table, or a map that names what is not there.
    """
    table, unreadable = read_table(Path(interactions))
    named, known = parse_map(mapping), (*INTERACTION_COLUMNS, *OWN_IDS)
    for name in named:
        if name not in known:
            raise DataContractError(f"map: {name!r} is no column of attune{_nearest(name, known)}", name)
    columns = _columns(table, named, known, Path(interactions))
    own_ids = {name: frames.ids(table[columns[name]]) for name in OWN_IDS if name in columns}
    behaviour = pd.DataFrame(
        {
            Columns.USER_ID: frames.ids(_required(table, columns, Columns.USER_ID, interactions)),
            Columns.ITEM_ID: frames.ids(_required(table, columns, Columns.ITEM_ID, interactions)),
            Columns.KIND: _kind(table, columns, kind, parse_map(kinds), Path(interactions)),
            Columns.VALUE: _value(table, columns, scale),
            Columns.EVENT_TIMESTAMP: _moments(table, columns, order, unit, Path(interactions)),
            **own_ids,
        },
        dtype=object,
    )
    item_rows, broken_items = _entities(items, parse_map(items_map), Columns.ITEM_ID, ITEM_COLUMNS)
    user_rows, broken_users = _entities(users, parse_map(users_map), Columns.USER_ID, USER_COLUMNS)
    broken = {"interaction": tuple(unreadable), "item": tuple(broken_items), "user": tuple(broken_users)}
    return SourceFrames(behaviour, item_rows, user_rows, broken)


def parse_map(names: Names) -> dict[str, str]:
    """'user_id=uid,item_id=iid' as a mapping; raises DataContractError for a part without '='."""
    if not isinstance(names, str):
        return dict(names or {})
    pairs = [part.split("=", 1) for part in names.split(",") if part.strip()]
    if broken := [pair[0] for pair in pairs if len(pair) != 2 or not all(part.strip() for part in pair)]:
        raise DataContractError(f"map: {broken[0]!r} is not of the form NAME=COLUMN")
    return {name.strip(): column.strip() for name, column in pairs}


def _columns(table: pd.DataFrame, named: dict[str, str], known: Collection[str], path: Path) -> dict[str, str]:
    """Canonical name -> the file's column, for all that the map names and all that need no naming."""
    have = [str(column) for column in table.columns]
    for name, column in named.items():
        if column not in have:
            raise DataContractError(f"map: {path} has no column {column!r}{_nearest(column, have)}", name)
    free = set(have) - {column for name, column in named.items() if name not in OWN_IDS}
    return {name: name for name in known if name in (free if name in OWN_IDS else have)} | named


def _nearest(name: str, have: Collection[str]) -> str:
    close = get_close_matches(name, have, n=1, cutoff=0.5)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{meant}; there are {', '.join(have)}"


def _required(table: pd.DataFrame, columns: dict[str, str], name: str, path: Path) -> pd.Series:
    if name not in columns:
        have = ", ".join(map(str, table.columns))
        raise DataContractError(f"{name}: {path} has no such column; name it in the map ({name}=...): {have}", name)
    return table[columns[name]]


def _kind(
    table: pd.DataFrame, columns: dict[str, str], constant: str | None, renamed: dict[str, str], path: Path
) -> pd.Series:
    for name in [constant, *renamed.values()]:
        if name is not None and name not in KINDS:
            raise DataContractError(f"kind: {name!r} is unknown{_nearest(name, list(KINDS))}", Columns.KIND)
    if constant is not None:
        return pd.Series([constant] * len(table), index=table.index, dtype=object)
    if Columns.KIND not in columns:
        raise DataContractError(
            f"kind: {path} says nowhere what its rows are; name a column (kind=...) or give one kind for all, "
            f"of {', '.join(KINDS)}",
            Columns.KIND,
        )
    texts = frames.ids(table[columns[Columns.KIND]])
    return texts.map(lambda raw: renamed.get(raw, raw) if isinstance(raw, str) else raw)


def _value(table: pd.DataFrame, columns: dict[str, str], scale: str | tuple[float, float] | None) -> pd.Series:
    if Columns.VALUE not in columns:
        return pd.Series([None] * len(table), index=table.index, dtype=object)
    values = frames.numbers(table[columns[Columns.VALUE]])
    if scale is None:
        return values
    try:
        low, high = map(float, scale.split(",") if isinstance(scale, str) else scale)
    except ValueError as error:
        raise DataContractError(f"scale: {scale!r} is not of the form LOW,HIGH") from error
    if not low < high:
        raise DataContractError(f"scale: {low:g} is not below {high:g}")
    return values.map(lambda raw: 1.0 + 4.0 * (raw - low) / (high - low) if isinstance(raw, float) else raw)


def _moments(
    table: pd.DataFrame, columns: dict[str, str], order: str | None, unit: str | None, path: Path
) -> pd.Series:
    if order not in (None, "row"):
        raise DataContractError(f"order: {order!r} is unknown; 'row' takes the rows' order for their time")
    if order == "row":
        return pd.Series((np.arange(len(table), dtype=np.int64) * SECOND).tolist(), index=table.index, dtype=object)
    if Columns.EVENT_TIMESTAMP not in columns:
        raise DataContractError(
            f"event_timestamp: {path} has no such column; name it in the map (event_timestamp=...), or say that "
            f"the rows stand in the order of time (order row): {', '.join(map(str, table.columns))}",
            Columns.EVENT_TIMESTAMP,
        )
    return frames.moments(table[columns[Columns.EVENT_TIMESTAMP]], unit)


def _entities(
    path: Path | None, named: dict[str, str], id_column: str, known: Collection[str]
) -> tuple[pd.DataFrame, list[Unreadable]]:
    if path is None:
        return frames.entity_frame(id_column), []
    for name in named:
        if not name.isidentifier():
            raise DataContractError(f"map: {name!r} is no name for an attribute (letters, digits and _)", name)
    table, unreadable = read_table(Path(path))
    columns = _columns(table, named, known, Path(path))
    identifiers = frames.ids(_required(table, columns, id_column, Path(path)))
    attribute_columns = {name: column for name, column in columns.items() if name != id_column}
    taken = set(columns) | set(columns.values())
    attribute_columns |= {column: column for column in map(str, table.columns) if column not in taken}
    cells: dict[str, list[Any]] = {}
    for name, column in attribute_columns.items():
        if name == Columns.GENRES:
            cells[name] = frames.split_lists(table[column]).tolist()
        else:
            convert = frames.numbers if name == Columns.YEAR else frames.absent_as_none
            cells[name] = [frames.plain(raw) for raw in convert(table[column])]
    rows = zip(*cells.values(), strict=True) if cells else [()] * len(table)
    attributes = [frames.without_absent(dict(zip(cells, row, strict=True))) for row in rows]
    return frames.entity_frame(id_column, identifiers, attributes), unreadable
