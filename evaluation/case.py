"""A case: a challenger, those it is compared with, and the events it is judged on. What gates ask is computed once."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from time import perf_counter

import numpy as np

from attune.clock import DAY
from attune.event_types import KINDS
from attune.user_state import RECENT_LIMIT, Recent, UserState
from evaluation.hold_out import BASELINES, CachedHybrid, Entrant, HoldOut, ReplayCache, event_rows
from evaluation.intervals import Interval, Paired, paired
from evaluation.offpolicy.estimate import OffPolicyLimits
from evaluation.offpolicy.logged_policy import logged_slates
from evaluation.offpolicy.value_change import ValueChange, value_change
from evaluation.simple_baselines import simple_baselines
from models.bundle import Bundle
from models.history import KIND_INDEX
from models.learning.dataset import BEFORE_ALL, TrainingSet, is_panel
from models.metrics import SLICE_WORDS, Evaluation, decisive
from models.network.sequence import torch_threads
from models.recommender import BundleView, PopularityAlone, Request, recommend

RIVALS = ("champion", "anchor", "elder")
"""Who was champion now, first, and ten promotions ago."""

TIMED_USERS, TIMED_ROUNDS = 25, 3

MOST_TIMES = 100
"""Nobody waits for more times the users of a hold-out than this."""


@dataclass(frozen=True)
class CaseLimits:
    """The limits that several gates share, because they belong to what a case computes for all of them."""

    metric: str = "ndcg@10"
    """The figure that the quality gates compare, over the targets that decide (``models.metrics.decisive``)."""
    half_lives: tuple[float, ...] = (10 / 1440, 1 / 24, 0.25, 1.0, 7.0, 30.0, 90.0, 365.0, 1e5)
    """Days, of popularity as of the cut and of live counters. What a model has to beat is what serves best on this very
    hold-out: see ``evaluation.simple_baselines``."""
    trends: tuple[tuple[float, float], ...] = ((1 / 24, 7.0), (1.0, 30.0))
    """Days: the half-lives of the recent and of the long-run rate that a trend compares."""
    user_cap: float = 100.0
    """Events, or lists, that one user counts for at most, so that nobody decides alone; of the panel each user's mean
    counts once. Coverage has no such cap: see ``evaluation.gates.coverage``."""
    min_users: float = 40.0
    min_events: int = 200
    """Below either, no interval decides: too many of bad challengers' would lie wholly on the good side
    (``python -m benchmarks evidence``). Users are effective ones, by what each counts for under the cap."""
    least_users: int = 2
    """Below this nothing was measured at all: an undecided quality gate may not be risked."""
    off_policy: OffPolicyLimits = field(default_factory=OffPolicyLimits)
    """When the slates that were shown decide."""


@dataclass(frozen=True)
class Lost:
    """A former champion that nobody can compare with any more, and why."""

    why: str


@dataclass(frozen=True)
class Evidence:
    """How much a comparison rests on, and what it compares; the limits say what it takes."""

    users: int
    events: int
    effective: float
    """How many users of equal weight these are worth (``evaluation.intervals.effective``)."""
    days: float = 0.0
    """From the first of the events to the last; 0 where times say nothing."""
    limits: CaseLimits = field(default_factory=CaseLimits)
    figure: str = "ndcg@10 over liked targets"

    @property
    def is_enough(self) -> bool:
        """Whether intervals that rest on it are valid, so that they decide."""
        return self.effective >= self.limits.min_users and self.events >= self.limits.min_events

    def likely_needed(self, measured: Interval, limit: float) -> str:
        """How many more users, and days at this pace, likely decide: an interval narrows with the root of its users."""
        is_above = measured.value > limit
        reach = measured.value - measured.low if is_above else measured.high - measured.value
        margin = abs(measured.value - limit)
        if not self.effective or not margin or not math.isfinite(reach):
            return "how many more would decide cannot be foretold from these"
        limits, narrower = self.limits, reach / margin
        times = max(narrower * narrower, limits.min_users / self.effective, limits.min_events / self.events)
        if times > MOST_TIMES:
            return f"the figure lies so near its limit that even {MOST_TIMES} times as many users would hardly decide"
        days = math.ceil(self.days * (times - 1))
        pace = f", or {days:,} more days at this pace," if self.days >= 1 else ""
        return f"about {math.ceil(self.users * (times - 1)):,} more users{pace} would likely decide"


@dataclass(frozen=True, eq=False)
class Case:
    """A challenger and its rivals (None: there never was one) on the events at moments in (after, upto].

    ``slates`` is a folder of what the champion showed (``features.logged_slates``). ``orders_in_doubt`` names imports
    without times whose order of rows nobody vouched for (``attune.imports.Imports.orders_in_doubt``). Who judges many
    challengers on one hold-out passes the same ``replay_cache`` each time.
    """

    training_set: TrainingSet
    after: int
    upto: int
    challenger: Bundle
    champion: Bundle | None = None
    anchor: Bundle | Lost | None = None
    elder: Bundle | Lost | None = None
    slates: Path | None = None
    orders_in_doubt: Sequence[str] = ()
    limits: CaseLimits = field(default_factory=CaseLimits)
    replay_cache: ReplayCache = field(default_factory=dict)
    _pairs: dict[tuple[str, str, str], Paired] = field(default_factory=dict, init=False)
    replay_seconds: list[float] = field(default_factory=list, init=False)
    """The seconds of each replay so far."""

    @staticmethod
    def load(
        training_set: TrainingSet | Path,
        challenger: Path,
        champion: Path | None = None,
        anchor: Path | Lost | None = None,
        elder: Path | Lost | None = None,
        *,
        after: int | None = None,
        upto: int | None = None,
        slates: Path | None = None,
        orders_in_doubt: Sequence[str] = (),
        limits: CaseLimits | None = None,
        replay_cache: ReplayCache | None = None,
    ) -> "Case":
        """The case of bundles and a training set that lie in folders; a folder in two parts is loaded once.

        By default the hold-out begins where the last of the bundles declared it (the gate `lineage` holds that against
        what the challenger learned from) and ends with the training set. An event that arrived after newer ones had
        been learned lies before it: it teaches the next training and judges nobody. Raises BundleError when a bundle is
        not whole.
        """
        if isinstance(training_set, Path):
            training_set = TrainingSet.load(training_set, with_traits=True)
        bundle = cache(Bundle.load)
        if after is None:
            folders = [folder for folder in (challenger, champion, anchor, elder) if isinstance(folder, Path)]
            after = unlearned_after(map(bundle, folders), training_set)
        return Case(
            training_set,
            after,
            int(training_set.times.max()) if upto is None else upto,
            challenger=bundle(challenger),
            champion=bundle(champion) if champion else None,
            anchor=bundle(anchor) if isinstance(anchor, Path) else anchor,
            elder=bundle(elder) if isinstance(elder, Path) else elder,
            slates=slates,
            orders_in_doubt=orders_in_doubt,
            limits=limits or CaseLimits(),
            replay_cache={} if replay_cache is None else replay_cache,
        )

    @cached_property
    def bundles(self) -> dict[str, Bundle]:
        """The challenger and those rivals that can be compared with, by their part."""
        parts = {name: getattr(self, name) for name in ("challenger", *RIVALS)}
        return {name: bundle for name, bundle in parts.items() if isinstance(bundle, Bundle)}

    @cached_property
    def replays(self) -> dict[str, Evaluation]:
        """Everybody on the same events: bundles, ``popularity`` (the best simple baseline), the challenger's parts."""
        hybrid = CachedHybrid(self.challenger.hybrid)
        entrants = {
            self.challenger.digest: Entrant.of(self.challenger, hybrid, hybrid.parts),  # the longest first
            BASELINES: Entrant(
                simple_baselines(self.training_set, self.after, self.limits.half_lives, self.limits.trends),
                self.training_set.catalogue,
                strongest_by=self.limits.metric,
            ),
        }
        for bundle in self.bundles.values():
            entrants.setdefault(bundle.digest, Entrant.of(bundle, CachedHybrid(bundle.hybrid)))
        window = str(self.training_set.window["digest"])
        evaluations = self._replay_all(HoldOut(self.training_set, window, self.after, self.upto), entrants)
        return {
            **{name: evaluations[bundle.digest][0] for name, bundle in self.bundles.items()},
            "popularity": evaluations[BASELINES][0],
            **{f"{part.name} alone": part for part in evaluations[self.challenger.digest][1:]},
        }

    def panel_replays(self, moments: int) -> tuple[Evaluation, Evaluation]:
        """Challenger and champion on about so many moments of the panel's: as many of each user, the latest ones.

        They end where the champion's training did: from later times only the challenger learned.
        """
        panel = self.training_set.select(is_panel(self.training_set.user_ids)[self.training_set.users])
        champion = self.bundles["champion"]
        upto = min(self.after, self.training_set.moment(champion.trained_upto, champion.trained_upto_time))
        users = len(np.unique(panel.users[panel.times <= upto]))
        name = f"{self.training_set.window['digest']}, the panel"
        two = self.challenger, champion
        entrants = {bundle.digest: Entrant((CachedHybrid(bundle.hybrid),), bundle.catalogue) for bundle in two}
        each = max(moments // max(users, 1), 1)
        evaluations = self._replay_all(HoldOut(panel, name, BEFORE_ALL, upto, each), entrants)
        first, second = (evaluations[bundle.digest][0] for bundle in two)
        return first, second

    def _replay_all(self, hold_out: HoldOut, entrants: dict[str, Entrant]) -> dict[str, list[Evaluation]]:
        began = perf_counter()
        evaluations = hold_out.replays(entrants, self.challenger.digest, self.replay_cache)
        self.replay_seconds.append(perf_counter() - began)
        return evaluations

    @cached_property
    def part(self) -> str:
        """The slice of the targets that decides."""
        return decisive(self.replays["challenger"])

    @property
    def figure(self) -> str:
        """What the quality gates compare, in words."""
        return f"{self.limits.metric} over {SLICE_WORDS[self.part]}"

    def paired(self, other: str, metric: str | None = None, part: str | None = None) -> Paired:
        """How the challenger differs from another of the replays, by what decides unless something else is given."""
        key = other, metric or self.limits.metric, part or self.part
        if key not in self._pairs:
            self._pairs[key] = paired(self.replays["challenger"], self.replays[other], *key[1:], self.limits.user_cap)
        return self._pairs[key]

    @cached_property
    def evidence(self) -> Evidence:
        """What the comparisons rest on."""
        gain = self.paired("popularity")
        challenger = self.replays["challenger"].of(self.part)
        times = self.training_set.times[event_rows(challenger, self.training_set)]
        days = float(np.ptp(times)) / DAY if len(times) else 0.0
        return Evidence(gain.users, gain.rows, gain.effective, days, self.limits, self.figure)

    @cached_property
    def panel_users(self) -> set[str]:
        """The users whose events teach no model."""
        return set(self.training_set.user_ids[is_panel(self.training_set.user_ids)])

    @cached_property
    def value_change(self) -> ValueChange | None:
        """The challenger's value on what the champion showed; None without a champion or without slates."""
        if self.champion is None or self.slates is None:
            return None
        slates = logged_slates(self.slates, self.training_set, self.challenger, self.champion, self.after)
        return value_change(slates, self.limits.off_policy)

    @cached_property
    def not_finite(self) -> list[str]:
        """The challenger's tables, or scores, in which not every value is finite; unknown statistics may be NaN."""
        arrays = self.challenger.hybrid.tensors()
        names = [name for name, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        names += ["the items' statistics"] * bool(np.isinf(self.challenger.catalogue.stats_NF).any())
        return names or ["its scores"] * (not np.isfinite(self.challenger.golden_scores()).all())

    @property
    def late(self) -> int:
        """How many events lie before the hold-out that arrived only after all of the bundles had been trained."""
        arrived = max(bundle.arrived_upto for bundle in self.bundles.values())
        return int(((self.training_set.positions > arrived) & (self.training_set.times <= self.after)).sum())

    @property
    def now(self) -> int:
        """When requests are made: the time of the latest event, in microseconds."""
        return int(self.training_set.times.max())

    @cached_property
    def answer_ms(self) -> dict[str, float]:
        """Milliseconds from a state to ten items by challenger, champion and popularity: the median user's fastest.

        The bundles take turns after a warm-up, on one thread as in serving, so that other load meets all of them alike.
        All are infinite where the challenger holds numbers that are not finite.
        """
        timed: dict[str, BundleView] = {"challenger": self.challenger}
        if self.champion is not None:
            timed["champion"] = self.champion
        timed["popularity"] = PopularityAlone.of(self.challenger)
        if self.not_finite:
            return dict.fromkeys(timed, math.inf)
        states = user_states(self.training_set, self.after, TIMED_USERS)
        spent_BSR = np.zeros((len(timed), len(states), TIMED_ROUNDS + 1))
        with torch_threads(1):
            for turn in range(TIMED_ROUNDS + 1):
                for row, state in enumerate(states):
                    for place, bundle in enumerate(timed.values()):
                        began = perf_counter()
                        recommend(bundle, state, None, Request(10, self.now, seed=turn))
                        spent_BSR[place, row, turn] = 1e3 * (perf_counter() - began)
        fastest_BS = spent_BSR[:, :, 1:].min(axis=2)
        medians = (float(np.median(row)) if len(row) else 0.0 for row in fastest_BS)
        return dict(zip(timed, medians, strict=True))


def unlearned_after(bundles: Iterable[Bundle], training_set: TrainingSet) -> int:
    """The moment after which all of the bundles (at least one) left everything to the judgement."""
    return max(training_set.moment(bundle.holdout_after, bundle.holdout_after_time) for bundle in bundles)


def user_states(training_set: TrainingSet, upto: int, count: int) -> list[UserState]:
    """States of up to ``count`` users as of a moment, to make requests with: the values of events are left out."""
    known = training_set.times[training_set.by_user] <= upto
    rows = training_set.by_user[known]
    users, starts, sizes = np.unique(training_set.users[rows], return_index=True, return_counts=True)
    if not len(users):
        return []
    chosen = np.random.default_rng(0).choice(len(users), min(count, len(users)), replace=False)
    states, kind_names = [], {place: name for name, place in KIND_INDEX.items()}
    for place in chosen:
        recent = tuple(
            Recent(
                event_id=str(training_set.positions[row]),
                item_id=training_set.catalogue.item_ids[training_set.items[row]],
                kind=kind_names[int(training_set.kinds[row])],
                value=None,
                time=int(training_set.times[row]),
                position=int(training_set.positions[row]),
                retracted=False,
            )
            for row in rows[starts[place] : starts[place] + sizes[place]]
        )
        seen = tuple(dict.fromkeys(event.item_id for event in recent if KINDS[event.kind].marks_seen))
        states.append(UserState(str(training_set.user_ids[users[place]]), recent=recent[-RECENT_LIMIT:], seen=seen))
    return states
