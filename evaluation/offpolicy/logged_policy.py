"""Slates that a champion showed, as a log to judge a challenger by: how probable its own policy makes each of them.

The challenger scores the logged candidates of each slate by what the user had done by then (``states_at``), and its
policy tells how probable the shown list is. So the log judges how it ranks what the champion retrieved, not what it
would retrieve itself.

Slates are left out where the champion's scores are not the logged ones: the state is not what it was. Those for which
its policy gives the logged propensities again are counted (``restated``).

The live item profile of that moment (``attune.item_profile``) is in no training set. Where the champion uses it, it is
what the logged scores have beyond the champion's own, and the challenger is given the same. A wrong state can hide
there, up to the weight of that source. ``alike`` counts the slates that need no such explanation.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from attune.columns import USER_STATS, Columns
from attune.errors import DataContractError
from attune.event_types import centred
from evaluation.offpolicy.logs import SlateLog
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import HistoryBatch
from models.learning.dataset import BEFORE_ALL, Groups, Ragged, TrainingSet, histories
from models.ranking.policy import Pool
from models.recommender import EncodedUsers, features_of, scored
from models.sources import LIVE

UNKNOWN_ITEM = "a candidate that the training set lacks"
NO_CANDIDATE = "shows what is no candidate"
ANOTHER_STATE = "the state cannot be put together again"
NO_SCORE = "the challenger gives no score"

TOGETHER = 64
"""Slates scored at once: everything is scored, so in a large catalogue they are some hundred megabytes."""

ALIKE = 1e-4
"""How far scores may lie from the logged ones through rounding: other batches add in another order."""

NEAR = 0.01
"""And through statistics that were materialised at another hour: a fifth of the default temperature."""

RESTATED = 1e-6
"""How far, relatively, a propensity may lie from the logged one."""

_ALWAYS = np.iinfo(np.int64).max


@dataclass(frozen=True)
class LoggedSlates:
    """The log (None without any slate), what was left out by its reason, and on how many slates the champion agrees.

    It gives the scores of ``alike`` slates again, and the propensities of the ``restated``. Of ``shortened`` slates the
    lower positions do not count, see ``free``. ``feedback`` is what the folder says became of reactions, by its words.
    """

    log: SlateLog | None
    left_out: Mapping[str, int]
    alike: int = 0
    restated: int = 0
    shortened: int = 0
    feedback: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Slate:
    """One slate; ``shown_K`` are places among its candidates."""

    user_id: str
    moment: int
    state_position: int
    candidates: list[str]
    scores_C: np.ndarray
    shown_K: np.ndarray
    propensities_K: np.ndarray
    rewards_K: np.ndarray
    k: int
    seed: int
    explored: int
    free: int


@dataclass(frozen=True)
class _Row:
    """A slate with the challenger's chances, and whether the champion agrees with what was logged."""

    slate: _Slate
    chances_K: np.ndarray
    is_alike: bool
    is_restated: bool


@dataclass(frozen=True)
class _Scores:
    """A bundle's own scores, features and vectors of a slate's candidates, without the live item profile."""

    scores_C: np.ndarray
    features_CF: np.ndarray | None
    vectors_CD: np.ndarray | None


def logged_slates(
    folder: Path, training_set: TrainingSet, challenger: Bundle, champion: Bundle, after: int = BEFORE_ALL
) -> LoggedSlates:
    """The champion's slates of a folder (see ``features.logged_slates``) as a log for the challenger.

    Only slates shown after the moment ``after`` count: there the challenger's training must have ended. Rewards are
    centred. The training set must reach as far as the slates. Raises DataContractError where the folder lacks a file.
    """
    try:
        stated = json.loads((folder / "slates.json").read_text())
        left_out, feedback = Counter(stated["left_out"]), stated["feedback"]
    except (OSError, ValueError, KeyError) as error:
        raise DataContractError(f"{folder} holds no logged slates: {error!r}; build it again") from error
    bundles = [_with_items(bundle, training_set.catalogue) for bundle in (challenger, champion)]
    users, rows = pd.Index(training_set.user_ids), list[_Row]()
    for batch in pq.ParquetFile(folder / "slates.parquet").iter_batches(TOGETHER):
        slates = []
        for slate in (_slate(row) for row in batch.to_pylist() if row[Columns.EVENT_TIMESTAMP] > after):
            if (slate.shown_K < 0).any():
                left_out[NO_CANDIDATE] += 1
            elif not all((bundle.catalogue.places(slate.candidates) >= 0).all() for bundle in bundles):
                left_out[UNKNOWN_ITEM] += 1
            else:
                slates.append(slate)
        if slates:
            rows += _rows(slates, training_set, users, bundles, left_out)
    return LoggedSlates(
        _log(rows) if rows else None,
        {reason: count for reason, count in left_out.items() if count},
        sum(row.is_alike for row in rows),
        sum(row.is_restated for row in rows),
        sum(row.slate.free < len(row.slate.rewards_K) for row in rows),
        feedback,
    )


def _slate(row: Mapping[str, Any]) -> _Slate:
    places = {item_id: place for place, item_id in enumerate(row["candidates"])}
    policy, explored = row["policy"], row["policy"]["explored_before"] or 0
    return _Slate(
        user_id=row[Columns.USER_ID],
        moment=row[Columns.EVENT_TIMESTAMP],
        state_position=row["state_position"],
        candidates=row["candidates"],
        scores_C=np.array(row["scores"], np.float64),
        shown_K=np.array([places.get(item_id, -1) for item_id in row["items"]], np.int64),
        propensities_K=np.array(row["propensities"], np.float64),
        rewards_K=centred(np.array(row["rewards"], np.float64)),
        k=row["k"] or len(row["items"]),
        seed=policy["seed"] or 0,
        explored=explored,
        free=free(len(row["items"]), policy["budget"], explored),
    )


def free(shown: int, budget: int | None, explored: int) -> int:
    """How many of the positions shown were free to explore whatever was drawn above them, given what was left before.

    A position explores at most once, so a budget of which n are left cannot run out above position n + 1. Further down
    it may have: then the champion shows its best with certainty, which says nothing of other items. This end is known
    before the draw and the same for both policies, so their difference has no bias.
    """
    return shown if budget is None else min(max(budget - explored, 0), shown)


def _with_items(bundle: Bundle, items: Catalogue) -> Bundle:
    """The bundle over the training set's items too: as serving takes in what came after a training."""
    places = np.flatnonzero(bundle.catalogue.places(items.item_ids) < 0)
    return bundle.extended(items.unused(places)) if len(places) else bundle


def _rows(
    slates: Sequence[_Slate], training_set: TrainingSet, users: pd.Index, bundles: list[Bundle], left_out: Counter[str]
) -> list[_Row]:
    """The rows of those slates that count; ``left_out`` counts why each of the others does not."""
    at = (
        users.get_indexer([slate.user_id for slate in slates]),
        np.array([slate.state_position for slate in slates], np.int64),
        np.array([slate.moment for slate in slates], np.int64),
    )
    challenger, champion = bundles
    ours, theirs = (_scores(bundle, states_at(training_set, *at, bundle.catalogue), slates) for bundle in bundles)
    live, usable = champion.hybrid.live, list[tuple[_Slate, np.ndarray, Pool, Pool]]()
    for slate, own, champions in zip(slates, ours, theirs, strict=True):
        beyond_C = slate.scores_C - champions.scores_C
        live_C = (np.clip(beyond_C / live, -1.0, 1.0) if live else np.zeros(len(beyond_C))).astype(np.float32)
        pool = _pool(challenger, slate, own, live_C, own.scores_C + np.float32(challenger.hybrid.live) * live_C)
        if not np.isfinite(pool.scores_C).all():
            left_out[NO_SCORE] += 1
        elif not (np.abs(beyond_C) <= live + NEAR).all():
            left_out[ANOTHER_STATE] += 1
        else:
            usable.append((slate, beyond_C, pool, _pool(champion, slate, champions, live_C, slate.scores_C)))
    if not usable:
        return []
    counted, beyond, pools, champion_pools = zip(*usable, strict=True)
    shown = [slate.shown_K for slate in counted]
    chances = challenger.policy.propensities_of(pools, shown)
    stated = champion.policy.propensities_of(champion_pools, shown)
    return [
        _Row(
            slate,
            np.minimum(chances_K, 1.0),  # sums of floats may come out a rounding above
            bool((np.abs(beyond_C) <= ALIKE).all()),
            np.allclose(stated_K, slate.propensities_K, rtol=RESTATED, atol=0.0),
        )
        for slate, chances_K, stated_K, beyond_C in zip(counted, chances, stated, beyond, strict=True)
    ]


def _scores(bundle: Bundle, batch: HistoryBatch, slates: Sequence[_Slate]) -> list[_Scores]:
    places = [bundle.catalogue.places(slate.candidates) for slate in slates]
    policy, scores = bundle.policy, {}
    for part in scored(bundle, EncodedUsers(batch, bundle.hybrid.states(batch))):
        for at, row in enumerate(part.rows.tolist()):
            own = {name: row_1N[at : at + 1] if len(row_1N) > 1 else row_1N for name, row_1N in part.sources.items()}
            scores[row] = _Scores(
                part.mixed_BN[at, places[row]],
                features_of(policy.features, own, places[row]),
                bundle.likeness_ND[places[row]] if policy.needs_vectors else None,
            )
    return [scores[row] for row in range(len(slates))]


def _pool(bundle: Bundle, slate: _Slate, own: _Scores, live_C: np.ndarray, scores_C: np.ndarray) -> Pool:
    """What the bundle draws the slate from, by these scores."""
    features_CF, policy = own.features_CF, bundle.policy
    if features_CF is not None and LIVE in policy.features:
        features_CF = features_CF.copy()
        features_CF[:, policy.features.index(LIVE)] = live_C
    rng = np.random.default_rng(slate.seed)
    return Pool(scores_C, slate.k, rng, vectors_CD=own.vectors_CD, features_CF=features_CF, explored=slate.explored)


def _log(rows: Sequence[_Row]) -> SlateLog:
    lengths_S = np.array([len(row.slate.rewards_K) for row in rows])
    shown_SK = np.arange(lengths_S.max()) < lengths_S[:, None]

    def padded(parts: Sequence[np.ndarray], padding: float) -> np.ndarray:
        padded_SK = np.full(shown_SK.shape, padding)
        padded_SK[shown_SK] = np.concatenate(parts)
        return padded_SK

    whole = SlateLog(
        rewards_SK=padded([row.slate.rewards_K for row in rows], np.nan),
        propensities_SK=padded([row.slate.propensities_K for row in rows], 1.0),
        chances_SK=padded([row.chances_K for row in rows], 1.0),
        users_S=np.array([row.slate.user_id for row in rows], object),
    )
    return whole.upto(np.array([row.slate.free for row in rows]))


def states_at(
    training_set: TrainingSet, users_B: np.ndarray, positions_B: np.ndarray, moments_B: np.ndarray, catalogue: Catalogue
) -> HistoryBatch:
    """The users' latest events at log positions up to ``positions_B``, asked at ``moments_B`` (microseconds).

    ``users_B`` are places of the training set's users, -1 for somebody without any event; items refer to ``catalogue``.
    As in serving, an event that was logged later is not known, however early its date. Two things may differ from then:
    what a user took back since is left out, and the statistics are those before the user's latest event, where serving
    had those of the last materialisation.
    """
    starts_B, ends_B = training_set.known_before(users_B, np.full(len(users_B), _ALWAYS))
    lengths_B = ends_B - starts_B
    question_R = np.repeat(np.arange(len(users_B)), lengths_B)
    within_R = np.arange(len(question_R)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
    row_R = training_set.by_user[starts_B[question_R] + within_R]
    known_R = training_set.positions[row_R] <= positions_B[question_R]
    row_R, question_R = row_R[known_R], question_R[known_R]
    order = np.argsort(row_R, kind="stable")  # rows of a training set are in the order of time
    row_R, question_R = row_R[order], question_R[order]
    stats_BF = np.full((len(users_B), len(USER_STATS)), np.nan, np.float32)
    stats_BF[question_R] = training_set.user_stats_EF[row_R]  # the latest one stays
    nobody = len(users_B)  # has an event, so that there is one at all
    own = training_set.select(np.append(row_R, 0))
    own = replace(own, users=np.append(question_R, nobody))  # each question is a user of its own: they overlap
    none = Ragged(np.zeros(len(users_B) + 1, np.int64), np.zeros(0, np.int64))
    requests = Groups(np.arange(len(users_B)), np.full(len(users_B), _ALWAYS), stats_BF, none)
    return replace(histories(own, requests, catalogue=catalogue), now_B=moments_B)
