"""Joins what users were shown to how they reacted: one row per position of every slate, reactions or none."""

from dataclasses import dataclass

import msgspec
import numpy as np
import pandas as pd

from attune.clock import DAY
from attune.columns import Columns
from attune.events import Slate
from features.lake import Lake
from features.training_set import kept_events

NO_REACTION = 0.5
"""The reward of an item that nobody reacted to: it says nothing."""

_SLATE = msgspec.json.Decoder(Slate)


@dataclass(frozen=True)
class Labels:
    """``frame`` has a row per shown item; ``unmatched`` counts feedback on slates or items that it does not hold."""

    frame: pd.DataFrame
    unmatched: int


def labels(lake: Lake, after: int = 0, upto: int | None = None, patience: int = DAY) -> Labels:
    """The slates at positions (after, upto], with the feedback logged by ``upto``.

    Columns: slate_id, user_id, item_id, rank (from 1), score, propensity, reward, kind (None: no reaction), late
    (the reaction came more than ``patience`` microseconds after the slate). The last reaction by position counts;
    one that was taken back does not. Slates without any reaction stay. Ordered by slate and rank.
    """
    shown = _shown(lake, after, upto)
    reactions = _reactions(lake, upto)
    key = [Columns.SLATE_ID, Columns.USER_ID, Columns.ITEM_ID]
    joined = shown.merge(reactions, how="left", on=key, validate="one_to_one")
    matched = int(joined["reacted_at"].notna().sum())
    joined["late"] = (joined["reacted_at"] - joined["shown_at"]).fillna(0) > patience
    joined[Columns.REWARD] = joined[Columns.REWARD].fillna(NO_REACTION).astype(np.float32)
    joined[Columns.KIND] = joined[Columns.KIND].astype(object).where(joined[Columns.KIND].notna(), None)
    columns = [*key, Columns.RANK, Columns.SCORE, Columns.PROPENSITY, Columns.REWARD, Columns.KIND, "late"]
    return Labels(joined[columns], len(reactions) - matched)


def _shown(lake: Lake, after: int, upto: int | None) -> pd.DataFrame:
    payloads = lake.events(after, upto, ("slate",), (Columns.PAYLOAD,))[Columns.PAYLOAD].to_pylist()
    rows = [
        (slate.event_id, slate.user_id, shown.item_id, rank, shown.score, shown.propensity, slate.event_timestamp)
        for slate in map(_SLATE.decode, payloads)
        for rank, shown in enumerate(slate.shown, start=1)
    ]
    names = [Columns.SLATE_ID, Columns.USER_ID, Columns.ITEM_ID, Columns.RANK, Columns.SCORE, Columns.PROPENSITY]
    kinds = dict(zip([*names, "shown_at"], [object] * 3 + [np.int64] + [np.float64] * 2 + [np.int64], strict=True))
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def _reactions(lake: Lake, upto: int | None) -> pd.DataFrame:
    """The last standing reaction to each (slate, user, item)."""
    kept = kept_events(lake.behaviour(0, upto).to_pandas())
    feedback = kept[kept[Columns.TYPE] == "feedback"].sort_values(Columns.POSITION)
    key = [Columns.SLATE_ID, Columns.USER_ID, Columns.ITEM_ID]
    last = feedback.drop_duplicates(key, keep="last")
    named = last[[*key, Columns.KIND, Columns.REWARD, Columns.EVENT_TIMESTAMP]]
    return named.rename(columns={Columns.EVENT_TIMESTAMP: "reacted_at"})
