"""Times of any usual form as microseconds since the epoch."""

from typing import Any

import numpy as np
import pandas as pd

from attune.clock import SECOND
from attune.columns import Columns
from attune.errors import DataContractError
from features.sources.frames import as_numbers, with_rest

UNITS = {"s": SECOND, "ms": 1_000, "us": 1}
LIMIT = 2.0**62
"""Microseconds beyond which nothing is a time."""

CALENDAR = (1900_01_01, 2100_12_31)


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
        parsed = _dates(column.where(~are_numbers, None))
        if parsed.notna().sum() >= are_numbers.sum():
            return _from_datetimes(column, parsed)
    calendar = _calendar(numeric[are_numbers]) if unit is None else None
    if calendar is not None:
        return _from_datetimes(column, calendar.reindex(column.index))
    return _from_unix(column, numeric, unit)


def _dates(column: pd.Series) -> pd.Series:
    texts = column.astype(object).map(str, na_action="ignore").astype("string")
    texts = texts.str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
    texts = texts.str.replace(r"^(\d{4})/(\d{1,2})/", r"\1-\2-", regex=True)
    return pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601")


def _calendar(numeric: pd.Series) -> pd.Series | None:
    """The dates, when every number is one as YYYYMMDD."""
    if not len(numeric) or not numeric.between(*CALENDAR).all() or (numeric % 1 != 0).any():
        return None
    dates = pd.to_datetime(numeric.astype("int64").astype(str), errors="coerce", utc=True, format="%Y%m%d")
    return dates if dates.notna().all() else None


def _from_unix(column: pd.Series, numeric: pd.Series, unit: str | None) -> pd.Series:
    if pd.api.types.is_integer_dtype(column.dtype) and column.notna().all():
        return _exact(column, unit)
    floats = numeric.to_numpy(np.float64)
    with np.errstate(over="ignore"):
        scaled = np.rint(floats * _factor(floats[np.isfinite(floats)], unit))
    understood = np.abs(scaled) < LIMIT
    return _no_other_wholes(column, np.where(understood, scaled, 0.0).astype(np.int64).tolist(), understood)


def _exact(column: pd.Series, unit: str | None) -> pd.Series:
    """Whole numbers without a detour through floats."""
    factor = _factor(column.to_numpy(np.float64), unit)
    wholes = map(int, column.tolist())
    exact = [whole * int(factor) if factor >= 1 else whole // 1_000 for whole in wholes]
    return pd.Series(exact, index=column.index, dtype=object)


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
