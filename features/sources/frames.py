"""What every source gives: rows for the door as frames, and helpers that turn foreign columns into door values.

A cell that cannot be understood is left as it came, so that the door turns that one row away with a reason;
an absent cell is None.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from attune.clock import SECOND
from attune.columns import Columns
from attune.errors import DataContractError

INTERACTION_COLUMNS = (Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.EVENT_TIMESTAMP)
UNITS = {"s": SECOND, "ms": 1_000, "us": 1}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that could not be split into the file's columns; it is counted and quarantined as it came."""

    line: str
    reason: str


@dataclass(frozen=True)
class SourceFrames:
    """A source's rows, not yet checked.

    ``interactions`` has the ``INTERACTION_COLUMNS`` (object columns: str, float or None, int microseconds);
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
    """Ids as text: 31 and 31.0 become '31' (nulls turn whole-number columns into floats), '031' stays as it is."""
    if pd.api.types.is_float_dtype(column):
        return _whole_floats(column)
    objects = absent_as_none(column)
    texts = objects.map(lambda raw: raw if raw is None or isinstance(raw, str) else _id_text(raw))
    present = texts.dropna()
    if len(present) and present.str.fullmatch(r"-?\d+\.0").all():
        return texts.map(lambda text: text if text is None else text[:-2])
    return texts


def _whole_floats(column: pd.Series) -> pd.Series:
    return absent_as_none(column).map(lambda raw: None if raw is None else _id_text(raw))


def _id_text(raw: Any) -> str:
    if isinstance(raw, float | np.floating) and float(raw).is_integer():
        return str(int(raw))
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def numbers(column: pd.Series) -> pd.Series:
    """Values as floats; what is no number stays as it came, an absent one becomes None."""
    parsed = pd.to_numeric(column, errors="coerce")
    return _keeping_the_rest(column, parsed.to_numpy(np.float64, na_value=np.nan).tolist(), parsed.notna())


def moments(column: pd.Series, unit: str | None = None) -> pd.Series:
    """Times as microseconds since the epoch: unix seconds, milliseconds or microseconds, ISO 8601, datetimes.

    ``unit`` is s, ms, us, or None to tell it from the median's size (which is safe from 1973 to 5138).
    What is no time stays as it came. Raises DataContractError for an unknown unit.
    """
    if unit is not None and unit not in UNITS:
        raise DataContractError(f"unit: {unit!r} is not one of {', '.join(UNITS)}", Columns.EVENT_TIMESTAMP)
    if pd.api.types.is_datetime64_any_dtype(column):
        return _datetimes(column, column)
    numeric = pd.to_numeric(column, errors="coerce") if not _holds_dates(column) else None
    if numeric is not None and (numeric.notna().any() or column.isna().all()):
        return _unix(column, numeric, unit)
    texts = column.astype("string").str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
    texts = texts.str.replace(r"^(\d{4})/(\d{1,2})/", r"\1-\2-", regex=True)
    return _datetimes(column, pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601"))


def _holds_dates(column: pd.Series) -> bool:
    first = next((raw for raw in column if raw is not None and raw == raw), None)
    return hasattr(first, "year")


def _unix(column: pd.Series, numeric: pd.Series, unit: str | None) -> pd.Series:
    floats = numeric.to_numpy(np.float64, na_value=np.nan)
    finite = np.isfinite(floats)
    factor = UNITS[unit] if unit else _factor(float(np.median(np.abs(floats[finite]))) if finite.any() else 0.0)
    if pd.api.types.is_integer_dtype(numeric.dtype) and finite.all():
        exact = [raw * int(factor) if factor >= 1 else raw // 1_000 for raw in map(int, numeric.tolist())]
        return pd.Series(exact, index=column.index, dtype=object)
    scaled = [round(raw * factor) for raw in np.where(finite, floats, 0.0).tolist()]
    return _keeping_the_rest(column, scaled, pd.Series(finite, index=column.index))


def _factor(median: float) -> float:
    if median < 1e11:
        return float(SECOND)
    if median < 1e14:
        return 1_000.0
    return 1.0 if median < 1e17 else 1e-3


def _datetimes(column: pd.Series, parsed: pd.Series) -> pd.Series:
    aware = parsed.dt.tz_localize("UTC") if parsed.dt.tz is None else parsed.dt.tz_convert("UTC")
    micros = aware.fillna(pd.Timestamp(0, tz="UTC")).dt.as_unit("us").astype("int64")
    return _keeping_the_rest(column, micros.tolist(), parsed.notna())


def _keeping_the_rest(column: pd.Series, values: list[Any], understood: pd.Series) -> pd.Series:
    rest = column.astype(object).to_numpy(copy=True)
    known = understood.to_numpy(bool)
    chosen = np.empty(len(column), dtype=object)
    chosen[:] = values
    chosen[~known] = rest[~known]
    return absent_as_none(pd.Series(chosen, index=column.index, dtype=object))


def split_lists(column: pd.Series) -> pd.Series:
    """Words of one cell as lists: split at '|', else ';' or ','; at blanks where that is plainly meant.

    Blanks separate when few words make up many more distinct cells (the genres of MovieLens-100K), so that
    'Science Fiction' alone stays one word. Lists stay lists; an absent cell becomes an empty list.
    """
    objects = absent_as_none(column)
    texts = objects[[isinstance(raw, str) for raw in objects]]
    separator = next(
        (mark for mark in ("|", ";", ",") if len(texts) and texts.str.contains(mark, regex=False).any()), ""
    )
    pattern = re.escape(separator) if separator else (r"\s+" if _blanks_separate(texts) else r"\Z")
    return objects.map(lambda raw: _words(raw, pattern))


def _blanks_separate(texts: pd.Series) -> bool:
    cells = set(texts)
    words = {word for cell in cells for word in cell.split()}
    return len(words) <= 100 and len(cells) > 2 * len(words)


def _words(raw: Any, pattern: str) -> list[str]:
    if raw is None:
        return []
    if isinstance(raw, list | tuple | np.ndarray):
        return [str(part) for part in raw if part is not None]
    return [word.strip() for word in re.split(pattern, str(raw)) if word.strip()]


def plain(raw: Any) -> Any:
    """A cell as a plain Python value that the door and JSON take; what is neither number nor text becomes text."""
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
