"""Writes logged slates as files: those that another policy can be judged by, and their sources' scores with rewards.

``write_slates`` serves ``evaluation.offpolicy.logged_policy``: what was shown, with its propensities, candidates and
rewards. Only what was known before the draw decides whether a slate is in the file, so that leaving slates out selects
requests and not outcomes. The one exception is a slate that no policy drew (a propensity outside (0, 1]). Each slate
that is left out is counted under the first reason that holds.

``write_source_reactions`` serves ``models.ranking.thompson``, which learns its weights from the file. It holds settled
slates alone: within the attribution window silence says nothing yet, and slates with a reaction are no fair sample. It
leaves out slates that popularity answered (scores of another scale) and those of other policies (no features logged).
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from attune.columns import Columns
from attune.events import CANDIDATES_LOGGED, IMPORTED
from attune.files import whole_file, write_whole
from features.labels import HEAD, Terms, labels, payloads, places, slates_at, slates_between
from features.lake import Lake

logger = logging.getLogger(__name__)

SLATES, COUNTS = "slates.parquet", "slates.json"

MOST = 50_000
"""The latest slates that are looked at: some hundred megabytes, and minutes of scoring; learning forgets older ones."""

EARLIER = "earlier than the latest that are looked at"
OF_OTHERS = "imported"
EMPTY = "nothing was shown"
ANOTHER_VERSION = "another version"
DEGRADED = "degraded answer"
NO_POLICY = "says nothing of its policy"
DETERMINISTIC = "deterministic policy"
BUDGET_SPENT = "budget of exploration spent"
CAPPED = "caps were asked for"
CUT_OFF = "candidates cut off"
NOT_DRAWN = "propensities that are none"
UNSETTLED = "attribution window still open"
REASONS = (
    *(OF_OTHERS, EARLIER, EMPTY, ANOTHER_VERSION, DEGRADED, NO_POLICY, DETERMINISTIC),
    *(BUDGET_SPENT, CAPPED, CUT_OFF, NOT_DRAWN, UNSETTLED),
)
"""Why a slate is left out, in the order in which they are looked for."""

_POLICY = pa.struct([
    ("name", pa.string()),
    *((name, pa.float64()) for name in ("temperature", "diversity", "epsilon", "floor", "least_quality")),
    *((name, pa.int64()) for name in ("candidates", "samples", "budget", "explored_before", "seed")),
    ("evaluable", pa.bool_()),
])  # fmt: skip
_CONTEXT = pa.struct([("k", pa.int64()), ("degraded", pa.list_(pa.string())), ("at_most", pa.struct([]))])
_SHOWN = pa.struct([(Columns.ITEM_ID, pa.string()), (Columns.PROPENSITY, pa.float64())])
_CANDIDATE = pa.struct([(Columns.ITEM_ID, pa.string()), (Columns.SCORE, pa.float64())])
_PAYLOAD = pa.schema([
    *((name, pa.string()) for name in (Columns.MODEL_VERSION, Columns.SERVED_BY)),
    *(("state_position", pa.int64()), ("policy", _POLICY), ("context", _CONTEXT)),
    *(("shown", pa.list_(_SHOWN)), ("candidates", pa.list_(_CANDIDATE))),
])  # fmt: skip
SLATES_SCHEMA = pa.schema([
    (Columns.POSITION, pa.int64()),
    *((name, pa.string()) for name in (Columns.SLATE_ID, Columns.USER_ID)),
    (Columns.EVENT_TIMESTAMP, pa.int64()),
    *((name, pa.string()) for name in (Columns.MODEL_VERSION, Columns.SERVED_BY)),
    *((name, pa.int64()) for name in ("state_position", "k")),
    ("policy", _POLICY),
    ("items", pa.list_(pa.string())),
    ("propensities", pa.list_(pa.float64())),
    ("rewards", pa.list_(pa.float32())),
    ("candidates", pa.list_(pa.string())),
    ("scores", pa.list_(pa.float64())),
])  # fmt: skip
"""A row a slate, in the order of positions. ``items`` top first, with their conditional ``propensities`` and rewards in
[0, 1]; ``candidates`` as they were drawn from, with their scores; ``k`` is how many were asked for."""


REACTIONS_FILE = "source_reactions-{upto}-{moment}.parquet"
"""Trainings that learn up to other moments may share a folder."""

CHAMPION, THOMPSON = "champion", "thompson"
"""Who must have answered, and by which policy, as slates name them."""

_SOURCES_POLICY = pa.struct([
    ("name", pa.string()),
    ("sources", pa.list_(pa.string())),
    ("features", pa.list_(pa.list_(pa.float64()))),
])  # fmt: skip
_SOURCES_PAYLOAD = pa.schema([(Columns.SERVED_BY, pa.string()), ("policy", _SOURCES_POLICY)])
REACTIONS_SCHEMA = pa.schema([
    *((name, pa.string()) for name in (Columns.SLATE_ID, Columns.USER_ID)),
    *((name, pa.int64()) for name in (Columns.EVENT_TIMESTAMP, Columns.RANK)),
    (Columns.REWARD, pa.float32()),
    ("sources", pa.list_(pa.string())),
    ("features", pa.list_(pa.float64())),
])  # fmt: skip
"""A row for each item shown, by slate and rank (from 1): when it was shown (microseconds), its reward in [0, 1]
(silence 0.5), and what each of the ``sources`` said of it."""


@dataclass(frozen=True)
class LoggedSlates:
    """What was written: ``rows`` slates of one version at positions (after, upto], and how many were ``left_out``.

    ``feedback`` is what became of reactions in the window, whichever version showed what they are to
    (``features.labels.Labels.counts``); empty where there was no slate to look at.
    """

    folder: Path
    version: str
    after: int
    upto: int
    rows: int
    left_out: dict[str, int]
    feedback: dict[str, int]


def write_slates(
    lake: Lake,
    folder: Path,
    version: str,
    after: int,
    upto: int | None = None,
    terms: Terms | None = None,
    most: int = MOST,
) -> LoggedSlates:
    """The slates that ``version`` made at positions (after, upto] (upto: all that the lake holds), whole and settled.

    The version ``attune.events.IMPORTED`` stands for what other systems drew; without propensities they are left out.
    Reads the labels of the latest ``most`` of them at once and the payloads some thousands at a time. Writes
    ``slates.parquet`` (see ``SLATES_SCHEMA``) and ``slates.json``, which appears last. Late reactions count too.
    """
    upto, terms = lake.watermark() if upto is None else upto, terms or Terms()
    imported = version == IMPORTED
    slates = slates_between(lake, after, upto)
    own, others = slates[slates[Columns.KIND].isna()], slates[slates[Columns.KIND] == IMPORTED]
    slates, others = (others, own) if imported else (own, others)
    looked_at = slates[Columns.POSITION].to_numpy(np.int64)[-most:]
    folder.mkdir(parents=True, exist_ok=True)
    left_out = dict.fromkeys(REASONS, 0) | {EARLIER: len(slates) - len(looked_at)}
    left_out[ANOTHER_VERSION if imported else OF_OTHERS] = len(others)
    labelled = labels(lake, int(looked_at[0]) - 1, upto, terms, imported) if len(looked_at) else None
    frame, feedback = (labelled.frame, labelled.counts) if labelled else (pd.DataFrame(), {})
    rows = 0
    with whole_file(folder / SLATES) as draft, pq.ParquetWriter(draft, SLATES_SCHEMA) as writer:
        for table, reasons in _tables(lake, looked_at, frame, version):
            kept = table.filter(pa.array(reasons == ""))
            rows += len(kept)
            writer.write_table(kept)
            for reason, count in zip(*np.unique(reasons[reasons != ""], return_counts=True), strict=True):
                left_out[reason] += int(count)
    result = LoggedSlates(folder, version, after, upto, rows, left_out, feedback)
    write_whole(folder / COUNTS, json.dumps({**asdict(result), "folder": folder.name}, indent=2) + "\n")
    words = [", ".join(f"{n} {what}" for what, n in counts.items() if n) or "none" for counts in (left_out, feedback)]
    logger.info("%d slates of version %s; left out: %s; feedback: %s", rows, version, *words)
    return result


def write_source_reactions(lake: Lake, folder: Path, upto: int, moment: int) -> Path:
    """What slates at positions up to ``upto`` say, as the log stood there; the file's path. Nothing later is read.

    Only slates count whose attribution window had ended by ``moment`` (microseconds).
    """
    slates = slates_between(lake, 0, upto)
    positions = slates.loc[slates[Columns.KIND].isna(), Columns.POSITION].to_numpy(np.int64)[-MOST:]
    none = pd.DataFrame({Columns.SLATE_ID: [], Columns.RANK: []})
    features = pd.concat([_source_scores(slates) for slates in slates_at(lake, positions)] or [none], ignore_index=True)
    table = REACTIONS_SCHEMA.empty_table()
    if len(features):
        frame = labels(lake, int(positions[0]) - 1, upto).frame
        frame = frame[frame["settled"]].merge(features, on=[Columns.SLATE_ID, Columns.RANK], validate="one_to_one")
        frame = frame[frame[Columns.EVENT_TIMESTAMP] + Terms().patience <= moment]
        table = pa.Table.from_pandas(frame[REACTIONS_SCHEMA.names], REACTIONS_SCHEMA, preserve_index=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / REACTIONS_FILE.format(upto=upto, moment=moment)
    with whole_file(path) as draft:
        pq.write_table(table, draft)
    return path


def _tables(
    lake: Lake, positions: np.ndarray, frame: pd.DataFrame, version: str
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The slates some thousands at a time, and why each is left out ("": it is not).

    ``frame`` has a row for each position of each slate in the same order, so its rows follow from the lengths.
    """
    row, columns = 0, (Columns.POSITION, Columns.SLATE_ID, Columns.USER_ID, Columns.EVENT_TIMESTAMP)
    for slates in slates_at(lake, positions):
        parsed = payloads(slates, _PAYLOAD)
        shown, candidates = (_lists(parsed[name]) for name in ("shown", "candidates"))
        lengths = np.diff(shown.offsets.to_numpy())
        part = frame.iloc[row : row + int(lengths.sum())]
        row += len(part)
        rewards = pa.array(part[Columns.REWARD].to_numpy(np.float32))
        values = {
            **{name: slates[own] for name, own in zip(columns, HEAD, strict=True)},
            **{name: parsed[name] for name in (Columns.MODEL_VERSION, Columns.SERVED_BY, "state_position", "policy")},
            "k": pc.struct_field(parsed["context"], "k"),
            "items": _field(shown, Columns.ITEM_ID),
            "propensities": _field(shown, Columns.PROPENSITY),
            "rewards": pa.ListArray.from_arrays(shown.offsets, rewards),
            "candidates": _field(candidates, Columns.ITEM_ID),
            "scores": _field(candidates, Columns.SCORE),
        }
        table = pa.table([values[name] for name in SLATES_SCHEMA.names], schema=SLATES_SCHEMA)
        yield table, _reasons(parsed, shown, candidates, part, version)


def _reasons(
    parsed: pa.Table, shown: pa.ListArray, candidates: pa.ListArray, labelled: pd.DataFrame, version: str
) -> np.ndarray:
    """The first reason of each slate, as an array of strings."""
    policy, context = parsed["policy"].combine_chunks(), parsed["context"].combine_chunks()
    offsets = shown.offsets.to_numpy()
    lengths, is_shown = np.diff(offsets), np.diff(offsets) > 0
    propensities = _field(shown, Columns.PROPENSITY).values.to_numpy(zero_copy_only=False)
    bad = ~((propensities > 0) & (propensities <= 1))
    settled = np.zeros(len(lengths), bool)
    settled[is_shown] = labelled["settled"].to_numpy(bool)[offsets[:-1][is_shown]]
    holds = {
        EMPTY: ~is_shown,
        ANOTHER_VERSION: ~_true(pc.equal(parsed[Columns.MODEL_VERSION], version)),
        DEGRADED: _true(pc.greater(pc.list_value_length(pc.struct_field(context, "degraded")), 0)),
        NO_POLICY: ~_true(pc.is_valid(pc.struct_field(policy, "name"))),
        DETERMINISTIC: _true(pc.invert(pc.struct_field(policy, "evaluable"))),
        BUDGET_SPENT: _true(
            pc.greater_equal(pc.struct_field(policy, "explored_before"), pc.struct_field(policy, "budget"))
        ),
        CAPPED: _true(pc.is_valid(pc.struct_field(context, "at_most"))),
        CUT_OFF: np.diff(candidates.offsets.to_numpy()) >= CANDIDATES_LOGGED,
        NOT_DRAWN: np.bincount(np.repeat(np.arange(len(lengths)), lengths)[bad], minlength=len(lengths)) > 0,
        UNSETTLED: ~settled,
    }
    return np.select(list(holds.values()), list(holds), default="")


def _lists(column: pa.ChunkedArray) -> pa.ListArray:
    """One array of lists without nulls, whose offsets begin at 0."""
    lists = column.combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), pc.list_flatten(lists))


def _field(lists: pa.ListArray, name: str) -> pa.ListArray:
    return pa.ListArray.from_arrays(lists.offsets, pc.struct_field(lists.values, name))


def _true(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """As a mask; null is false."""
    mask: np.ndarray = pc.fill_null(values, False).to_numpy(zero_copy_only=False)  # type: ignore[call-arg]
    return mask.astype(bool)


def _source_scores(slates: pa.RecordBatch) -> pd.DataFrame:
    """A row for each shown item of those slates that a champion drew by Thompson's policy."""
    parsed = payloads(slates, _SOURCES_PAYLOAD)
    policy = parsed["policy"].combine_chunks()
    by_thompson = pc.equal(pc.struct_field(policy, "name"), THOMPSON)
    mask = pc.fill_null(pc.and_(pc.equal(parsed[Columns.SERVED_BY], CHAMPION), by_thompson), False).combine_chunks()
    policy, slates = policy.filter(mask), slates.filter(mask)
    features = pc.struct_field(policy, "features")
    of_slate, ranks = places(features)
    return pd.DataFrame(
        {
            Columns.SLATE_ID: slates[Columns.EVENT_ID].take(of_slate).to_pandas(),
            Columns.EVENT_TIMESTAMP: slates[Columns.EVENT_TIMESTAMP].take(of_slate).to_pandas(),
            Columns.RANK: ranks,
            "sources": pc.struct_field(policy, "sources").take(of_slate).to_pandas(),
            "features": pc.list_flatten(features).to_pandas(),
        }
    )
