"""The rows that every source gives, as frames, and helpers that convert foreign columns.

A cell that cannot be read stays as it came, so that the row rules reject that one row with a reason; an absent cell is
None.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from attune.clock import SECOND
from attune.columns import Columns
from attune.errors import DataContractError

INTERACTION_COLUMNS = (Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.EVENT_TIMESTAMP)
OWN_IDS = (Columns.EVENT_ID, Columns.RETRACTS)
"""Columns that a source's interactions may have besides: the rows' own ids, and what a take-back takes back."""

UNITS = {"s": SECOND, "ms": 1_000, "us": 1}
LIMIT = 2.0**62
"""Microseconds beyond which nothing is a time."""

CALENDAR = (1900_01_01, 2100_12_31)
"""Numbers that may be dates as YYYYMMDD."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that could not be split into columns, for quarantine; ``rule`` is the reason without its particulars."""

    line: str
    reason: str
    rule: str


@dataclass(frozen=True)
class SourceFrames:
    """A source's rows, not yet checked.

    ``interactions`` has the ``INTERACTION_COLUMNS`` (object columns: str, float or None, int microseconds), and those
    of ``OWN_IDS`` that the source knows;
    ``items`` and ``users`` have their id and ``attributes`` (a mapping), and are empty when the source has none.
    ``unreadable`` holds the lines that could not be split, by the type of event they would have been.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    users: pd.DataFrame
    unreadable: Mapping[str, tuple[Unreadable, ...]] = field(default_factory=dict)


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
    """Ids as text without blanks around them; an empty one is absent, a list or mapping stays what it is.

    A whole float becomes '31': 31.0 as a number in any column (nulls turn whole numbers into floats), '31.0' as text
    where the column came as floats, which is where every cell that looks like a number ends in '.0'. Any other
    text stays as it is: '031', or '1.0' beside '1'.
    """
    texts = [_id_text(raw) for raw in absent_as_none(column)]
    ends = {text for text in texts if isinstance(text, str) and text.endswith(".0") and _NUMBER.fullmatch(text)}
    if ends and all(text in ends or not _NUMBER.fullmatch(text) for text in {t for t in texts if isinstance(t, str)}):
        texts = [text[:-2] if isinstance(text, str) and text in ends else text for text in texts]
    return pd.Series(texts, index=column.index, dtype=object)


def _id_text(raw: Any) -> Any:
    if isinstance(raw, str):
        return raw.strip() or None
    if raw is None or isinstance(raw, list | tuple | dict | np.ndarray):
        return raw.tolist() if isinstance(raw, np.ndarray) else raw
    if isinstance(raw, float | np.floating) and float(raw).is_integer():
        return str(int(raw))
    return (raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)).strip() or None


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


def plain(raw: Any) -> Any:
    """A cell as a plain Python value that the row rules and JSON take; what is neither number nor text becomes text."""
    if raw is None or isinstance(raw, str | bool | int):
        return raw
    if isinstance(raw, list | tuple | np.ndarray):
        return [plain(part) for part in raw]
    if isinstance(raw, np.generic):
        return plain(raw.item())
    if isinstance(raw, float):
        if not np.isfinite(raw):
            return None
        return int(raw) if raw.is_integer() and abs(raw) < 2**53 else raw
    return str(raw)


def without_absent(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


def moments(column: pd.Series, unit: str | None = None) -> pd.Series:
    """Times as microseconds since the epoch: unix seconds, milliseconds or microseconds, ISO 8601, datetimes.

    A column has one form, the one that most of its cells have: numbers or dates. A cell of the other form is no
    time and stays as it came, as text. ``unit`` is s, ms, us, or None to tell it from the median's size (which is safe
    from 1973 to 5138); without it, a column of nothing but calendar dates of eight digits (20240131) is read as dates.
    Raises DataContractError for an unknown unit.
    """
    if unit is not None and unit not in UNITS:
        raise DataContractError(f"unit: {unit!r} is not one of {', '.join(UNITS)}", Columns.EVENT_TIMESTAMP)
    if pd.api.types.is_datetime64_any_dtype(column):
        return _from_datetimes(column, column)
    numeric = as_numbers(column)
    are_numbers, present = numeric.notna(), column.notna()
    if 2 * are_numbers.sum() <= present.sum():
        texts = column.where(~are_numbers, None).astype(object).map(str, na_action="ignore").astype("string")
        texts = texts.str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
        texts = texts.str.replace(r"^(\d{4})/(\d{1,2})/", r"\1-\2-", regex=True)
        parsed = pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601")
        if parsed.notna().sum() >= are_numbers.sum():
            return _from_datetimes(column, parsed)
    days = numeric[are_numbers]
    if unit is None and len(days) and days.between(*CALENDAR).all() and (days % 1 == 0).all():
        dates = pd.to_datetime(days.astype("int64").astype(str), errors="coerce", utc=True, format="%Y%m%d")
        if dates.notna().all():
            return _from_datetimes(column, dates.reindex(column.index))
    return _from_unix(column, numeric, unit)


def _from_unix(column: pd.Series, numeric: pd.Series, unit: str | None) -> pd.Series:
    if pd.api.types.is_integer_dtype(column.dtype) and column.notna().all():  # exact: without a detour through floats
        factor = _factor(column.to_numpy(np.float64), unit)
        exact = [whole * int(factor) if factor >= 1 else whole // 1_000 for whole in map(int, column.tolist())]
        return pd.Series(exact, index=column.index, dtype=object)
    floats = numeric.to_numpy(np.float64)
    with np.errstate(over="ignore"):
        scaled = np.rint(floats * _factor(floats[np.isfinite(floats)], unit))
    understood = np.abs(scaled) < LIMIT
    return _no_other_wholes(column, np.where(understood, scaled, 0.0).astype(np.int64).tolist(), understood)


def _factor(floats: np.ndarray, unit: str | None) -> float:
    """Microseconds in one unit."""
    if unit is not None:
        return float(UNITS[unit])
    median = float(np.median(np.abs(floats))) if len(floats) else 0.0
    if median < 1e11:
        return float(SECOND)
    if median < 1e14:
        return 1_000.0
    return 1.0 if median < 1e17 else 1e-3


def _from_datetimes(column: pd.Series, parsed: pd.Series) -> pd.Series:
    aware = parsed.dt.tz_localize("UTC") if parsed.dt.tz is None else parsed.dt.tz_convert("UTC")
    micros = aware.fillna(pd.Timestamp(0, tz="UTC")).dt.as_unit("us").astype("int64")
    return _no_other_wholes(column, micros.tolist(), parsed.notna().to_numpy(bool))


def _no_other_wholes(column: pd.Series, values: list[int], understood: np.ndarray) -> pd.Series:
    """What was not understood as it came, but whole numbers as text: they would pass for microseconds."""
    kept = with_rest(column, values, understood)
    for place in np.flatnonzero(~understood):
        raw: Any = kept.iat[place]
        if isinstance(raw, int | np.integer):
            kept.iat[place] = str(raw)
    return kept
