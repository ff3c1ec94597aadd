"""The protocol of a prequential replay: train and choose before the cut, replay every arm after it.

The first 60 % of the events train the model, those up to 70 % choose it, those up to 80 % choose preference and item
profile. Then every part learns from all of these, and the stream after them is judged: it decides nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

import numpy as np

from attune.clock import DAY
from attune.item_profile import ItemProfile
from attune.user_state import UserState, fold
from benchmarks.datasets import cut_at
from benchmarks.prequential import ItemMeasures, Tally, prequential, warm_up
from benchmarks.replay_arms import (
    Arm,
    Ease,
    FrozenAtCut,
    LiveHistory,
    LiveItemProfile,
    LivePopularity,
    LiveProfile,
    Neighbours,
    RecentPopularity,
    logged,
)
from benchmarks.replay_grid import OnlineGrid, OnlineSettings, search_grid
from benchmarks.replay_stream import StreamQueryBatch, StreamState, windows
from evaluation.gates.variety import genre_vectors, self_information
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import BEFORE_ALL, TrainingSet
from models.learning.training import learnable, panel_users, refit, train
from models.metrics import CUT
from models.network.config import Recipe
from models.network.sequence import torch_threads
from models.ranking.policy import PlackettLuce
from models.recommender import Request, SlateQuery, recommend_many

LEARNED, CHOSEN, JUDGED = 0.6, 0.7, 0.8
SAMPLED = 1_500
"""Events drawn to be asked alone as well; some are no targets, so somewhat fewer lists are compared."""

COMPARED = 1_000
LIVE, PREFERENCE, PROFILE, BOTH = "live history", "+ preference", "+ item profile", "+ both"
FROZEN_ARMS = {
    "frozen at the cut": LIVE,
    "item-kNN, frozen at the cut": "item-kNN",
    "linear item model, frozen at the cut": "linear item model",
}
"""The arms that are frozen, and the live arm that each of them once was."""

Key = tuple[int, int]
"""A user's place, and a moment."""


@dataclass(frozen=True)
class ReplayResult:
    """The arms' tallies, what was chosen, the seconds of each step, and the single requests.

    ``single_requests`` has for some arms how many lists were compared, and how many were those of single requests.
    """

    tallies: dict[str, Tally]
    online: OnlineSettings
    seconds: dict[str, float]
    single_requests: dict[str, tuple[int, int]]
    cut: int


class ListSample:
    """Keeps the lists that each arm answered to some queries."""

    def __init__(self, training_set: TrainingSet, after: int, number: int, seed: int) -> None:
        """Draws ``number`` events after a moment; those that are no targets are never asked for."""
        later = np.flatnonzero(training_set.times > after)
        drawn = np.random.default_rng(seed).choice(later, min(number, len(later)), replace=False)
        self.wanted = set(zip(training_set.users[drawn].tolist(), training_set.times[drawn].tolist(), strict=True))
        self.lists: dict[str, dict[Key, list[int]]] = {}
        self._turn = Lock()

    def __call__(self, arm: str, queries: StreamQueryBatch, lists_BK: np.ndarray) -> None:
        """A ``Listener``."""
        keys = zip(queries.users_B.tolist(), queries.histories.now_B.tolist(), strict=True)
        for row, key in enumerate(keys):
            if key in self.wanted:
                with self._turn:
                    self.lists.setdefault(arm, {})[key] = lists_BK[row].tolist()


ArmFactory = Callable[[Bundle, StreamState, TrainingSet], Arm]
"""Makes another arm from the model as of the cut, the stream state then (``copy`` it to keep it), and the events up to
the cut. An arm that learns on does so when a window closes, see ``benchmarks.replay_arms``."""


def run(
    training_set: TrainingSet,
    recipe: Recipe,
    seed: int,
    grid: OnlineGrid | None = None,
    extra_arms: Sequence[ArmFactory] = (),
) -> ReplayResult:
    """Train, choose and replay. ``extra_arms`` are arms beside the usual ones, whose names are theirs alone."""
    learned, chosen, cut = (cut_at(training_set, share) for share in (LEARNED, CHOSEN, JUDGED))
    began = time.perf_counter()
    trained = train(training_set, recipe, learned, chosen, seed)
    trained_at = time.perf_counter()
    state = StreamState(len(training_set.user_ids), trained.catalogue)
    before, stretch = windows(training_set, BEFORE_ALL, chosen), windows(training_set, chosen, cut)
    online = search_grid(trained.hybrid, state, before, stretch, grid or OnlineGrid())
    decided = time.perf_counter()
    with TemporaryDirectory(prefix="attune-replay-") as folder:
        bundle = _bundle(training_set, trained.hybrid, recipe, chosen, cut, seed, Path(folder) / "bundle")
    refitted = time.perf_counter()
    sample = ListSample(training_set, cut, SAMPLED, seed)
    tallies = _replay(bundle, training_set, cut, online, sample, extra_arms)
    judged = time.perf_counter()
    with torch_threads(1):  # as in serving
        singles = _compare_single_requests(bundle, training_set, online, sample)
    ends = [began, trained_at, decided, refitted, judged, time.perf_counter()]
    steps = ("training", "choosing what is felt", "learning up to the cut", "replay", "single requests")
    spent = {step: ends[place + 1] - ends[place] for place, step in enumerate(steps)}
    return ReplayResult({one.name: one for one in tallies}, online, spent, singles, cut)


def _bundle(
    training_set: TrainingSet, hybrid: Hybrid, recipe: Recipe, chosen: int, cut: int, seed: int, folder: Path
) -> Bundle:
    """The model brought up to the cut, written and read again as serving reads it."""
    known = learnable(training_set, cut)
    final = replace(refit(known, hybrid, chosen, recipe, seed), preference=None, live=0.0)
    window = {"digest": "", "feature_service": "", "rows": len(known)}
    last = int(known.positions.max())
    provenance = Provenance(recipe.as_dict(), window, last, last, seed, panel_users(known), holdout_after_time=cut)
    golden = golden_batch(known, cut, known.catalogue)
    return Bundle.load(save_bundle(folder, final, known.catalogue, PlackettLuce(), provenance, golden))


def arm_hybrids(hybrid: Hybrid, online: OnlineSettings) -> dict[str, Hybrid]:
    """The one model with the online settings of each live arm."""
    return {
        LIVE: hybrid,
        PREFERENCE: replace(hybrid, preference=online.preference),
        PROFILE: replace(hybrid, live=online.profile.weight),
        BOTH: replace(hybrid, preference=online.preference, live=online.profile.weight),
    }


def _replay(
    bundle: Bundle,
    training_set: TrainingSet,
    cut: int,
    online: OnlineSettings,
    sample: ListSample,
    extra_arms: Sequence[ArmFactory],
) -> list[Tally]:
    """Every arm on the stream after the cut."""
    stream = replace(training_set, catalogue=bundle.catalogue)
    items, upto = len(bundle.catalogue), int(stream.times.max())
    state = StreamState(len(stream.user_ids), bundle.catalogue)
    named = arm_hybrids(bundle.hybrid, online)
    popularity = RecentPopularity(LivePopularity(items, online.popularity_days))
    profiled = [
        LiveItemProfile(named[name], LiveProfile(items, online.profile.half_life_days), online.profile.prior, name)
        for name in (PROFILE, BOTH)
    ]
    warm_up(state, [popularity, *profiled], windows(stream, BEFORE_ALL, cut))
    neighbours, live = Neighbours(bundle.hybrid.knn), [LiveHistory(named[name], name) for name in (LIVE, PREFERENCE)]
    before, at_cut = stream.select(stream.times <= cut), state.copy()
    linear = Ease.fit(before)
    alive = {arm.name: arm for arm in (*live, neighbours, linear)}
    frozen = [FrozenAtCut(alive[name], at_cut, of_old) for of_old, name in FROZEN_ARMS.items()]
    others = [make(bundle, state, before) for make in extra_arms]
    arms: Sequence[Arm] = (popularity, neighbours, linear, *frozen, *live, *profiled, *others)
    measures = ItemMeasures(self_information(before), genre_vectors(bundle.catalogue))
    return prequential(state, arms, windows(stream, cut, upto), measures, sample)


def _compare_single_requests(
    bundle: Bundle, training_set: TrainingSet, online: OnlineSettings, sample: ListSample
) -> dict[str, tuple[int, int]]:
    """Of the live arms how many lists were compared with single requests, and how many were equal."""
    result = {}
    for name, hybrid in arm_hybrids(bundle.hybrid, online).items():
        keys = sorted(sample.lists[name])[:COMPARED]
        lists = {key: sample.lists[name][key] for key in keys}
        profile = ItemProfile(half_life=round(online.profile.half_life_days * DAY), prior=online.profile.prior)
        served = replace(bundle, hybrid=hybrid)
        result[name] = (
            len(lists),
            count_equal(served, training_set, lists, profile if hybrid.live else None),
        )
    return result


def count_equal(
    bundle: Bundle, training_set: TrainingSet, lists: Mapping[Key, list[int]], profile: ItemProfile | None = None
) -> int:
    """How many of the lists are those of the pipeline, asked alone, before it draws; ratings alone are understood.

    ``profile`` is empty at first; it is given every event strictly before each query.
    """
    same, told = 0, 0
    for user, moment in sorted(lists, key=lambda key: key[1]):
        live_1N = None
        if profile is not None:
            until = int(np.searchsorted(training_set.times, moment, side="left"))
            profile.fold(logged(training_set, range(told, until)))
            told = until
            live_1N = profile.scores(bundle.catalogue.item_ids, moment)[None]
        same += _single_request(bundle, training_set, user, moment, live_1N) == lists[user, moment]
    return same


def _single_request(
    bundle: Bundle, training_set: TrainingSet, user: int, moment: int, live_1N: np.ndarray | None
) -> list[int]:
    """The places of the ten best candidates of one request."""
    (start,), (end,) = training_set.known_before(np.array([user]), np.array([moment]))
    own = training_set.by_user[start:end]
    state = fold(UserState(str(training_set.user_ids[user])), logged(training_set, own.tolist()))
    at_moment = training_set.by_user[end]  # the first event of the group: its statistics are those of the query
    asked = SlateQuery(state, training_set.user_stats_EF[at_moment], Request(CUT, now=moment, seed=0))
    (answer,) = recommend_many(bundle, [asked], live_1N=live_1N)
    return bundle.catalogue.places([one.item_id for one in answer.candidates[:CUT]]).tolist()
