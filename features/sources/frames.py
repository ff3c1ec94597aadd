"""The rows that every source gives, as frames, and helpers that convert foreign columns.

A cell that cannot be read stays as it came, so that the row rules reject that one row with a reason; an absent cell is
None.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from attune.columns import Columns
from attune.row_rules import Rejection, one_spelling

INTERACTION_COLUMNS = (Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.EVENT_TIMESTAMP)
FIRST_MOMENT = 0
"""The time of rows of items and users that hold from now on: the same in every import, or nothing would repeat."""

OWN_IDS = (Columns.EVENT_ID, Columns.RETRACTS)
"""Columns that a source's interactions may have besides: the rows' own ids, and what a take-back takes back."""

Say = Callable[[str], None]
"""Told how a file was understood."""


@dataclass(frozen=True)
class Understanding:
    """How tables were understood.

    ``columns`` has attune's names with the files' columns, by type of event; ``kind`` is that of all rows where one
    was given or guessed; ``first_rows`` are the first interactions as they stood in the file.
    """

    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    kind: str | None = None
    first_rows: pd.DataFrame = field(default_factory=pd.DataFrame)


@dataclass(frozen=True)
class SourceFrames:
    """A source's rows, not yet checked.

    ``interactions`` has the ``INTERACTION_COLUMNS`` (object columns: str, float or None, int microseconds), and those
    of ``OWN_IDS`` that the source knows;
    ``items`` and ``users`` have their id and ``attributes`` (a mapping), and are empty when the source has none; items
    may have an ``event_timestamp``, since when the row holds. ``slates`` are lists that another system drew: event_id,
    user_id, event_timestamp, items (ids from the top) and propensities (a list of as many, or None); interactions with
    a ``slate_id`` are reactions to them.
    ``rejected`` holds what the reader turned away, by the type of event it would have been: lines that could not be
    split, values outside the scale. ``by_row``: the times are the rows' order, from 0 on; an import puts them after
    those that the log has already.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame = field(default_factory=lambda: entity_frame(Columns.ITEM_ID))
    users: pd.DataFrame = field(default_factory=lambda: entity_frame(Columns.USER_ID))
    rejected: Mapping[str, tuple[Rejection, ...]] = field(default_factory=dict)
    understanding: Understanding = field(default_factory=Understanding)
    by_row: bool = False
    slates: pd.DataFrame = field(default_factory=pd.DataFrame)


def entity_frame(
    id_column: str, ids: pd.Series | None = None, attributes: list[dict[str, Any]] | None = None
) -> pd.DataFrame:
    """A frame of items or users, by default an empty one."""
    columns = {id_column: [] if ids is None else ids.to_numpy(object), Columns.ATTRIBUTES: attributes or []}
    return pd.DataFrame(columns, dtype=object)


def absent_as_none(column: pd.Series) -> pd.Series:
    """The column as Python objects, every kind of null as None."""
    objects = column.astype(object)
    return objects.where(objects.notna(), None)


def ids(column: pd.Series) -> pd.Series:
    """Ids as text in their one spelling (``row_rules.one_spelling``), without blanks around them.

    An empty one is absent, a list or mapping stays what it is. 31.0 as a number is '31': nulls turn whole numbers into
    floats. Any other text stays as it is: '031' is not '31'.
    """
    return pd.Series([_id_text(raw) for raw in absent_as_none(column)], index=column.index, dtype=object)


def _id_text(raw: Any) -> Any:
    if raw is None or isinstance(raw, list | tuple | dict | np.ndarray):
        return raw.tolist() if isinstance(raw, np.ndarray) else raw
    if isinstance(raw, float | np.floating) and float(raw).is_integer():
        return str(int(raw))
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
    return one_spelling(text.strip()) or None


def numbers(column: pd.Series) -> pd.Series:
    """Values as floats; what is no number stays as it came, an absent one becomes None."""
    parsed = as_numbers(column)
    return with_rest(column, parsed.tolist(), parsed.notna().to_numpy(bool))


def as_numbers(column: pd.Series) -> pd.Series:
    """The column as float64, NaN where a cell is no number (a date, a truth value and a list are none)."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return pd.Series(column.to_numpy(np.float64, na_value=np.nan), index=column.index)
    objects = column.astype(object)
    readable = [isinstance(raw, str) or _is_plain_number(raw) for raw in objects]
    parsed = pd.to_numeric(objects.where(readable, None), errors="coerce").astype(np.float64)
    exact = parsed.tolist()
    for place, raw in enumerate(objects):
        try:  # as Python reads a text: pandas may miss the nearest float by the last digit
            exact[place] = float(raw) if isinstance(raw, str) else exact[place]
        except ValueError:
            continue
    return parsed.where(parsed.isna(), pd.Series(exact, index=column.index, dtype=np.float64))


def _is_plain_number(raw: Any) -> bool:
    if isinstance(raw, int | np.integer):
        return not isinstance(raw, bool) and abs(int(raw)) < 2**1000
    return isinstance(raw, float | np.floating | Decimal)


def with_rest(column: pd.Series, values: list[Any], understood: np.ndarray) -> pd.Series:
    """``values`` where they were understood, elsewhere the column's cells as they came; an absent cell is None."""
    chosen = np.empty(len(column), dtype=object)
    chosen[:] = values
    chosen[~understood] = absent_as_none(column[~understood]).to_numpy(object)
    return pd.Series(chosen, index=column.index, dtype=object)


def split_lists(column: pd.Series) -> pd.Series:
    """Words of one cell as lists: split at '|', else ';' or ','; at blanks where that is plainly meant.

    Blanks separate when few words make up many more distinct cells (the genres of MovieLens-100K), so that
    'Science Fiction' alone stays one word. Lists stay lists; an absent cell becomes an empty list.
    """
    objects = absent_as_none(column)
    texts = objects[[isinstance(raw, str) for raw in objects]]
    cells = set(texts)
    separator = next((mark for mark in ("|", ";", ",") if any(mark in cell for cell in cells)), "")
    words = {word for cell in cells for word in cell.split()}
    blanks_separate = len(words) <= 100 and len(cells) > 2 * len(words)
    pattern = re.escape(separator) if separator else (r"\s+" if blanks_separate else r"\Z")

    def split(raw: Any) -> list[str]:
        if isinstance(raw, list | tuple | np.ndarray):
            return [str(part) for part in raw if part is not None]
        return [] if raw is None else [word.strip() for word in re.split(pattern, str(raw)) if word.strip()]

    return objects.map(split)


def vectors(column: pd.Series) -> tuple[list[list[float] | None], dict[int, str], int] | None:
    """The cells of a column of vectors, what is wrong with some (by place), and the length that most have.

    None where it is no such column: one whose cells are mostly lists of numbers, not all of them whole. The cells of
    wrong ones are as they came, absent ones None.
    """
    cells = absent_as_none(column).tolist()
    present = [place for place, cell in enumerate(cells) if cell is not None]
    if not present or not isinstance(cells[present[0]], list | np.ndarray):
        return None
    arrays = {place: array for place in present if (array := _as_vector(cells[place])) is not None}
    with_fractions = any((np.isfinite(array) & (array % 1 != 0)).any() for array in arrays.values())
    if not with_fractions or 2 * len(arrays) <= len(present):
        return None
    length = Counter(map(len, arrays.values())).most_common(1)[0][0]
    wrong = {place: "it is no list of numbers" for place in present if place not in arrays}
    for place, array in arrays.items():
        if len(array) != length:
            wrong[place] = f"{len(array):,} numbers where most rows have {length:,}"
        elif not np.isfinite(array).all():
            wrong[place] = "not all are finite"
    values = [arrays[place].tolist() if place in arrays else cell for place, cell in enumerate(cells)]
    return values, wrong, length


def _as_vector(cell: Any) -> np.ndarray | None:
    """A list of numbers (nothing among them is NaN), None for anything else."""
    parts = cell.tolist() if isinstance(cell, np.ndarray) else cell
    is_vector = isinstance(parts, list) and all(part is None or type(part) in (int, float) for part in parts)
    return np.array(parts, np.float64) if is_vector else None


def plain(raw: Any) -> Any:
    """A cell as a plain Python value that the row rules and JSON take; what is neither number nor text becomes text."""
    if raw is None or isinstance(raw, str | bool | int):
        return raw
    if isinstance(raw, list | tuple | np.ndarray):
        return [plain(part) for part in raw]
    if isinstance(raw, np.generic):
        return plain(raw.item())
    if isinstance(raw, Decimal):
        return plain(float(raw))
    if isinstance(raw, float):
        if not np.isfinite(raw):
            return None
        return int(raw) if raw.is_integer() and abs(raw) < 2**53 else raw
    if isinstance(raw, dict):
        return json.dumps(raw, default=str, ensure_ascii=False)
    if isinstance(raw, bytes):
        return raw.decode(errors="replace")
    return raw.isoformat() if isinstance(raw, date) else str(raw)


def without_absent(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}
