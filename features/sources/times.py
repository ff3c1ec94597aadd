"""Times of any form as microseconds since the epoch, UTC: unix times, calendar dates, ISO 8601, texts, datetimes."""

import re
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from attune.clock import DAY, SECOND, system_clock, to_datetime
from attune.columns import Columns
from attune.errors import DataContractError, did_you_mean
from features.sources.frames import Say, as_numbers, ids, with_rest

UNITS = {"s": SECOND, "ms": 1_000, "us": 1, "ns": 1e-3, "d": DAY, "excel": DAY}
"""Microseconds in a unit. ``d`` are days since 1970, ``excel`` days as Excel counts them."""

GUESSED = ("s", "ms", "us", "ns")
EXCEL_1970 = 25_569
"""1970-01-01 as Excel counts days."""

FIRST = 7_305 * DAY
"""1990-01-01: a guess of the unit may give nothing earlier."""

LIMIT = 2.0**62
"""Microseconds beyond which nothing is a time."""

CALENDARS = {"%Y%m%d": (1900_01_01, 2100_12_31), "%Y%m%d%H%M%S": (1900_01_01_00_00_00, 2100_12_31_23_59_59)}
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
FORMATS = (
    "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z",
    *(day + clock for day in ("%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%m %d, %Y", "%d.%m.%Y",
                              "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y") for clock in CLOCKS),
)  # fmt: skip
"""Forms of text other than ISO 8601, the first as Twitter writes it; two that both fit are told apart by the user."""

FORMAT_SAMPLE = 10_000
AWARE = r":\d{2}(?:[.,]\d+)?\s*(?:Z|[+-]\d{2}(?::?\d{2})?)$"


def moments(
    column: pd.Series,
    unit: str | None = None,
    form: str | None = None,
    zone: str | None = None,
    say: Say = lambda text: None,
) -> pd.Series:
    """Times as microseconds since the epoch.

    A column has one form, the one that most of its cells have: numbers or dates. A cell of the other form is no
    time and stays as it came, as text. ``unit`` is one of ``UNITS``, by default the one that puts the median between
    1990 and now; without it, a column of nothing but calendar dates (20240131, 20240131235959) is read as dates.
    ``form`` is the form of texts as strptime has it, the year in front where they have none (2014%m%d); ``zone`` is
    the zone (Europe/Berlin) of times that name none, by default UTC: an hour that daylight saving doubles is the first,
    one that it skips moves on. Where the unit was guessed or a form given, what lies before 1990 is no time. ``say`` is
    told how the column was understood.
    Raises DataContractError for an unknown unit or zone, and where the form is not certain.
    """
    if unit is not None and unit not in UNITS:
        raise _refused(f"unit: {unit!r} is not one of {', '.join(UNITS)}")
    if zone is not None and zone not in available_timezones():
        raise _refused(f"time zone: {zone!r} is unknown{did_you_mean(zone, available_timezones())}")
    if pd.api.types.is_datetime64_any_dtype(column):
        return _from_datetimes(column, column, zone, say)
    if form is not None:
        texts = ids(column)
        if year := re.match(r"(19|20)\d\d(?=.)", form):
            days = texts.str.zfill(4) if form[4:] == "%m%d" else texts  # 111 is 0111 where numbers lost their zero
            texts, form = year[0] + days, "%Y" + form[4:]
        if not re.search("%[YyGcxDsv]|ISO8601", form):
            raise _refused(f"time format: {form!r} has no year; write it in front: --time-format 2014{form}")
        parsed = _formatted(texts, form)
        if texts.notna().any() and not parsed.notna().any():
            raise _refused(f"event_timestamp: {texts.dropna().iloc[0]!r} is not of the form {form!r}")
        early = parsed < pd.Timestamp(FIRST, unit="us", tz=parsed.dt.tz)
        if early.any():
            say(f"event_timestamp: {early.sum():,} times lie before 1990 and are turned away; write them as 1985-12-31")
            parsed = parsed.mask(early)
        return _from_datetimes(column, parsed, zone, say)
    numeric = as_numbers(column)
    are_numbers, present = numeric.notna(), column.notna()
    if 2 * are_numbers.sum() <= present.sum():
        parsed, naive = _dates(column.where(~are_numbers, None), say)
        if parsed.notna().sum() >= are_numbers.sum():
            return _from_datetimes(column, parsed, zone, say, naive)
    if unit is None and (calendar := _calendar(numeric[are_numbers])) is not None:
        return _from_datetimes(column, calendar.reindex(column.index), zone, say)
    return _from_numbers(column, numeric, unit, zone, say)


def _refused(message: str) -> DataContractError:
    return DataContractError(message, Columns.EVENT_TIMESTAMP)


def _dates(column: pd.Series, say: Say) -> tuple[pd.Series, pd.Series]:
    """The dates as UTC, and which of them named no zone."""
    texts = column.astype(object).map(str, na_action="ignore").astype("string").str.strip()
    iso = texts.str.replace(r"\s*(UTC|GMT)$", "Z", regex=True)
    iso = iso.str.replace(r"(:\d{2}),(\d)", r"\1.\2", regex=True)
    iso = iso.str.replace(r"^(\d{4})/(\d{1,2})/", r"\1-\2-", regex=True)
    texts = texts.str.replace(r"\s+(UTC|GMT)$", " +0000", regex=True)
    parsed = pd.to_datetime(iso, errors="coerce", utc=True, format="ISO8601")
    if 2 * parsed.notna().sum() >= texts.notna().sum():
        return parsed, ~iso.str.contains(AWARE, regex=True).fillna(False).astype(bool)
    sample = texts.dropna().drop_duplicates().head(FORMAT_SAMPLE)
    fits = {form: int(_formatted(sample, form).notna().sum()) for form in FORMATS}
    most = max(fits.values())
    if 2 * most < len(sample) or most <= int(parsed.notna().sum()):
        return parsed, pd.Series(True, index=column.index)
    best = [form for form, count in fits.items() if count == most]
    if any(not _formatted(sample, form).equals(_formatted(sample, best[0])) for form in best[1:]):
        options = " or ".join(f"--time-format '{form}'" for form in best)
        raise _refused(f"event_timestamp: {sample.iloc[0]!r} can be read in two ways; say which: {options}")
    say(f"event_timestamp: times of the form {best[0]!r}")
    parsed = _formatted(texts, best[0])
    return parsed, pd.Series("%z" not in best[0], index=column.index)


def _formatted(texts: pd.Series, form: str) -> pd.Series:
    """Texts of the form as UTC where it has a zone, else naive; NaT where one does not fit."""
    try:
        return pd.to_datetime(texts, errors="coerce", utc="%z" in form, format=form)
    except ValueError as error:
        raise _refused(f"time format: {form!r} is none that strptime knows ({error})") from error


def _calendar(numeric: pd.Series) -> pd.Series | None:
    """The dates, when every number is one as YYYYMMDD, with or without the time of day."""
    for form, bounds in CALENDARS.items():
        if len(numeric) and numeric.between(*bounds).all() and not (numeric % 1).any():
            dates = pd.to_datetime(numeric.astype("int64").astype(str), errors="coerce", format=form)
            return dates if dates.notna().all() else None
    return None


def _from_numbers(column: pd.Series, numeric: pd.Series, unit: str | None, zone: str | None, say: Say) -> pd.Series:
    floats = numeric.to_numpy(np.float64)
    finite = floats[np.isfinite(floats)]
    earliest = -LIMIT
    if unit is None and len(finite):
        unit, earliest = _guess(finite), FIRST
        say(f"event_timestamp: numbers in {unit} since 1970, the median {to_datetime(_micros(finite, unit)):%Y-%m-%d}")
    factor = UNITS[unit or "s"]
    with np.errstate(over="ignore"):
        scaled = np.rint((floats - (EXCEL_1970 if unit == "excel" else 0)) * factor)
    understood = (earliest <= scaled) & (scaled < LIMIT)
    if too_early := int(((scaled < earliest) & (earliest == FIRST)).sum()):
        say(f"event_timestamp: {too_early:,} times lie before 1990 and are turned away; --unit {unit} takes them all")
    if pd.api.types.is_integer_dtype(column.dtype) and understood.all() and unit in GUESSED:
        exact = [whole * int(factor) if factor >= 1 else whole // 1_000 for whole in map(int, column.tolist())]
        return pd.Series(exact, index=column.index, dtype=object)  # without a detour through floats
    micros = np.where(understood, scaled, 0.0).astype(np.int64)
    if unit in GUESSED or zone is None:
        return _no_other_wholes(column, micros.tolist(), understood)
    days = pd.Series(micros.astype("datetime64[us]"), index=column.index).where(understood)
    return _from_datetimes(column, days, zone, say)


def _micros(floats: np.ndarray, unit: str) -> int:
    return int(np.clip(np.median(floats) * UNITS[unit], -LIMIT / 100, LIMIT / 100))


def _guess(floats: np.ndarray) -> str:
    """The unit that puts the median between 1990 and now; raises DataContractError where none does."""
    now = system_clock()
    for unit in GUESSED:
        if FIRST <= _micros(floats, unit) <= now + DAY:
            return unit
    median = float(np.median(floats))
    if 1900 <= median <= 2100 and not (floats % 1).any():
        meaning = "these look like years: --time-format %Y"
    elif floats.min() >= 101 and floats.max() <= 1231:
        meaning = "if these are months and days, name their year: --time-format 2014%m%d"
    elif FIRST <= median * DAY <= now + DAY:
        meaning = "these look like days since 1970: --unit d"
    elif FIRST <= (median - EXCEL_1970) * DAY <= now + DAY:
        meaning = "these look like the days of Excel: --unit excel"
    else:
        meaning = (
            "name their unit, --unit s, ms, us, ns, d (days since 1970) or excel (days as Excel counts them), or their "
            "form: --time-format %y%m%d%H"
        )
    raise _refused(
        f"event_timestamp: as unix times, numbers like {median:,.10g} lie in no year from 1990 to now; {meaning}"
    )


def _from_datetimes(
    column: pd.Series, parsed: pd.Series, zone: str | None, say: Say, naive: pd.Series | None = None
) -> pd.Series:
    """Times that name no zone (all where ``parsed`` has none, else those that are ``naive``) are of ``zone``."""
    aware = parsed.dt.tz_localize("UTC") if parsed.dt.tz is None else parsed.dt.tz_convert("UTC")
    local = naive if naive is not None else pd.Series(parsed.dt.tz is None, index=column.index)
    if zone is not None and local.any():
        aware = aware.where(~local, _local(aware.where(local).dt.tz_localize(None), zone, say))
    micros = aware.fillna(pd.Timestamp(0, tz="UTC")).dt.as_unit("us").astype("int64")
    return _no_other_wholes(column, micros.tolist(), parsed.notna().to_numpy(bool))


def _local(times: pd.Series, zone: str, say: Say) -> pd.Series:
    """Local times as UTC; says how many of them daylight saving makes doubtful."""

    def placed(**rules: Any) -> pd.Series:
        return times.dt.tz_localize(ZoneInfo(zone), **rules)

    first, onward = np.ones(len(times), dtype=bool), pd.Timedelta("1h")
    known = times.notna().sum()
    doubled = known - placed(ambiguous="NaT", nonexistent=onward).notna().sum()
    skipped = known - placed(ambiguous=first, nonexistent="NaT").notna().sum()
    say(f"event_timestamp: local times of {zone}")
    if doubled:
        say(f"event_timestamp: {doubled:,} times lie in an hour that {zone} had twice; they are taken for the first")
    if skipped:
        say(f"event_timestamp: {skipped:,} times lie in an hour that {zone} skipped; they are moved on by an hour")
    return placed(ambiguous=first, nonexistent=onward).dt.tz_convert("UTC")


def _no_other_wholes(column: pd.Series, values: list[int], understood: np.ndarray) -> pd.Series:
    """What was not understood as it came, but whole numbers as text: they would pass for microseconds."""
    kept = with_rest(column, values, understood)
    for place in np.flatnonzero(~understood):
        raw: Any = kept.iat[place]
        if isinstance(raw, int | np.integer):
            kept.iat[place] = str(raw)
    return kept
