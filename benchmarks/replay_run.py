"""One world through the replay: a model from before the cut, what is felt at once chosen there too, then every arm.

The first 60 % of the events teach, up to 70 % choose the model, up to 80 % choose preference and item profile. Then
every part learns from all of these, and the stream after them is judged: nothing in it decides anything.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from attune.clock import DAY
from attune.item_profile import ItemProfile
from benchmarks import replay_singles
from benchmarks.arms import Arm, Frozen, Live, LiveItems, Neighbours, RecentPopularity
from benchmarks.choosing import Felt, FeltGrid, choose_felt
from benchmarks.decayed import LivePopularity, LiveProfile
from benchmarks.linear import LinearItems
from benchmarks.prequential import Yardsticks, prequential, warm
from benchmarks.replay_worlds import cut_at
from benchmarks.stream import Memory, windows
from benchmarks.tally import Tally
from evaluation.gates.variety import genre_vectors, self_information
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.learning.training import learnable, panel_users, refit, train
from models.network.config import Recipe
from models.network.sequence import torch_threads
from models.ranking.policy import PlackettLuce

LEARNED, CHOSEN, CUT = 0.6, 0.7, 0.8
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


@dataclass(frozen=True)
class Found:
    """What a replay found: the arms' tallies, what was chosen, the seconds of each step, and the single requests.

    ``alone`` has for some arms how many lists were compared, and how many were those of single requests.
    """

    tallies: dict[str, Tally]
    felt: Felt
    seconds: dict[str, float]
    alone: dict[str, tuple[int, int]]
    cut: int


More = Callable[[Bundle, Memory, TrainingSet], Arm]
"""Makes another arm of the model as of the cut, of what is remembered then (a copy to keep is ``Memory.copy``), and of
the events up to the cut. One that learns on does so when a window closes, see ``benchmarks.arms``."""


def replayed(
    training_set: TrainingSet, recipe: Recipe, seed: int, grid: FeltGrid | None = None, more: Sequence[More] = ()
) -> Found:
    """Train, choose and replay. ``more`` are arms beside the usual ones, whose names are theirs alone."""
    learned, chosen, cut = (cut_at(training_set, share) for share in (LEARNED, CHOSEN, CUT))
    began = time.perf_counter()
    trained = train(training_set, recipe, learned, chosen, seed)
    taught = time.perf_counter()
    memory = Memory(len(training_set.user_ids), trained.catalogue)
    before, stretch = windows(training_set, 0, chosen), windows(training_set, chosen, cut)
    felt = choose_felt(trained.hybrid, memory, before, stretch, grid or FeltGrid())
    decided = time.perf_counter()
    with TemporaryDirectory(prefix="attune-replay-") as folder:
        bundle = _bundle(training_set, trained.hybrid, recipe, chosen, cut, seed, Path(folder) / "bundle")
    refitted = time.perf_counter()
    witness = replay_singles.Witness(training_set, cut, SAMPLED, seed)
    tallies = _judged(bundle, training_set, cut, felt, witness, more)
    judged = time.perf_counter()
    with torch_threads(1):  # as in serving
        alone = _alone(bundle, training_set, felt, witness)
    ends = [began, taught, decided, refitted, judged, time.perf_counter()]
    steps = ("training", "choosing what is felt", "learning up to the cut", "replay", "single requests")
    spent = {step: ends[place + 1] - ends[place] for place, step in enumerate(steps)}
    return Found({one.name: one for one in tallies}, felt, spent, alone, cut)


def _bundle(
    training_set: TrainingSet, hybrid: Hybrid, recipe: Recipe, chosen: int, cut: int, seed: int, folder: Path
) -> Bundle:
    """The model brought up to the cut, written and read again as serving reads it."""
    known = learnable(training_set, cut)
    final = replace(refit(known, hybrid, chosen, recipe, seed), preference=None, live=0.0)
    window = {"digest": "", "feature_service": "", "rows": len(known)}
    provenance = Provenance(recipe.as_dict(), window, int(known.positions.max()), cut, seed, panel_users(known))
    golden = golden_batch(known, cut, known.catalogue)
    return Bundle.load(save_bundle(folder, final, known.catalogue, PlackettLuce(), provenance, golden))


def hybrids(hybrid: Hybrid, felt: Felt) -> dict[str, Hybrid]:
    """The one model with what is felt at once by each live arm."""
    return {
        LIVE: hybrid,
        PREFERENCE: replace(hybrid, preference=felt.preference),
        PROFILE: replace(hybrid, live=felt.profile.weight),
        BOTH: replace(hybrid, preference=felt.preference, live=felt.profile.weight),
    }


def _judged(
    bundle: Bundle,
    training_set: TrainingSet,
    cut: int,
    felt: Felt,
    witness: replay_singles.Witness,
    more: Sequence[More],
) -> list[Tally]:
    """Every arm on the stream after the cut."""
    stream = replace(training_set, catalogue=bundle.catalogue)
    items, upto = len(bundle.catalogue), int(stream.positions.max())
    memory = Memory(len(stream.user_ids), bundle.catalogue)
    named = hybrids(bundle.hybrid, felt)
    popularity = RecentPopularity(LivePopularity(items, felt.popularity_days))
    profiled = [
        LiveItems(named[name], LiveProfile(items, felt.profile.half_life_days), felt.profile.prior, name)
        for name in (PROFILE, BOTH)
    ]
    warm(memory, [popularity, *profiled], windows(stream, 0, cut))
    neighbours, live = Neighbours(bundle.hybrid.knn), [Live(named[name], name) for name in (LIVE, PREFERENCE)]
    before, at_cut = stream.select(stream.positions <= cut), memory.copy()
    linear = LinearItems.fit(before)
    alive = {arm.name: arm for arm in (*live, neighbours, linear)}
    frozen = [Frozen(alive[name], at_cut, of_old) for of_old, name in FROZEN_ARMS.items()]
    others = [make(bundle, memory, before) for make in more]
    arms: Sequence[Arm] = (popularity, neighbours, linear, *frozen, *live, *profiled, *others)
    yardsticks = Yardsticks(self_information(before), genre_vectors(bundle.catalogue))
    return prequential(memory, arms, windows(stream, cut, upto), yardsticks, witness)


def _alone(
    bundle: Bundle, training_set: TrainingSet, felt: Felt, witness: replay_singles.Witness
) -> dict[str, tuple[int, int]]:
    """Of the live arms how many lists were compared with single requests, and how many were equal."""
    found = {}
    for name, hybrid in hybrids(bundle.hybrid, felt).items():
        keys = sorted(witness.lists[name])[:COMPARED]
        lists = {key: witness.lists[name][key] for key in keys}
        profile = ItemProfile(half_life=round(felt.profile.half_life_days * DAY), prior=felt.profile.prior)
        served = replace(bundle, hybrid=hybrid)
        found[name] = (
            len(lists),
            replay_singles.equal(served, training_set, lists, profile if hybrid.live else None),
        )
    return found
