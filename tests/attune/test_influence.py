"""The one rule by which reactions count for others: once an item, so much an hour, newcomers less."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attune.clock import HOUR, SECOND
from attune.events import Interaction, LoggedEvent
from attune.influence import (
    HISTORY_ITEMS,
    MOST_AN_HOUR,
    NEWCOMER,
    StandingReactions,
    influence,
    no_history,
    standing,
)


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


SENT = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from("abcdefgh"), st.sampled_from(["like", "dislike", "click", "retract"]),
        st.integers(0, 40), st.integers(0, 39),
    ),
    max_size=40,
)  # fmt: skip


@given(SENT, st.booleans())
def test_n_accounts_count_at_most_as_n_people_on_any_item(sent: list[tuple], in_one_hour: bool) -> None:
    """Popularity before the first promotion, whatever three accounts send over HTTP and however they date it."""
    reactions, totals = StandingReactions(no_history, NEWCOMER), Counter[str]()
    for number, (user, item, kind, hour, target) in enumerate(sent):
        logged_at = 1_000 * HOUR + (number * SECOND if in_one_hour else number * HOUR)
        event = Interaction(
            event_id=f"e{number}", event_timestamp=logged_at - hour * HOUR, user_id=f"u{user}", item_id=item,
            kind=kind, retracts=f"e{target}" if kind == "retract" else None,
        )  # fmt: skip
        entry = LoggedEvent(number + 1, logged_at, event, True)
        if kind == "retract":
            changes = reactions.take_back(event)
        else:
            changes = reactions.take(entry, event, 2.0 * event.reward - 1.0)
        for sign, change in changes:
            totals[change.item_id] += sign * change.said
    most = 3 * (NEWCOMER if in_one_hour else 1.0)
    assert all(abs(total) <= most + 1e-9 for total in totals.values())


@given(SENT)
def test_n_accounts_weigh_at_most_as_n_people_in_what_is_trained(sent: list[tuple]) -> None:
    """Popularity, item statistics and item-kNN count by these weights: on each item of each account one at most."""
    rows = sorted(sent, key=lambda one: one[3])
    users, items, hours = np.array([(user, ord(item), hour) for user, item, _, hour, _ in rows], int).reshape(-1, 3).T
    weights = influence(users, items, hours * HOUR)
    rows_C = standing(users, items, weights)
    assert np.bincount(items[rows_C], weights[rows_C]).max(initial=0) <= 3
    assert len(set(zip(users[rows_C], items[rows_C], strict=True))) == len(rows_C)
