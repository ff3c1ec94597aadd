"""Popularity and item-kNN on worlds small enough to count by hand."""

from dataclasses import replace

import numpy as np
import pytest

from attune.influence import MOST_AN_HOUR, NEWCOMER
from models.baselines import (
    WITHOUT_END,
    ItemKnn,
    KnnChoice,
    Latest,
    Popularity,
    cooccurrence,
    half_lives,
    usage,
    votes,
)
from models.history import KIND_INDEX, HistoryBatch
from models.learning.dataset import TrainingSet
from models.learning.selection import Validation
from models.network.config import Recipe

DAY = 86_400_000_000
PLAIN = KnnChoice(window=50, shrinkage=0.0, history=10, decay=1.0, slope=0.5, neighbours=10)


def asking(*events: tuple[int, str, float]) -> HistoryBatch:
    """One user whose history is these (item place, kind, reward)."""
    length = max(len(events), 1)
    batch = HistoryBatch(
        items_BL=np.zeros((1, length), np.int64),
        kinds_BL=np.zeros((1, length), np.int64),
        rewards_BL=np.full((1, length), 0.5, np.float32),
        times_BL=np.arange(1, length + 1, dtype=np.int64)[None] * 1_000_000,
        item_stats_BLF=np.full((1, length, 4), np.nan, np.float32),
        user_stats_BF=np.full((1, 4), np.nan, np.float32),
        now_B=np.array([length * 1_000_000 + 5]),
    )
    for place, (item, kind, reward) in enumerate(events):
        batch.items_BL[0, place] = item + 1
        batch.kinds_BL[0, place] = KIND_INDEX[kind]
        batch.rewards_BL[0, place] = reward
    return batch


def test_popularity_halves_with_age_and_counts_rewards(make_training_set):
    rows = [(1, "u", "old", "like", None, 0), (2, "v", "old", "dislike", None, 0)]
    rows += [(3, "u", "shown", "impression", None, 10 * DAY), (4, "u", "new", "like", None, 10 * DAY)]
    training_set = make_training_set(rows, ["old", "shown", "new", "never"])
    fitted = Popularity.fit(training_set, half_life_days=10.0)
    np.testing.assert_allclose(fitted.weights_N, [0.0, 0.0, 1.0, 0.0])  # a like and a dislike
    liked = Popularity.fit(training_set.select(np.array([0, 2, 3])), half_life_days=10.0)
    np.testing.assert_allclose(liked.weights_N, [0.5, 0.0, 1.0, 0.0])
    assert (Popularity.fit(training_set.select(np.arange(0)), 10.0).weights_N == 0).all()


HOUR = DAY // 24


def test_the_latest_are_new_by_their_first_use(make_training_set):
    rows = [(1, "u", "old", "like", None, 0), (2, "u", "shown", "impression", None, 9 * DAY)]
    rows += [(3, "v", "new", "dislike", None, 10 * DAY), (4, "v", "old", "like", None, 20 * DAY)]
    training_set = make_training_set(rows, ["old", "shown", "new", "never"])
    np.testing.assert_allclose(Latest.fit(training_set, 10.0).weights_N, [0.25, 0.0, 0.5, 0.0])


def days_of(make_training_set, span: int, events: int) -> tuple[float, ...]:
    rows = [(place, f"u{place}", "i", "like", None, place * span // events) for place in range(events + 1)]
    return half_lives(make_training_set(rows))


def test_half_lives_follow_the_time_scale_of_the_data(make_training_set):
    assert days_of(make_training_set, 64 * DAY, 6_400) == (WITHOUT_END, 64, 16, 4, 1)
    assert days_of(make_training_set, 10 * 365 * DAY, 6_400) == (WITHOUT_END, 3650, 912, 228, 57)
    minutes = np.array(days_of(make_training_set, HOUR, 20_000)[1:]) * 24 * 60
    np.testing.assert_allclose(minutes, [60, 15, 3.75], rtol=0.01)
    assert min(days_of(make_training_set, HOUR // 6, 20_000)) >= 1 / 24 / 60
    assert half_lives(make_training_set([(1, "u", "i", "like", None, 5)])) == (WITHOUT_END,)


def news(make_training_set) -> TrainingSet:
    """An item an hour for three days, forty clicks an hour; how likely an item is clicked halves every two hours."""
    rng, rows = np.random.default_rng(0), []
    for hour in range(72):
        ages = np.minimum(rng.exponential(2 / np.log(2), 40).astype(int), hour)
        rows += [(f"u{rng.integers(300)}", f"n{hour - age:02d}", "click", None, hour * HOUR) for age in ages]
    times = np.sort(rng.integers(0, HOUR, len(rows)))
    rows = [(place, *row[:-1], row[-1] + int(times[place])) for place, row in enumerate(rows)]
    return make_training_set(sorted(rows, key=lambda row: row[-1]))


def test_where_items_live_for_hours_popularity_forgets_in_hours(make_training_set):
    world, after = news(make_training_set), 65 * HOUR - 1
    learned, validation = world.upto(after), Validation.over(world, after, after + 5 * HOUR, most=10**6)
    unheard = ~np.isin(world.items, learned.items)[(world.times > after) & (world.times <= after + 5 * HOUR)]
    assert 0.55 < unheard.mean() < 0.7, "most clicks go to items that nobody had clicked"
    figures = {}
    for kind in (Popularity, Latest):
        chosen, tried = kind.choose(learned, Recipe("news"), lambda one: validation.figures(one)["objective"])
        figures[kind] = {row["half_life_days"]: row["objective"] for row in tried}
        assert figures[kind][chosen.half_life_days] == max(figures[kind].values())
    assert max(figures[Popularity], key=figures[Popularity].get) <= 0.25
    assert max(figures[Popularity].values()) > 3 * figures[Popularity][WITHOUT_END]
    fixed = Popularity.choose(learned, Recipe("news", popularity_days=(30.0, 7.0)), lambda one: 0.0)[0]
    assert fixed.half_life_days == 30.0, "a recipe may name the half-lives"


def test_one_account_does_not_outweigh_sixty_people(make_training_set):
    """400 clicks by one account; sixty people click once each, and a hundred dislike what was liked by sixty."""
    rows = [(place, "pusher", "pushed", "click", None, place) for place in range(1, 401)]
    rows += [(400 + number, f"p{number}", "loved", "click", None, 500) for number in range(1, 61)]
    rows += [(460 + number, f"p{number}", "hated", "like", None, 500) for number in range(1, 61)]
    rows += [(520 + number, f"q{number}", "hated", "dislike", None, 500) for number in range(1, 101)]
    weights_N = Popularity.fit(make_training_set(rows, ["pushed", "loved", "hated"]), 30.0).weights_N
    np.testing.assert_allclose(weights_N, [1 / 60, 1.0, -40 / 60], atol=1e-6)
    assert usage(make_training_set(rows, ["pushed", "loved", "hated"]))[0] == NEWCOMER


def test_accounts_weigh_at_most_as_much_as_people(make_training_set):
    """Three accounts that do whatever they can for an item: their history, thousands of likes, every hour of a day."""
    rows = [
        (0, f"a{account}", f"other{place % 20}" if place < 20 else "pushed", "like", None, place * HOUR // 200)
        for account in range(3)
        for place in range(4_000)
    ]
    rows = [(position, *row[1:]) for position, row in enumerate(sorted(rows, key=lambda row: row[-1]), start=1)]
    training_set = make_training_set(rows, ["pushed", *(f"other{place}" for place in range(20))])
    rows_C, weights_C = training_set.counted
    assert weights_C[training_set.items[rows_C] == 0].sum() == 3
    assert len(rows_C) == 3 * 21 <= 3 * MOST_AN_HOUR * 20
    assert cooccurrence(training_set, 50).toarray()[0].max() <= 3


def test_cooccurrence_is_symmetric_and_nearer_is_more(make_training_set):
    rows = [(step + 1, "u", item, "view", None, step) for step, item in enumerate("abc")]
    rows += [(4, "v", "a", "view", None, 9)]
    counts = cooccurrence(make_training_set(rows), 50).toarray()
    expected = np.array([[0, 1, 0.95], [1, 0, 1], [0.95, 1, 0]])
    np.testing.assert_allclose(counts, NEWCOMER * expected, rtol=1e-6)
    assert cooccurrence(make_training_set(rows), 1).toarray()[0, 2] == 0
    assert usage(make_training_set(rows)).tolist() == [2 * NEWCOMER, NEWCOMER, NEWCOMER]


def test_similarity_is_the_shrunk_cosine_and_keeps_the_strongest(make_training_set):
    rows = [(step + 1, "u", item, "view", None, step) for step, item in enumerate("abc")]
    training_set = make_training_set(rows)
    shrunk = ItemKnn.fit(training_set, replace(PLAIN, shrinkage=NEWCOMER)).similarity_NN.toarray()
    assert shrunk[0, 1] == pytest.approx(1.0 / (1.0 + 1.0))
    one = ItemKnn.fit(training_set, replace(PLAIN, neighbours=1)).similarity_NN
    assert one.nnz == 3
    assert one[0, 1] == pytest.approx(1.0)


def test_votes_of_verdicts_are_centred_and_of_the_rest_sloped():
    kinds = np.array([0, *(KIND_INDEX[name] for name in ("like", "dislike", "skip", "rating", "rating", "impression"))])
    rewards = np.array([0.5, 1.0, 0.0, 0.25, 1.0, 0.0, 0.5])
    np.testing.assert_allclose(votes(kinds, rewards, 0.5), [0.0, 1.0, -1.0, -0.5, 1.5, 0.5, 0.0])


def test_a_dislike_pushes_down_what_a_like_pushes_up(make_training_set):
    rows = [(step + 1, "u", item, "view", None, step) for step, item in enumerate("abc")]
    fitted = ItemKnn.fit(make_training_set(rows), PLAIN)
    like, dislike = fitted.scores(asking((0, "like", 1.0)))[0], fitted.scores(asking((0, "dislike", 0.0)))[0]
    assert (like[1:] > 0).all()
    np.testing.assert_allclose(dislike, -like)


def test_only_the_latest_events_vote_and_later_ones_more(make_training_set):
    rows = [(step + 1, "u", item, "view", None, step) for step, item in enumerate("ab")]
    rows += [(step + 3, "v", item, "view", None, step) for step, item in enumerate("cd")]
    fitted = ItemKnn.fit(make_training_set(rows), replace(PLAIN, history=2, decay=0.5, slope=0.0))
    scores = fitted.scores(asking((0, "view", 0.75), (2, "view", 0.75)))[0]
    np.testing.assert_allclose(scores, [0.0, 0.5, 0.0, 1.0])
    forgotten = fitted.scores(asking((0, "view", 0.75), (2, "view", 0.75), (2, "view", 0.75)))[0]
    assert forgotten[1] == 0


def test_tastes_pull_clusters_apart(tastes: TrainingSet):
    similar = ItemKnn.fit(tastes, replace(PLAIN, shrinkage=1.0, neighbours=40)).similarity_NN.toarray()
    own, other = similar[:14, :14], similar[:14, 16:30]
    assert own[~np.eye(14, dtype=bool)].min() > 0 > other.max()
