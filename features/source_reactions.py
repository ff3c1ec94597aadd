"""Writes each source's scores of shown items with their rewards: a Thompson policy learns its weights from them.

A file beside the training set, which ``models.ranking.thompson`` reads. It holds settled slates alone: silence says
nothing before the attribution window is over, and slates with a reaction are no fair sample. It leaves out slates that
popularity answered, whose scores are of another scale, and those of other policies, which log no features.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attune.columns import Columns
from attune.files import whole_file
from features.impressions import payloads, slates_at
from features.labels import labels
from features.lake import Lake
from features.reactions import Terms

REACTIONS = "source_reactions-{upto}.parquet"
"""Trainings that learn up to other positions may share a folder."""

MOST = 50_000
"""The latest slates that are looked at; learning forgets what is older."""

CHAMPION, THOMPSON = "champion", "thompson"
"""Who must have answered, and by which policy, as slates name them."""

_POLICY = pa.struct([
    ("name", pa.string()),
    ("sources", pa.list_(pa.string())),
    ("features", pa.list_(pa.list_(pa.float64()))),
])  # fmt: skip
_PAYLOAD = pa.schema([(Columns.SERVED_BY, pa.string()), ("policy", _POLICY)])
SCHEMA = pa.schema([
    (Columns.SLATE_ID, pa.string()),
    (Columns.USER_ID, pa.string()),
    (Columns.EVENT_TIMESTAMP, pa.int64()),
    (Columns.RANK, pa.int64()),
    (Columns.REWARD, pa.float32()),
    ("sources", pa.list_(pa.string())),
    ("features", pa.list_(pa.float64())),
])  # fmt: skip
"""A row for each item shown, by slate and rank (from 1): when it was shown (microseconds), its reward in [0, 1]
(silence 0.5), and what each of the ``sources`` said of it."""


def build(lake: Lake, folder: Path, upto: int, terms: Terms | None = None, most: int = MOST) -> Path:
    """What slates at positions up to ``upto`` say, as the log stood there; the file's path. Nothing later is read."""
    positions = lake.events(0, upto, ("slate",), [Columns.POSITION])[Columns.POSITION].to_numpy()[-most:]
    none = pd.DataFrame({Columns.SLATE_ID: [], Columns.RANK: []})
    features = pd.concat([_features(slates) for slates in slates_at(lake, positions)] or [none], ignore_index=True)
    table = SCHEMA.empty_table()
    if len(features):
        frame = labels(lake, int(positions[0]) - 1, upto, terms).frame
        frame = frame[frame["settled"]].merge(features, on=[Columns.SLATE_ID, Columns.RANK], validate="one_to_one")
        table = pa.Table.from_pandas(frame[SCHEMA.names], SCHEMA, preserve_index=False)
    path = folder / REACTIONS.format(upto=upto)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as draft:
        pq.write_table(table, draft)
    return path


def _features(slates: pa.RecordBatch) -> pd.DataFrame:
    """A row for each shown item of those slates that a champion drew by Thompson's policy."""
    parsed = payloads(slates, _PAYLOAD)
    policy = parsed["policy"].combine_chunks()
    drawn_so = pc.and_(
        pc.equal(parsed[Columns.SERVED_BY], CHAMPION), pc.equal(pc.struct_field(policy, "name"), THOMPSON)
    )
    mask = pc.fill_null(drawn_so, False).combine_chunks()
    policy, slates = policy.filter(mask), slates.filter(mask)
    features = pc.struct_field(policy, "features")
    lengths = pc.fill_null(pc.list_value_length(features), 0).to_numpy(zero_copy_only=False)
    of_slate = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pd.DataFrame(
        {
            Columns.SLATE_ID: slates[Columns.EVENT_ID].take(pa.array(of_slate)).to_pandas(),
            Columns.EVENT_TIMESTAMP: slates[Columns.EVENT_TIMESTAMP].take(pa.array(of_slate)).to_pandas(),
            Columns.RANK: np.arange(len(of_slate)) - first + 1,
            "sources": pc.struct_field(policy, "sources").take(pa.array(of_slate)).to_pandas(),
            "features": pc.list_flatten(features).to_pandas(),
        }
    )
