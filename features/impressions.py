"""What slates showed, as columns: a row for each position of a slate, parsed without a loop over rows."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from attune.columns import Columns
from features.lake import CHUNK, SCHEMA, Lake

SHOWN_AT = "shown_at"
"""The slate's own time, in microseconds."""

SLATE_POSITION = "slate_position"
"""The log position of the slate that showed the item."""

_TOGETHER = 5_000
"""Slates parsed at once: with their candidates some tens of megabytes of JSON."""

_MADE_BY = [(Columns.MODEL_VERSION, pa.string()), (Columns.SERVED_BY, pa.string())]
_FIELDS = [(Columns.ITEM_ID, pa.string()), (Columns.SCORE, pa.float64()), (Columns.PROPENSITY, pa.float64())]
_PAYLOAD = pa.schema([*_MADE_BY, ("shown", pa.list_(pa.struct(_FIELDS)))])
HEAD = (Columns.POSITION, Columns.EVENT_ID, Columns.USER_ID, Columns.EVENT_TIMESTAMP)
_ROWS = pa.schema(
    [
        (SLATE_POSITION, pa.int64()),
        *[(name, pa.string()) for name in (Columns.SLATE_ID, Columns.USER_ID)],
        (SHOWN_AT, pa.int64()),
        *_MADE_BY,
        (Columns.RANK, pa.int64()),
        *_FIELDS,
    ]
)


def shown_at(lake: Lake, positions: np.ndarray) -> pd.DataFrame:
    """The items of the slates at these log positions (int64, ascending), in the order of position and rank.

    Columns slate_position, slate_id, user_id, shown_at, model_version, served_by, rank (from 1), item_id, score,
    propensity. Only the stretches of the lake that hold one of the slates are read, a file at a time.
    """
    parts = [_rows(part) for part in slates_at(lake, positions)]
    return pa.concat_tables([_ROWS.empty_table(), *parts]).to_pandas()


def slates_at(lake: Lake, positions: np.ndarray) -> Iterator[pa.RecordBatch]:
    """The slates at these log positions (int64, ascending), some thousands at a time: ``HEAD`` and the payload."""
    runs = np.split(positions, np.flatnonzero(np.diff(positions) > CHUNK) + 1) if len(positions) else []
    for run in runs:
        for piece in lake.pieces(int(run[0]) - 1, int(run[-1]), ("slate",), (*HEAD, Columns.PAYLOAD)):
            wanted = pc.is_in(piece[Columns.POSITION], pa.array(run, SCHEMA.field(Columns.POSITION).type))
            yield from piece.filter(wanted).to_batches(max_chunksize=_TOGETHER)


def payloads(slates: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """These fields of the slates' payloads, a row each; null where a slate does not name one."""
    text = "\n".join(slates[Columns.PAYLOAD].to_pylist()).encode()
    read = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return pj.read_json(pa.BufferReader(text), read, parse).combine_chunks()


def _rows(slates: pa.RecordBatch) -> pa.Table:
    """A row for each position of each slate."""
    parsed = payloads(slates, _PAYLOAD)
    shown = parsed["shown"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(shown), 0).to_numpy(zero_copy_only=False)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    of_slate = pa.array(np.repeat(np.arange(len(lengths)), lengths))
    head = [slates[name].take(of_slate) for name in HEAD]
    made_by = [parsed[name].take(of_slate) for name, _ in _MADE_BY]
    rank = pa.array(np.arange(len(of_slate)) - first + 1, pa.int64())
    items = pc.list_flatten(shown)
    return pa.table([*head, *made_by, rank, *(pc.struct_field(items, name) for name, _ in _FIELDS)], schema=_ROWS)
