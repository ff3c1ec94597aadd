"""Counters that go on counting against a loop over the events, and a world in which only they keep up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from attune.clock import DAY, HOUR, MINUTE
from evaluation.case import Case, CaseLimits
from evaluation.judge import judge
from evaluation.replay import replay, replay_together
from evaluation.simple_baselines import DecayedCounts, LiveCounter, Trending, duration, simple_baselines, strongest
from models.baselines import Popularity, uses
from models.bundle import Provenance, golden_batch, save_bundle
from models.history import HistoryBatch
from models.learning.dataset import TrainingSet, groups, histories, is_panel
from models.learning.training import last_position, learnable
from models.metrics import values
from models.ranking.policy import PlackettLuce

LIMITS = CaseLimits(min_users=5, min_events=50)
HALF_LIVES = (10 / 1440, 1.0, 1e5)


def asked(training_set: TrainingSet, after: int) -> HistoryBatch:
    return histories(training_set, groups(training_set, after, int(training_set.times.max())))


@pytest.mark.parametrize("half_life_days", [1 / 86_400, 1.0, 1e5])
def test_a_count_is_what_was_used_strictly_before_and_has_decayed(
    planted: TrainingSet, cut: int, half_life_days: float
) -> None:
    batch, used_E = asked(planted, cut), uses(planted)
    found = DecayedCounts.of(planted, cut, half_life_days).at(batch.now_B[::-1])[::-1]
    for place in range(0, len(batch), 37):
        expected = np.zeros(len(planted.catalogue))
        for event in np.flatnonzero(planted.times < batch.now_B[place]):
            age = (batch.now_B[place] - planted.times[event]) / (half_life_days * DAY)
            expected[planted.items[event]] += used_E[event] * 0.5**age
        np.testing.assert_allclose(found[place], expected, rtol=1e-9, atol=1e-12)


def test_a_user_counts_once_for_an_item_as_of_the_latest_use(make_training_set: Callable) -> None:
    """An account clicks 400 times, the last time late; sixty people click once; one likes and then dislikes."""
    rows = [("pusher", "pushed", "click", place * MINUTE) for place in range(400)]
    rows += [(f"p{number}", "loved", "click", 400 * MINUTE + number) for number in range(60)]
    rows += [
        ("q", "turned", "like", 401 * MINUTE),
        ("q", "turned", "dislike", 402 * MINUTE),
        ("r", "last", "like", DAY),
    ]
    world = make_training_set([(at, *row[:3], None, row[3]) for at, row in enumerate(rows, 1)])
    assert world.catalogue.item_ids == ("last", "loved", "pushed", "turned")
    said_E, age_N = uses(world), (DAY - np.array([0, 400, 399, 402]) * MINUTE) / DAY
    expected_N = np.array([0.0, 60 * said_E[400], said_E[399], said_E[461]]) * 0.5 ** (age_N / 0.5)
    assert expected_N[1] == pytest.approx(60 * expected_N[2], rel=0.01)
    for after in (0, 200 * MINUTE, 500 * MINUTE):
        found_N = DecayedCounts.of(world, after, 0.5).at(np.array([DAY]))[0]
        np.testing.assert_allclose(found_N, expected_N, rtol=1e-6, atol=1e-9)


def test_a_year_of_silence_leaves_no_float(make_training_set: Callable) -> None:
    days = {"a": 1, "b": 400, "c": 800}
    rows = [(at, who, "ij"[at % 2], "like", None, day * DAY) for at, (who, day) in enumerate(days.items())]
    training_set = make_training_set(rows)
    counts = DecayedCounts.of(training_set, DAY, 10 / 1440)
    assert LiveCounter(counts).scores(asked(training_set, DAY)).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert LiveCounter(counts).name == "live counter, half-life 10 minutes"


def test_a_trend_is_a_recent_rate_above_the_long_run_one_and_the_latest_are_new(make_training_set: Callable) -> None:
    old = [(f"u{day}", "evergreen", day * DAY + hour * HOUR) for day in range(30) for hour in range(4)]
    new = [(f"v{turn}", "burst", 29 * DAY + 20 * HOUR + (50 + turn) * MINUTE) for turn in range(8)]
    last = [("w", "newest", 29 * DAY + 21 * HOUR), ("x", "never yet", 30 * DAY)]
    rows = [(at + 1, user, item, "like", None, time) for at, (user, item, time) in enumerate([*old, *new, *last])]
    training_set = make_training_set(rows, ["burst", "evergreen", "never yet", "newest"])
    *_, trend, latest = simple_baselines(training_set, 20 * DAY, HALF_LIVES, [(1 / 24, 7.0)])
    assert isinstance(trend, Trending)
    assert trend.name == "trending, 1 hour against 7 days"
    batch = asked(training_set, 20 * DAY)
    order = [np.argsort(-one.scores(batch)[-1], kind="stable").tolist() for one in (trend, latest)]
    assert order[0][0] == 0
    assert order[1] == [3, 0, 1, 2]
    assert latest.scores(batch)[-1, 2] == 0.0


def test_the_panel_counts_in_no_baseline(planted: TrainingSet, cut: int) -> None:
    panel = is_panel(planted.user_ids)[planted.users]
    batch = asked(planted, cut)
    others = simple_baselines(planted.select(~panel), cut, HALF_LIVES, [])
    for one, other in zip(simple_baselines(planted, cut, HALF_LIVES, []), others, strict=True):
        np.testing.assert_array_equal(one.scores(batch), other.scores(batch), err_msg=one.name)


def test_the_strongest_of_a_sample_is_asked_about_the_whole_hold_out(
    planted: TrainingSet, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = planted, cut, int(planted.times.max())
    baselines = simple_baselines(planted, cut, HALF_LIVES, [(1.0, 7.0)])
    totals = [values(one, "ndcg@10")[1].sum() for one in replay_together(baselines, *window)]
    assert values(strongest(baselines, *window, "ndcg@10"), "ndcg@10")[1].sum() == pytest.approx(max(totals))
    some = replay_together(baselines[:1], *window, most=50)[0]
    assert len(some.groups) == 50
    assert np.ptp(some.groups["moment"]) > 0.9 * (window[2] - cut)
    monkeypatch.setattr("evaluation.simple_baselines.SCREENED", 50)
    assert len(strongest(baselines, *window, "ndcg@10").events) == len(replay(baselines[0], *window).events)


def test_half_lives_in_words() -> None:
    words = [duration(days) for days in CaseLimits().half_lives]
    assert words == [
        *("10 minutes", "1 hour", "6 hours", "1 day", "7 days", "30 days", "90 days", "365 days", "without end"),
    ]  # fmt: skip


def hits_of_the_hour(make_training_set: Callable) -> TrainingSet:
    """Of twelve visitors an hour eight use that hour's item, and four one that their own kind of people likes."""
    random, rows = np.random.default_rng(1), []
    names = [f"hit{hour:02d}" for hour in range(72)] + [f"{kind}{place:02d}" for kind in "ab" for place in range(30)]
    for hour in range(72):
        for turn, person in enumerate(random.permutation(60)[:12]):
            own = f"{'ab'[person % 2]}{int(random.integers(30)):02d}"
            rows.append((f"p{person:02d}", f"hit{hour:02d}" if turn % 3 else own, hour * HOUR + turn * MINUTE))
    return make_training_set(
        [(at, who, what, "like", None, when) for at, (who, what, when) in enumerate(rows, 1)], names
    )


def test_a_model_that_only_beats_a_weeks_popularity_is_refused_by_the_live_counter(
    make_training_set: Callable, make_hybrid: Callable, tmp_path: Path
) -> None:
    world = hits_of_the_hour(make_training_set)
    after, upto = 48 * HOUR - 1, int(world.times.max())
    last = last_position(world, after)
    hybrid = make_hybrid(world, after, (0.0, 0.9, 0.1))
    lineage = {"trained_upto_time": after, "holdout_after_time": after}
    provenance = Provenance({}, world.window, last, last, seed=0, panel_users_trained=0, **lineage)
    golden = golden_batch(world, after, world.catalogue)
    folder = save_bundle(tmp_path / "model", hybrid, world.catalogue, PlackettLuce(), provenance, golden)
    week = replay(Popularity.fit(learnable(world, after), 7.0), world, after, upto)
    for trends, strongest_name in (((), "live counter, half-life"), (LIMITS.trends, "trending, 1 hour")):
        judgement = judge(Case.load(world, folder, limits=replace(LIMITS, trends=trends)))
        assert judgement.metrics["all"]["ndcg@10"] > 1.1 * np.mean(values(week, "ndcg@10")[1]), "it would have passed"
        (gate,) = (verdict for verdict in judgement.verdicts if verdict.name == "beats_popularity")
        assert gate.verdict == "fail"
        assert f"the best simple baseline ({strongest_name}" in gate.note
        assert judgement.baselines["popularity"]["all"]["hr@10"] > 0.5
