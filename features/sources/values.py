"""What the numbers in a value column mean: the scale of ratings, units of time, shares, flags."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from attune.columns import Columns
from attune.errors import DataContractError
from attune.event_types import KINDS
from attune.row_rules import NOTHING, TRUTH, Rejection
from features.sources import frames
from features.sources.frames import Say

NO_RATING = (0.0, -1.0)
"""What files write where somebody gave no rating."""

TOPS = (5.0, 10.0, 100.0)
"""Where scales usually end."""

PRICED = ("purchase", "cart")
"""Kinds whose value is a price, where 0 may be meant."""

THOUSANDS = r"-?(0|[1-9]\d{0,2}(,\d{3})*)(\.\d+)?"
DECIMAL_COMMA = r"-?(\d+|[1-9]\d{0,2}(\.\d{3})+)(,\d+)?"
"""1,250.5 and 1.250,5: a column of one form has the marks of its thousands, if any, in every number."""

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0}
PERCENT = "percent"
NAMED_UNITS = {
    "h": r"hours?$|(^|[\W_])hrs?$",
    "min": r"minutes?$|(^|[\W_])mins?$",
    "ms": r"(^|[\W_])ms$|millis(econds)?$",
}
"""How the names of columns end that are in another unit than seconds."""

REPEATED = 5.0
"""A median share above this is no film watched again and again, but another unit."""

LONG_DWELL = 3_600.0
"""Seconds: a median above this is taken for another unit unless the user names it."""

ABOVE_WHOLE = "… is outside 0 to 1; 'watch' is the share watched; --clip takes more than the whole for 1"


@dataclass(frozen=True)
class Values:
    """What the user says of the value column.

    ``scale`` ('1,10') has the lowest and the highest rating. ``zero`` is ``implicit`` where a rating of 0 or -1 says
    that none was given. ``value_unit`` is that of dwell times (ms, s, min, h), or ``percent`` for watch and survey.
    ``clip`` takes a watch above 1 for 1; ``full_watch`` takes one without a value for a whole watch.
    """

    scale: str | None = None
    zero: str | None = None
    value_unit: str | None = None
    clip: bool = False
    full_watch: bool = False


def with_values(
    behaviour: pd.DataFrame, column: pd.Series | None, means: Values, kind: str | None, say: Say
) -> tuple[pd.DataFrame, list[Rejection]]:
    """The interactions with the values of ``column``, and those that are turned away since theirs cannot be meant.

    A rating outside its scale and a watch above 1 are turned away; a rating that was not given becomes a ``view``
    without a value. ``kind`` is that of every row where one was given; then a column of flags is refused where the
    kind takes no value, since a 0 would count as much as a 1. Raises DataContractError for numbers whose meaning is in
    doubt, and for options that fit no row. ``say`` is told what was changed.
    """
    absent = pd.Series([None] * len(behaviour), index=behaviour.index, dtype=object)
    cells = absent if column is None else _plain_numbers(column, say)
    raw = absent if column is None else frames.numbers(cells)
    number = np.array([cell if isinstance(cell, float) else np.nan for cell in raw], dtype=np.float64)
    kinds = behaviour[Columns.KIND].copy()
    rating, watch, dwell, survey = ((kinds == name).to_numpy(bool) for name in ("rating", "watch", "dwell", "survey"))
    if column is not None and kind is not None:
        _refuse_flags(column, number, kind)
    none_given = _none_given(number, rating, means.zero)
    if none_given.any():
        kinds[none_given] = "view"
        say(f"value: {none_given.sum():,} ratings of 0 or -1 are taken for no rating: a view without a value")
    number, off_scale, scale_rule = _in_stars(number, rating & ~none_given & ~np.isnan(number), means.scale, say)
    number = _in_units(number, dwell, watch | survey, means.value_unit, column)
    number, above = _in_shares(number, watch, means.clip, say)
    values = frames.with_rest(cells, number.tolist(), ~np.isnan(number))
    values[none_given] = None
    without = watch & values.isna().to_numpy(bool)
    if means.full_watch:
        values[without] = 1.0
    elif without.any():
        say(f"value: {without.sum():,} of {watch.sum():,} watches have none; --full-watch takes them for whole ones")
    told = behaviour.assign(**{Columns.VALUE: raw})
    rejected = [*_turned_away(told[off_scale], scale_rule), *_turned_away(told[above], ABOVE_WHOLE)]
    return behaviour.assign(**{Columns.KIND: kinds, Columns.VALUE: values})[~(off_scale | above)], rejected


def _turned_away(rows: pd.DataFrame, rule: str) -> list[Rejection]:
    """Rows whose value breaks the rule, which has it as '…'."""
    return [
        Rejection(place, row, Columns.VALUE, f"value: {rule.replace('…', f'{row[Columns.VALUE]:g}')}", f"value: {rule}")
        for place, row in zip(rows.index.tolist(), rows.to_dict("records"), strict=True)
    ]


def _in_stars(
    number: np.ndarray, rating: np.ndarray, scale: str | None, say: Say
) -> tuple[np.ndarray, np.ndarray, str]:
    """The numbers with ratings as 1 to 5 stars, which of them lie outside the scale, and the rule that those break."""
    outside = np.zeros(len(number), dtype=bool)
    if scale is None:
        if rating.any():
            _refuse_other_scale(number[rating], say)
        return number, outside, ""
    low, high = _bounds(scale)
    if not rating.any():
        raise DataContractError("scale: no row is a rating, and --scale is for ratings alone")
    outside = rating & ((number < low) | (number > high))
    hint = "; if it says that no rating was given: --zero implicit" if low > 0 else ""
    stars = np.where(rating, 1.0 + 4.0 * (number - low) / (high - low), number)
    return stars, outside, f"… is outside the scale {low:g} to {high:g}{hint}"


def _in_shares(number: np.ndarray, watch: np.ndarray, clip: bool, say: Say) -> tuple[np.ndarray, np.ndarray]:
    """The numbers with watches above 1 as 1 where they are clipped, and which of them are turned away."""
    above = watch & (number > 1.0)
    _refuse_other_shares(number[watch & ~np.isnan(number)], clip)
    if not clip:
        return number, above
    say(f"value: {above.sum():,} watched shares above 1 are taken for 1")
    return np.where(above, 1.0, number), np.zeros(len(number), dtype=bool)


def _named_units(column: pd.Series) -> list[str]:
    return [unit for unit, end in NAMED_UNITS.items() if re.search(end, str(column.name), re.IGNORECASE)]


def _plain_numbers(column: pd.Series, say: Say) -> pd.Series:
    """Truth values, also as text, as 1 and 0, decimal commas as points, where the whole column has them; no thousands.

    'NULL' and the like are absent.
    """
    if pd.api.types.infer_dtype(column) not in ("string", "boolean"):
        return column
    column = column.where([str(cell).lower() not in NOTHING for cell in column], None)
    words = column.dropna().drop_duplicates().map(lambda cell: str(cell).lower())
    if words.isin(TRUTH).all():
        return column.map(lambda cell: None if pd.isna(cell) else float(TRUTH[str(cell).lower()])).astype(object)
    if words.str.contains(",", regex=False).any():
        if words.str.fullmatch(THOUSANDS).all():
            say(f"value: commas are taken for thousands: {words[words.str.contains(',')].iloc[0]!r}")
            return column.astype(object).str.replace(",", "", regex=False)
        if words.str.fullmatch(DECIMAL_COMMA).all():
            return column.astype(object).str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    return column


def _refuse_flags(column: pd.Series, number: np.ndarray, kind: str) -> None:
    """Raise DataContractError where a kind without a value gets a column with 0 or less in it."""
    known = number[~np.isnan(number)]
    nothing = int((known <= 0).sum())
    if not nothing or kind not in KINDS or KINDS[kind].needs_value:
        return
    if kind in PRICED and not np.isin(known, (-1, 0, 1)).all():
        return
    cells = frames.ids(column)
    words = dict(zip(cells, number, strict=True))
    names = {
        word: kind if value > 0 else "dislike" if value < 0 else "impression"
        for word, value in words.items()
        if not np.isnan(value)
    }
    if len(names) <= 3:
        renamed = ",".join(f"{word}={name}" for word, name in sorted(names.items(), key=str))
        cure = f"read the column as the kind: --map kind={column.name} --kinds {renamed}, without --kind"
    else:
        cure = "take these rows out of the file, or the column out of the map"
    raise DataContractError(
        f"value: {nothing:,} of {len(number):,} rows have 0 or less in {column.name!r}, and each would count as a "
        f"{kind!r}, which takes no value; {cure}",
        Columns.VALUE,
    )


def _none_given(number: np.ndarray, rating: np.ndarray, zero: str | None) -> np.ndarray:
    if zero not in (None, "implicit"):
        raise DataContractError(f"zero: {zero!r} is unknown; 'implicit' says that a rating of 0 was not given")
    return rating & np.isin(number, NO_RATING) if zero else np.zeros(len(number), dtype=bool)


def _bounds(scale: str) -> tuple[float, float]:
    try:
        low, high = map(float, scale.split(","))
    except ValueError as error:
        raise DataContractError(f"scale: {scale!r} is not of the form LOW,HIGH") from error
    if not low < high:
        raise DataContractError(f"scale: {low:g} is not below {high:g}")
    return low, high


def scale_options(ratings: Collection[float]) -> list[str]:
    """What to type for ratings that are not all stars, the likeliest first; nothing where they are."""
    star, numbers = KINDS["rating"], np.asarray(ratings, dtype=np.float64)
    stated = numbers[~np.isin(numbers, NO_RATING)]
    if not len(stated) or (star.low <= numbers.min() and numbers.max() <= star.high):
        return []
    lowest, low, high = (float(number) for number in (numbers.min(), stated.min(), stated.max()))
    top = next((top for top in TOPS if top * 0.75 <= high <= top), max(high, star.high))
    options = [f"ratings run from {lowest:g} to {high:g}; if that is their scale: --scale {min(lowest, 1):g},{top:g}"]
    if lowest in NO_RATING and low > 0:
        scale = "" if star.low <= low and top == star.high else f"--scale {min(low, 1):g},{top:g} "
        options.insert(0, f"if {lowest:g} means that there is none: {scale}--zero implicit")
    return options


def _refuse_other_scale(ratings: np.ndarray, say: Say) -> None:
    """Ratings without a scale: raise DataContractError where they cannot be stars, remark on others."""
    low, high = float(ratings.min()), float(ratings.max())
    if low < high <= 1.0:
        raise DataContractError(
            f"value: all ratings lie from {low:g} to {high:g}, which would make each of them 1 star or less; say their "
            "scale: --scale 0,1 (or --scale 1,5 if they are stars)",
            Columns.VALUE,
        )
    for option in scale_options(ratings):
        say(f"value: {option}")


def _in_units(
    number: np.ndarray, dwell: np.ndarray, shares: np.ndarray, unit: str | None, column: pd.Series | None
) -> np.ndarray:
    """The numbers with dwell times in seconds; raises DataContractError where a unit is wrong or in doubt."""
    if unit is not None:
        if unit != PERCENT and unit not in SECONDS:
            raise DataContractError(f"value unit: {unit!r} is not one of {', '.join((*SECONDS, PERCENT))}")
        if not (shares if unit == PERCENT else dwell).any():
            raise DataContractError(
                f"value unit: {unit} is for {'watch or survey' if unit == PERCENT else 'dwell'} alone"
            )
        return (
            np.where(shares, number / 100.0, number)
            if unit == PERCENT
            else np.where(dwell, number * SECONDS[unit], number)
        )
    if column is not None and dwell.any() and (units := _named_units(column)):
        raise DataContractError(
            f"value: {column.name!r} sounds like another unit than seconds: --value-unit {units[0]} (or s, if not)"
        )
    if np.any(~np.isnan(number[dwell])) and (median := float(np.nanmedian(number[dwell]))) > LONG_DWELL:
        raise DataContractError(
            f"value: half of the dwell times are longer than {median:,.0f} s; milliseconds are --value-unit ms, "
            "minutes min, hours h; if they are seconds: --value-unit s"
        )
    return number


def _refuse_other_shares(shares: np.ndarray, clip: bool) -> None:
    """Raise DataContractError where most watched shares are above 1, unless repeated watches are clipped."""
    if 2 * (shares > 1.0).sum() <= len(shares) or (clip and np.median(shares) <= REPEATED):
        return
    raise DataContractError(
        f"value: most of the watched shares lie above 1 (the median is {np.median(shares):g}); "
        "percent are --value-unit percent, seconds are --kind dwell"
        + ("; repeated watches: --clip takes them for 1" if np.median(shares) <= REPEATED else "")
    )
