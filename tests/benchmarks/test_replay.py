"""`python -m benchmarks replay` on the first ratings of the demo, with a model of one epoch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from attune import item_profile
from attune.clock import DAY, HOUR
from attune.columns import USER_STATS
from attune.errors import ConfigError
from attune.influence import influence
from benchmarks import command, datasets, replay_movielens, replay_pace, replay_protocol
from benchmarks.gates_experiment import join_events
from benchmarks.replay_arms import Arm, LiveHistory
from benchmarks.replay_grid import OnlineGrid
from benchmarks.replay_protocol import BOTH, FROZEN_ARMS, LIVE, PREFERENCE, PROFILE, ReplayResult, run
from benchmarks.replay_stream import StreamQueryBatch, StreamState
from models.baselines import ItemKnn
from models.bundle import Bundle
from models.learning.dataset import TrainingSet
from models.network.config import Recipe

EVENTS = 12_000


@pytest.fixture(scope="module")
def world() -> TrainingSet:
    whole = datasets.movielens_demo()
    return whole.select(np.arange(EVENTS))


class Tuned(Arm):
    """A model that learns on: item-kNN is counted again at the end of every window."""

    name = "tuned"

    def __init__(self, bundle: Bundle, state: StreamState, before: TrainingSet) -> None:
        assert state.latest == before.times.max()
        self.hybrid, self.known, self.learned = bundle.hybrid, before, 0

    def scores(self, queries: StreamQueryBatch) -> np.ndarray:
        return LiveHistory(self.hybrid).scores(queries)

    def close(self, window: TrainingSet) -> None:
        self.known, self.learned = join_events(self.known, window), self.learned + 1
        self.hybrid = self.hybrid.with_others(ItemKnn.fit(self.known, self.hybrid.knn.choice))


@pytest.fixture(scope="module")
def found(world: TrainingSet, quick: Recipe) -> Iterator[ReplayResult]:
    grid = OnlineGrid((0.1,), (None,), (0.2,), (7.0,), (20.0,), (0.2,), (30.0,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay_protocol, "SAMPLED", 300)
        patch.setattr(item_profile, "TINY", 0.0)  # the replay forgets nothing: so they must agree to the last list
        yield run(world, quick, seed=0, grid=grid, extra_arms=[Tuned])


def test_the_lists_are_those_of_single_requests(found: ReplayResult) -> None:
    for name in (LIVE, PREFERENCE, PROFILE, BOTH):
        compared, same = found.single_requests[name]
        assert compared > 100
        assert same == compared, name


def test_every_arm_answers_the_same_questions(found: ReplayResult) -> None:
    assert len(found.tallies) == 11
    assert len({tally.events() for tally in found.tallies.values()}) == 1
    assert all(tally.seconds > 0 for tally in found.tallies.values())


def test_an_arm_may_learn_on(found: ReplayResult) -> None:
    tuned = found.tallies["tuned"].interval("hr@10", "everybody").value
    assert tuned != found.tallies[LIVE].interval("hr@10", "everybody").value
    assert tuned > 0


def test_what_is_told_and_drawn(found: ReplayResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {one.name: one for one in replay_movielens.figures("w", found)}
    assert {"w, live history, hr@10, everybody, all", "w, item-kNN, coverage, everybody, liked"} <= set(told)
    assert "95 %: " in told["w, frozen at the cut, ndcg@10, 20+ events, all"].note
    assert told["w, + preference over live history, times HR@10"].value > 0
    assert replay_movielens.lift(found).low <= replay_movielens.lift(found).value
    best = replay_movielens.strongest(found)
    assert all(
        replay_movielens.lift(found).value <= replay_movielens.lift(found, frozen=one).value for one in FROZEN_ARMS
    )
    assert told[f"w, {FROZEN_ARMS[best]} over itself frozen, times HR@10, 10+ events before the cut"].value > 0
    monkeypatch.setenv("ATTUNE_VAR", str(tmp_path))
    replay_movielens.draw("w", found.tallies)
    assert (tmp_path / "bench" / "replay-w.png").read_bytes().startswith(b"\x89PNG")


def test_the_cut_parts_no_moment(world: TrainingSet) -> None:
    cut = datasets.cut_at(world, 0.8)
    upto = world.times <= cut
    assert world.times[upto].max() < world.times[~upto].min()
    assert upto.mean() == pytest.approx(0.8, abs=0.01)


def test_statistics_are_those_of_finished_hours_and_days(world: TrainingSet) -> None:
    """Counted again for some events, by looking at every event before."""
    column = USER_STATS.index("user_events")
    weights = influence(world.users, world.items, world.times)
    for row in range(100, EVENTS, 1_111):
        own = world.times[world.users == world.users[row]]
        before = int((own < world.times[row] // HOUR * HOUR).sum())
        told = world.user_stats_EF[row, column]
        assert (np.isnan(told) and not before) or told == before
        of_item = (world.items == world.items[row]) & (world.times < world.times[row] // DAY * DAY)
        days = weights[of_item].sum()  # people rate a film once
        assert (np.isnan(world.item_stats_EF[row, 0]) and not days) or world.item_stats_EF[row, 0] == days


def test_without_the_data_it_says_where_to_put_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(datasets.DATA, str(tmp_path))
    with pytest.raises(ConfigError, match=r"ATTUNE_TEST_DATA.*ml-1m"):
        command.measure("replay", "movielens_1m", 0)
    with pytest.raises(ConfigError, match="no part"):
        command.measure("replay", "nothing", 0)


def test_a_synthetic_stream_asks_a_question_for_each_event() -> None:
    timed = replay_pace.timed_replay(3_000, seed=0)
    assert timed.groups == 3_000
    assert timed.seconds > 0


def test_a_rating_stands_once_in_the_synthetic_stream(world: TrainingSet) -> None:
    events = list(replay_pace.stream(world, 20_000, seed=1))
    pairs = np.concatenate([window.users * 10**6 + window.items for window in events])
    times = np.concatenate([window.times for window in events])
    assert len(np.unique(pairs)) == len(pairs) == 20_000
    assert (np.diff(times) > 0).all()
