"""Files without times: does the order of their rows stand for time, and what are the times of rows if it does not?

Public tables are often sorted: by user, by item, by year of release. A model that takes such an order for time learns
the file, and is judged by how well it knows it. So the order is measured before it is believed.
"""

import numpy as np
import pandas as pd

from attune.clock import ORDER_ONLY, SECOND, SHUFFLED
from attune.columns import Columns
from features.sources.frames import absent_as_none

BLOCKS = 0.97
"""How far neighbouring rows may be of one user (or item), between chance (0) and each user's rows in one block (1).
Real logs come near to it: MovieLens in the order of its times, where most users rate in one sitting, has 0.95."""

FOLLOWS = 0.6
"""The mean rank correlation in a user's rows up to which an order may follow something; MovieLens in order: 0.48."""

SURE = 4.0
"""Standard errors by which chance must be exceeded: few rows prove nothing."""

LOOKED_AT = 200_000
"""Rows whose correlations are measured, at least: all those of the users whom the file names first."""


def row_times(count: int) -> np.ndarray:
    """The times of rows in the order of time (int64 microseconds): row n has n seconds."""
    return np.arange(count, dtype=np.int64) * SECOND


def shuffled_times(user_ids: pd.Series, item_ids: pd.Series) -> np.ndarray:
    """Times (int64 microseconds) in [``SHUFFLED``, ``ORDER_ONLY``) that say nothing: a hash of the user and the item.

    The same in every file and at every place of it, so that a row repeats itself; a user's rows of one item are one
    moment. What lies after any moment is a random sample of every user's rows.
    """
    pairs = pd.DataFrame({"user": user_ids.map(str), "item": item_ids.map(str)})
    hashes = pd.util.hash_pandas_object(pairs, index=False).to_numpy(np.uint64)
    return SHUFFLED + (hashes % np.uint64(ORDER_ONLY - SHUFFLED)).astype(np.int64)


def order_faults(interactions: pd.DataFrame, items: pd.DataFrame) -> list[str]:
    """What speaks against the rows' order being that of time, with the figures; empty where nothing does.

    Looked at: neighbouring rows of one user, or of one item, against what chance would give, and in each user's rows
    the rank correlation (Spearman) of the place with the item's id, the value, and each attribute in ``items``.
    """
    users, known = (_codes(interactions[name]) for name in (Columns.USER_ID, Columns.ITEM_ID))
    faults = [
        f"{share:.0%} of neighbouring rows have the same {name} ({chance:.1%} by chance)"
        for name, codes in ((Columns.USER_ID, users), (Columns.ITEM_ID, known))
        for share, chance in _blocks(codes)
    ]
    looked_at = users <= np.searchsorted(np.bincount(users).cumsum(), LOOKED_AT)
    rows, users = interactions[looked_at], users[looked_at]
    columns = {Columns.ITEM_ID: _ranked(rows[Columns.ITEM_ID]), Columns.VALUE: _ranked(rows[Columns.VALUE])}
    described = items.drop_duplicates(Columns.ITEM_ID, keep="last")
    attributes = pd.DataFrame(described[Columns.ATTRIBUTES].tolist(), index=described[Columns.ITEM_ID].map(str))
    places = attributes.index.get_indexer(rows[Columns.ITEM_ID].map(str))
    for name in attributes.columns:
        ranks = np.append(_ranked(attributes[name]), np.nan)  # the last is the place -1, of an item without attributes
        columns[str(name)] = ranks[places]
    for name, values in columns.items():
        correlation, errors = _correlation(users, values)
        if abs(correlation) > FOLLOWS and errors > SURE:
            faults.append(f"within a user's rows the order follows {name} (rank correlation {correlation:.2f})")
    return faults


def _codes(column: pd.Series) -> np.ndarray:
    return pd.factorize(column.map(str))[0]


def _blocks(codes: np.ndarray) -> list[tuple[float, float]]:
    """The share of neighbours with the same code and that by chance, where the codes stand in blocks."""
    pairs, counts = len(codes) - 1, np.bincount(codes)
    if pairs < 1:
        return []
    share, most = float(np.mean(codes[1:] == codes[:-1])), 1.0 - (len(counts) - 1) / pairs
    chance = float((counts * (counts - 1.0)).sum() / (len(codes) * pairs))
    error = np.sqrt(chance * (1.0 - chance) / pairs)
    blocked = share - chance > max(BLOCKS * (most - chance), SURE * error)
    return [(share, chance)] if blocked else []


def _ranked(column: pd.Series) -> np.ndarray:
    """Numbers as they are, texts by their alphabetical order; NaN where there is neither."""
    cells = absent_as_none(column)
    numbers = pd.to_numeric(cells.where([isinstance(raw, str | int | float) for raw in cells]), errors="coerce")
    if numbers.notna().sum() == cells.notna().sum():
        return numbers.to_numpy(np.float64)
    texts = cells.where([isinstance(raw, str) for raw in cells], None)
    codes = pd.factorize(texts, sort=True)[0].astype(np.float64)
    return np.where(codes < 0, np.nan, codes)


def _correlation(users: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Spearman's correlation of row number and value within users, their mean by rows; standard errors from 0."""
    known = np.isfinite(values)
    user = pd.factorize(users[known])[0]
    by_user = pd.Series(values[known]).groupby(user)
    sizes = np.bincount(user)
    centre = (sizes[user] - 1.0) / 2.0
    x, y = by_user.cumcount().to_numpy() - centre, by_user.rank().to_numpy() - 1.0 - centre
    products, squares, others = (np.bincount(user, weights=part) for part in (x * y, x * x, y * y))
    varied = (squares > 0) & (others > 0)
    if not varied.any():
        return 0.0, 0.0
    correlations, weights = products[varied] / np.sqrt(squares[varied] * others[varied]), sizes[varied] - 1.0
    mean = float(np.average(correlations, weights=weights))
    return mean, abs(mean) * float(np.sqrt(weights.sum()))  # its variance in a random order is 1 / (rows - 1) a user
