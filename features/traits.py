"""Traits: what items and users are, a row for each value that one has of an attribute.

By them a judgement looks for whom a version harms. They lie beside a training set in a file of their own, since no
model reads them. An item's title, text, year and genres and whether it is on sale are no traits: they are known
elsewhere, or tell of no kind.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from attune.columns import TRAIT_COLUMNS, Columns

SCHEMA = pa.schema([(name, pa.string()) for name in TRAIT_COLUMNS])

OF_ITEMS, OF_USERS = "item", "user"

NO_TRAITS = {
    OF_ITEMS: {Columns.TITLE, Columns.TEXT, Columns.YEAR, Columns.GENRES, Columns.AVAILABLE, Columns.RETIRED},
    OF_USERS: set[str](),
}

LONGEST = 100
"""Letters of a value: who writes more writes a text."""

MOST = 100
"""Values that one may have of an attribute; of a longer list the first."""

CHUNK = 20_000
"""Items, or users, whose traits are held at once."""


def write(path: Path, items: pd.DataFrame, users: pd.DataFrame) -> None:
    """The traits of items and of users, out of frames with their ids and ``attributes`` (JSON objects), as Parquet."""
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for whose, frame, id_column in ((OF_ITEMS, items, Columns.ITEM_ID), (OF_USERS, users, Columns.USER_ID)):
            for start in range(0, len(frame), CHUNK):
                some = frame.iloc[start : start + CHUNK]
                writer.write_table(table(whose, some[id_column], some[Columns.ATTRIBUTES]))


def table(whose: str, ids: Iterable[str], attributes: Iterable[str]) -> pa.Table:
    """The traits of some items or users: every value once, in the order of their attributes."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    rows = [
        (whose, one, name, word)
        for one, raw in zip(ids, attributes, strict=True)
        for name, word in dict.fromkeys(_told(decode(raw), NO_TRAITS[whose]))
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in SCHEMA)
    return pa.table([pa.array(column, pa.string()) for column in columns], schema=SCHEMA)


def _told(attributes: dict[str, Any], without: Collection[str]) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        if name not in without:
            words = map(_word, value[:MOST] if isinstance(value, list) else [value])
            yield from ((name, word) for word in words if 0 < len(word) <= LONGEST)


def _word(value: Any) -> str:
    """A text as it is, a number or a truth value as JSON writes it; nothing for nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
