"""The one rule by which reactions count for others: once an item, so much an hour, newcomers less."""

import numpy as np

from attune.clock import HOUR
from attune.influence import HISTORY_ITEMS, MOST_AN_HOUR, NEWCOMER, influence, standing


def test_a_newcomer_counts_less_until_five_other_items_were_used() -> None:
    items = np.array([0, 0, 1, 2, 3, 4, 0, 5])
    weights = influence(np.zeros(8, np.int64), items, np.arange(8) * HOUR)
    assert weights.tolist() == [NEWCOMER] * 7 + [1.0], "item 0 is no history of itself"
    assert HISTORY_ITEMS == 5


def test_users_are_told_apart_whatever_their_order() -> None:
    chance = np.random.default_rng(1)
    users, items, hours = (
        chance.integers(0, 9, 3_000),
        chance.integers(0, 40, 3_000),
        np.sort(chance.integers(0, 99, 3_000)),
    )
    whole = influence(users, items, hours * HOUR)
    for user in range(9):
        own = users == user
        np.testing.assert_array_equal(whole[own], influence(users[own] * 0, items[own], hours[own] * HOUR))


def test_a_users_hour_holds_so_many_reactions() -> None:
    count = MOST_AN_HOUR + 50
    weights = influence(np.zeros(2 * count, np.int64), np.arange(2 * count), np.repeat([0, HOUR], count))
    assert np.count_nonzero(weights[:count]) == np.count_nonzero(weights[count:]) == MOST_AN_HOUR
    assert weights[MOST_AN_HOUR:count].max() == 0


def test_only_the_last_reaction_to_an_item_stands_of_those_that_weigh() -> None:
    users, items = np.array([1, 1, 2, 1, 1]), np.array([7, 8, 7, 7, 8])
    assert standing(users, items, np.ones(5)).tolist() == [2, 3, 4]
    assert standing(users, items, np.array([1.0, 1, 1, 1, 0])).tolist() == [1, 2, 3]
    assert standing(users[:0], items[:0], np.ones(0)).tolist() == []
    assert influence(users[:0], items[:0], items[:0]).tolist() == []
