"""Joins impressions to the reactions to them, window by window, each exactly once.

A window is the log's positions (after, upto]. It labels its own slates with the feedback logged by its end, and
corrects the labels of earlier slates that feedback in it changed: late reactions, take-backs, changed minds. Reading
window after window, later labels replacing earlier ones, gives the labels of one window over the whole log.

The last reaction to an item counts; earlier ones stay in ``history``. Feedback that does not count is set aside with
the reason. Silence is worth ``SILENCE``, finally once the attribution window has passed (``settled``).

Training sets use ``that_counts``, so feedback that is set aside teaches no model either.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from attune.clock import DAY, MINUTE
from attune.columns import Columns
from attune.event_types import RETRACT, SEEN_KINDS, SILENCE, centred
from attune.events import IMPORTED, LIVE
from attune.influence import MOST_A_MINUTE
from features.lake import BEHAVIOUR, CHUNK, SCHEMA, Lake
from features.stats import rewards, take_backs

KEY = [Columns.SLATE_ID, Columns.USER_ID, Columns.ITEM_ID]
"""What a reaction is to: one item of one slate, by the user whom the slate was made for."""

NEVER = int(np.iinfo(np.int64).max)
"""The position of the take-back of what was never taken back."""

TAKEN_BACK_AT, REASON = "taken_back_at", "reason"

OUT_OF_RANGE = "reward outside 0 to 1"
BURST = "burst"
UNKNOWN_SLATE = "unknown slate"
ANOTHER_USER = "another user's slate"
NOT_SHOWN = "not on the slate"
BY_ITSELF = (OUT_OF_RANGE, BURST)
"""Why feedback does not count whatever its slate says: this follows from what the user sent alone."""

REASONS = (*BY_ITSELF, UNKNOWN_SLATE, ANOTHER_USER, NOT_SHOWN)
"""Why feedback is set aside, in the order in which they are looked for."""

WITHDRAWN = "withdrawn"

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
_ROWS = pa.schema([
    *((SLATE_POSITION, pa.int64()), (Columns.SLATE_ID, pa.string()), (Columns.USER_ID, pa.string())),
    *((SHOWN_AT, pa.int64()), *_MADE_BY, (Columns.RANK, pa.int64()), *_FIELDS),
])  # fmt: skip

LABELS = [
    *(*KEY, Columns.MODEL_VERSION, Columns.SERVED_BY, Columns.RANK, Columns.SCORE, Columns.PROPENSITY),
    *(Columns.REWARD, Columns.KIND, "late", "settled"),
]
HISTORY = [Columns.POSITION, Columns.EVENT_ID, *KEY, Columns.KIND, Columns.VALUE, Columns.REWARD, "late", "stands"]
SET_ASIDE = [Columns.POSITION, Columns.EVENT_ID, *KEY, Columns.KIND, Columns.VALUE, REASON]
ORGANIC = [Columns.POSITION, Columns.EVENT_ID, Columns.USER_ID, Columns.ITEM_ID, Columns.KIND, "prompted"]

_BEHAVIOUR = [
    *(Columns.POSITION, Columns.LOGGED_AT, Columns.TYPE, Columns.EVENT_ID, Columns.EVENT_TIMESTAMP, Columns.USER_ID),
    *(Columns.ITEM_ID, Columns.KIND, Columns.VALUE, Columns.SLATE_ID, Columns.RETRACTS, Columns.PAYLOAD),
]
_SLATES = [Columns.POSITION, Columns.LOGGED_AT, Columns.EVENT_ID, Columns.USER_ID, Columns.EVENT_TIMESTAMP]


@dataclass(frozen=True)
class Terms:
    """What counts as a reaction to a slate.

    ``patience`` is the attribution window in microseconds: silence until then says nothing for good, and feedback that
    came later is called late. ``reach`` is how many positions before a window slates are looked for. ``most_a_minute``
    is how many reactions of one user that carry the same minute count; the further ones are a script's, not a person's.
    In training sets and statistics it holds for interactions that came in over HTTP too, on their own.
    Raises ValueError for a number that is not positive.
    """

    patience: int = DAY
    reach: int = 1_000_000
    most_a_minute: int = MOST_A_MINUTE

    def __post_init__(self) -> None:
        for name in ("patience", "reach", "most_a_minute"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Labels:
    """What one window says.

    ``frame`` has a row for each item that the window's slates showed, reactions or none, by slate and rank: slate_id,
    user_id, item_id, model_version and served_by (by whose scores), rank (from 1), score, propensity, reward in [0, 1],
    kind (None: silence), late (the reaction came after the attribution window), settled (that window has passed).
    ``earlier`` has the same columns and ``before``, the reward that was told last: the items of slates of earlier
    windows whose last word changed in this one.
    ``history`` has each reaction logged in the window that found its item, ``stands`` where it is the last word.
    ``set_aside`` has the feedback logged in the window that does not count, with the ``reason``. (A reaction that was
    logged before its slate is an unknown slate's in its own window and counts in the slate's.)
    ``organic`` has what users did outside slates in the window; ``prompted`` where a slate had shown the item to that
    user within the attribution window before, so that it may be the slate's doing.
    ``settled_upto`` is the last position up to which every slate is settled: who wants final labels alone starts the
    next window there. ``counts`` has a number for each of this, zeros included.
    """

    frame: pd.DataFrame
    earlier: pd.DataFrame
    history: pd.DataFrame
    set_aside: pd.DataFrame
    organic: pd.DataFrame
    settled_upto: int

    @property
    def counts(self) -> dict[str, int]:
        """Rows by what became of them; the reasons of ``REASONS`` among them."""
        silent = self.frame.groupby(Columns.SLATE_ID)[Columns.KIND].count() == 0
        reasons = self.set_aside[REASON].value_counts()
        bounds = self.history.groupby(KEY)[Columns.REWARD].agg(["min", "max"])  # a yes and a no contradict each other
        return {
            "shown": len(self.frame),
            "slates": len(silent),
            "slates without reaction": int(silent.sum()),
            "reactions": len(self.history),
            "late reactions": int(self.history["late"].sum()),
            "changed later": len(self.earlier),
            "contradicted": int(((bounds["min"] < SILENCE) & (bounds["max"] > SILENCE)).sum()),
            **{reason: int(reasons.get(reason, 0)) for reason in REASONS},
            "organic": int((~self.organic["prompted"]).sum()),
            "prompted": int(self.organic["prompted"].sum()),
        }


def labels(
    lake: Lake, after: int = 0, upto: int | None = None, terms: Terms | None = None, imported: bool = False
) -> Labels:
    """What the window of the positions (after, upto] says (upto: all that the lake holds).

    Reads the window and the ``reach`` before it, and of the slates in it only those that are spoken of: feedback on a
    slate of before that is set aside as an unknown slate's. The slates are those that attune made, or with ``imported``
    those of other systems, never both: the scores of those are NaN, as are propensities that are not known.
    """
    terms, upto = terms or Terms(), lake.watermark() if upto is None else upto
    start = max(after - terms.reach, 0)
    slates = slates_between(lake, start, upto)
    is_wanted = slates[Columns.KIND] == IMPORTED if imported else slates[Columns.KIND].isna()
    slates, others = slates[is_wanted], slates[~is_wanted]
    stretch = lake.events(start, upto, BEHAVIOUR, _BEHAVIOUR)  # before the window only feedback and take-backs count
    needed = pc.or_(pc.equal(stretch[Columns.TYPE], "feedback"), pc.equal(stretch[Columns.KIND], RETRACT))
    behaviour = stretch.filter(pc.or_(needed, pc.greater(stretch[Columns.POSITION], after))).to_pandas()
    feedback = reactions(behaviour, terms)
    feedback = feedback[~feedback[Columns.SLATE_ID].isin(others[Columns.EVENT_ID])]
    organic = behaviour[
        (behaviour[Columns.TYPE] == "interaction")
        & (behaviour[Columns.POSITION] > after)
        & behaviour[Columns.KIND].isin(SEEN_KINDS)
    ]
    now = pd.concat([slates[Columns.LOGGED_AT], behaviour[Columns.LOGGED_AT]]).max() if len(slates) else 0
    shown = shown_at(lake, _spoken_of(slates, feedback, organic, after, terms))
    if imported:
        shown[Columns.SCORE] = np.nan
        shown[Columns.PROPENSITY] = shown[Columns.PROPENSITY].where(shown[Columns.PROPENSITY] > 0)
    shown["settled"] = shown[SHOWN_AT] + terms.patience <= now
    of_these = feedback[feedback[Columns.SLATE_ID].isin(shown[Columns.SLATE_ID])]
    shown_items = shown[[*KEY, SHOWN_AT, SLATE_POSITION]].drop_duplicates(KEY)
    history = of_these[of_these[REASON].isna()].merge(shown_items, on=KEY)
    news = history[[Columns.POSITION, SLATE_POSITION]].max(axis=1) > after  # logged in the window, or before its slate
    history = history[news].sort_values(Columns.POSITION, ignore_index=True)
    history["late"] = history[Columns.EVENT_TIMESTAMP] - history[SHOWN_AT] > terms.patience
    stands = standing(of_these, upto)
    is_open = (slates[Columns.POSITION] > after) & (slates[Columns.EVENT_TIMESTAMP] > now - terms.patience)
    unsettled = slates.loc[is_open, Columns.POSITION]
    history["stands"] = history[Columns.EVENT_ID].isin(stands[Columns.EVENT_ID])
    return Labels(
        frame=_labelled(shown[shown[SLATE_POSITION] > after], stands, terms)[LABELS],
        earlier=_changed(shown[shown[SLATE_POSITION] <= after], stands, standing(of_these, after), terms),
        history=history[HISTORY],
        set_aside=_set_aside(feedback[feedback[Columns.POSITION] > after], slates, history),
        organic=_prompted(organic, shown, terms),
        settled_upto=int(unsettled.min()) - 1 if len(unsettled) else upto,
    )


def slates_between(lake: Lake, after: int, upto: int) -> pd.DataFrame:
    """The slates at positions (after, upto]: position, logged_at, event_id, user_id, event_timestamp, kind.

    The ``kind`` is None for a slate of attune's own, ``IMPORTED``, or ``WITHDRAWN`` with its import.
    """
    slates = lake.events(after, upto, ("slate",), [*_SLATES, Columns.KIND]).to_pandas()
    imported = slates[slates[Columns.KIND] == IMPORTED]
    if len(imported):
        facts = [Columns.USER_ID, Columns.POSITION, Columns.EVENT_TIMESTAMP, Columns.KIND, Columns.RETRACTS]
        backs = take_backs(lake.events(after, upto, BEHAVIOUR, facts).to_pandas(), imported)
        slates.loc[slates[Columns.EVENT_ID].isin(backs[Columns.EVENT_ID]), Columns.KIND] = WITHDRAWN
    return slates


def slate_returns(frame: pd.DataFrame) -> pd.Series:
    """What each slate brought, by slate_id: the sum of the centred rewards (``attune.event_types``) of its items.

    Centred, because silence must be worth nothing: by the plain reward a slate of twenty that is ignored would be
    worth ten likes, and whoever shows more would win.
    """
    rewards = pd.Series(centred(frame[Columns.REWARD].to_numpy()), frame.index, name=Columns.REWARD)
    return rewards.groupby(frame[Columns.SLATE_ID], sort=False).sum()


def reactions(behaviour: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """The feedback among the behaviour (in the order of positions), take-backs left out.

    Adds ``reward`` (float32), ``taken_back_at`` (the position of its user's first take-back, or ``NEVER``) and
    ``reason`` (``OUT_OF_RANGE``, ``BURST`` or None).
    """
    feedback = behaviour[_is_reaction(behaviour)].reset_index(drop=True)
    worth = rewards(feedback[Columns.KIND], feedback[Columns.VALUE])
    first_back = take_backs(behaviour, feedback).groupby(Columns.EVENT_ID)[f"{Columns.POSITION}_of_retract"].min()
    return feedback.assign(
        **{
            Columns.REWARD: worth.astype(np.float32),
            TAKEN_BACK_AT: first_back.reindex(feedback[Columns.EVENT_ID], fill_value=NEVER).to_numpy(np.int64),
            REASON: _reasons(feedback, worth, terms),
        }
    )


def that_counts(behaviour: pd.DataFrame, terms: Terms) -> tuple[pd.DataFrame, dict[str, int]]:
    """The behaviour without what does not count ``BY_ITSELF``, and how many events each reason left out.

    ``behaviour`` is the log from its first position on, in the order of positions: an event's verdict follows from
    those before it alone, so nothing that is logged later changes it, however early it is dated. What came in over
    HTTP is looked at, feedback and interactions (``LIVE``); what was imported all stays: a history has whole sessions
    in one minute.
    """
    is_live = (behaviour[Columns.PAYLOAD] == LIVE) & (behaviour[Columns.KIND] != RETRACT)
    is_feedback = _is_reaction(behaviour) & (behaviour[Columns.PAYLOAD] != IMPORTED)
    is_reaction = (is_feedback | is_live).to_numpy()
    feedback = behaviour[is_reaction]
    reasons = _reasons(feedback, rewards(feedback[Columns.KIND], feedback[Columns.VALUE]), terms)
    stays = np.ones(len(behaviour), bool)
    stays[is_reaction] = pd.isna(reasons)
    return behaviour[stays].reset_index(drop=True), {reason: int((reasons == reason).sum()) for reason in BY_ITSELF}


def standing(feedback: pd.DataFrame, upto: int) -> pd.DataFrame:
    """The last word on each slate, user and item as the log stood at ``upto``: one row for each ``KEY`` at most.

    It is the last by its own time: what an import brings later was said before.
    """
    counts = feedback[REASON].isna() & (feedback[Columns.POSITION] <= upto) & (feedback[TAKEN_BACK_AT] > upto)
    in_order = feedback[counts].sort_values([Columns.EVENT_TIMESTAMP, Columns.POSITION])
    return in_order.drop_duplicates(KEY, keep="last")


def shown_at(lake: Lake, positions: np.ndarray) -> pd.DataFrame:
    """The items of the slates at these log positions (int64, ascending), in the order of position and rank.

    Columns slate_position, slate_id, user_id, shown_at, model_version, served_by, rank (from 1), item_id, score,
    propensity. Only the stretches of the lake that hold one of the slates are read, a file at a time.
    """
    parts = [_ROWS.empty_table()]
    for slates in slates_at(lake, positions):
        parsed = payloads(slates, _PAYLOAD)
        shown = parsed["shown"].combine_chunks()
        of_slate, ranks = places(shown)
        head = [slates[name].take(of_slate) for name in HEAD]
        made_by = [parsed[name].take(of_slate) for name, _ in _MADE_BY]
        items = pc.list_flatten(shown)
        fields = [pc.struct_field(items, name) for name, _ in _FIELDS]
        parts.append(pa.table([*head, *made_by, pa.array(ranks, pa.int64()), *fields], schema=_ROWS))
    return pa.concat_tables(parts).to_pandas()


def slates_at(lake: Lake, positions: np.ndarray) -> Iterator[pa.RecordBatch]:
    """The slates at these log positions (int64, ascending), some thousands at a time: ``HEAD`` and the payload."""
    for run in np.split(positions, np.flatnonzero(np.diff(positions) > CHUNK) + 1) if len(positions) else []:
        for piece in lake.pieces(int(run[0]) - 1, int(run[-1]), ("slate",), (*HEAD, Columns.PAYLOAD)):
            wanted = pc.is_in(piece[Columns.POSITION], pa.array(run, SCHEMA.field(Columns.POSITION).type))
            yield from piece.filter(wanted).to_batches(max_chunksize=_TOGETHER)


def payloads(slates: pa.RecordBatch, schema: pa.Schema) -> pa.Table:
    """These fields of the slates' payloads, a row each; null where a slate does not name one."""
    text = "\n".join(slates[Columns.PAYLOAD].to_pylist()).encode()
    read = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    return pj.read_json(pa.BufferReader(text), read, parse).combine_chunks()


def places(lists: pa.ListArray) -> tuple[pa.Array, np.ndarray]:
    """The row of its list, and its rank there (from 1), for each element of the lists; a null list has none."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return pa.array(rows), np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1


def _spoken_of(
    slates: pd.DataFrame, feedback: pd.DataFrame, organic: pd.DataFrame, after: int, terms: Terms
) -> np.ndarray:
    """The positions of the slates whose items are needed: the window's own, those that the window's feedback or
    take-backs name, and those that its interactions may have followed from."""
    taken_back = (feedback[TAKEN_BACK_AT] > after) & (feedback[TAKEN_BACK_AT] < NEVER)
    named = feedback.loc[(feedback[Columns.POSITION] > after) | taken_back, Columns.SLATE_ID]
    since = organic.groupby(Columns.USER_ID)[Columns.EVENT_TIMESTAMP].min() - terms.patience
    wanted = (
        (slates[Columns.POSITION] > after)
        | slates[Columns.EVENT_ID].isin(named)
        | (slates[Columns.EVENT_TIMESTAMP] >= slates[Columns.USER_ID].map(since))
    )
    return slates.loc[wanted, Columns.POSITION].to_numpy(np.int64)


def _labelled(shown: pd.DataFrame, stands: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Each shown item with the last word on it, or silence."""
    words = stands[[*KEY, Columns.KIND, Columns.REWARD, Columns.EVENT_ID, Columns.EVENT_TIMESTAMP]]
    joined = shown.merge(words, how="left", on=KEY, validate="many_to_one")
    joined["late"] = joined[Columns.EVENT_TIMESTAMP] - joined[SHOWN_AT] > terms.patience
    joined[Columns.REWARD] = joined[Columns.REWARD].fillna(SILENCE).astype(np.float32)
    joined[Columns.KIND] = joined[Columns.KIND].astype(object).where(joined[Columns.KIND].notna(), None)
    return joined


def _changed(shown: pd.DataFrame, stands: pd.DataFrame, stood: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    """Those of the earlier slates' items on which the last word is another than at the end of the window before."""
    earlier = stood[[*KEY, Columns.EVENT_ID, Columns.REWARD]]
    earlier = earlier.rename(columns={Columns.EVENT_ID: "earlier_id", Columns.REWARD: "before"})
    joined = _labelled(shown, stands, terms).merge(earlier, how="left", on=KEY, validate="many_to_one")
    changed = joined[Columns.EVENT_ID].fillna("") != joined["earlier_id"].fillna("")
    joined["before"] = joined["before"].fillna(SILENCE).astype(np.float32)
    return joined.loc[changed, [*LABELS, "before"]].reset_index(drop=True)


def _set_aside(feedback: pd.DataFrame, slates: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    owner = feedback[Columns.SLATE_ID].map(slates.set_index(Columns.EVENT_ID)[Columns.USER_ID])
    reason = feedback[REASON].mask(feedback[REASON].isna() & owner.isna(), UNKNOWN_SLATE)
    reason = reason.mask(reason.isna() & (owner != feedback[Columns.USER_ID]), ANOTHER_USER)
    reason = reason.mask(reason.isna() & ~feedback[Columns.EVENT_ID].isin(history[Columns.EVENT_ID]), NOT_SHOWN)
    return feedback.assign(**{REASON: reason}).loc[reason.notna(), SET_ASIDE].reset_index(drop=True)


def _prompted(organic: pd.DataFrame, shown: pd.DataFrame, terms: Terms) -> pd.DataFrame:
    key = [Columns.USER_ID, Columns.ITEM_ID]
    joined = organic[[*key, Columns.EVENT_ID, Columns.EVENT_TIMESTAMP]].merge(shown[[*key, SHOWN_AT]], on=key)
    waited = joined[Columns.EVENT_TIMESTAMP] - joined[SHOWN_AT]
    followed = joined.loc[(waited >= 0) & (waited <= terms.patience), Columns.EVENT_ID]
    return organic.assign(prompted=organic[Columns.EVENT_ID].isin(followed))[ORGANIC].reset_index(drop=True)


def _is_reaction(behaviour: pd.DataFrame) -> pd.Series:
    return (behaviour[Columns.TYPE] == "feedback") & (behaviour[Columns.KIND] != RETRACT)


def _reasons(feedback: pd.DataFrame, worth: np.ndarray, terms: Terms) -> np.ndarray:
    """Which of the reasons ``BY_ITSELF`` holds for each reaction, or None (object array)."""
    minute = feedback[Columns.EVENT_TIMESTAMP] // MINUTE
    turn = feedback.groupby([feedback[Columns.USER_ID], feedback[Columns.TYPE], minute]).cumcount().to_numpy()
    reason = np.full(len(feedback), None, object)
    reason[(turn >= terms.most_a_minute) & (feedback[Columns.PAYLOAD] != IMPORTED).to_numpy()] = BURST
    reason[~((worth >= 0.0) & (worth <= 1.0))] = OUT_OF_RANGE
    return reason
