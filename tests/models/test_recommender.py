"""The pipeline: the same events give the same arrays as in training, and one seed one slate."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attune.events import Interaction, LoggedEvent
from attune.user_state import UserState, fold
from models.bundle import Bundle
from models.catalogue import Catalogue
from models.history import HistoryBatch, Recommender
from models.learning.dataset import Groups, Ragged, histories, seen
from models.ranking.exploration import Bounded, Epsilon, Greedy
from models.ranking.policy import PlackettLuce, Policy
from models.ranking.thompson import LinearPosterior, Thompson
from models.recommender import Request, SlateQuery, encode, histories_from_states, recommend, recommend_many

ITEMS = tuple(f"i{place:02d}" for place in range(30))
CATALOGUE = Catalogue(ITEMS, ("",) * 30, ((),) * 30, (None,) * 30, np.random.default_rng(0).random((30, 4), np.float32))
NOW = 1_000
POLICY = PlackettLuce(1.0, depth=20)


@dataclass(frozen=True)
class SmallBundle:
    hybrid: Recommender
    popularity: Recommender
    policy: PlackettLuce = POLICY
    catalogue: Catalogue = CATALOGUE
    likeness_ND: np.ndarray = field(default_factory=lambda: np.zeros((30, 1), np.float32))


def state_of(events: list[tuple[str, str, str, float | None, int]], retracted: tuple[int, ...] = ()) -> UserState:
    """(user, item, kind, value, time) at positions 1.., then take-backs of the given positions."""
    logged = [
        LoggedEvent(p, 0, Interaction(event_id=f"e{p}", event_timestamp=t, user_id=u, item_id=i, kind=k, value=v))
        for p, (u, i, k, v, t) in enumerate(events, start=1)
    ]
    for place, position in enumerate(retracted, start=len(events) + 1):
        u, i, *_ = events[position - 1]
        back = Interaction(
            event_id=f"e{place}", event_timestamp=NOW, user_id=u, item_id=i, kind="retract", retracts=f"e{position}"
        )
        logged.append(LoggedEvent(place, 0, back))
    return fold(UserState(events[0][0] if events else "u"), logged)


EVENT = st.tuples(
    st.just("u"),
    st.sampled_from((*ITEMS[:12], "unknown")),
    st.sampled_from(["like", "dislike", "impression", "view"]),
    st.none(),
    st.integers(1, 40),
)


@settings(max_examples=60)
@given(st.lists(EVENT, min_size=2, max_size=40), st.data())
def test_the_state_gives_the_arrays_of_training(make_training_set, events: list[tuple], data: st.DataObject) -> None:
    retracted = tuple(sorted(data.draw(st.sets(st.integers(2, len(events))))))
    state = state_of(events, retracted)
    rows = [(p, *event) for p, event in enumerate(events, start=1) if p not in retracted]
    training_set = make_training_set(rows)
    user_stats_1F = np.array([[1.0, 0.5, np.nan, 2.0]], np.float32)
    asked = Groups(np.zeros(1, np.int64), np.array([NOW]), user_stats_1F, Ragged(np.zeros(2, np.int64), np.zeros(0)))
    expected = histories(training_set, asked, catalogue=CATALOGUE)
    found = histories_from_states(CATALOGUE, [state], user_stats_1F, NOW)
    length = found.items_BL.shape[1]
    for name in vars(found):
        left, right = getattr(found, name), getattr(expected, name)
        if name.endswith(("BL", "BLF")):
            assert (expected.items_BL[:, :-length] == 0).all()
            right = right[:, -length:]
        np.testing.assert_array_equal(left, right, name)
        assert left.dtype == right.dtype
    if not retracted:
        known = set(CATALOGUE.places(state.seen).tolist()) - {-1}
        assert known == set(seen(training_set, asked, CATALOGUE).values.tolist())


def test_long_and_short_histories_share_a_batch_padded_on_the_left() -> None:
    states = [
        state_of([("a", "i00", "like", None, 1), ("a", "i01", "rating", 4.0, 2)]),
        UserState("b"),
        state_of([("c", "i05", "dislike", None, 3)]),
    ]
    batch = histories_from_states(CATALOGUE, states, np.zeros((3, 4)), NOW)
    assert batch.items_BL.tolist() == [[1, 2], [0, 0], [0, 6]]
    assert batch.rewards_BL.tolist() == [[1.0, 0.75], [0.5, 0.5], [0.5, 0.0]]
    assert np.isnan(batch.item_stats_BLF[1]).all()
    assert (batch.item_stats_BLF[2, 1] == CATALOGUE.stats_NF[5]).all()


@pytest.fixture
def bundle(hashed, fixed_scores) -> SmallBundle:
    return SmallBundle(hashed(30), fixed_scores(np.arange(30) / 10.0))


HISTORY = [("u", "i03", "like", None, 1), ("u", "i07", "rating", 2.0, 2)]


def test_one_seed_on_one_state_is_one_slate(bundle: SmallBundle) -> None:
    slates = [recommend(bundle, state_of(HISTORY), None, Request(10, NOW, seed=seed)) for seed in (1, 1, 2)]
    assert slates[0] == slates[1]
    assert slates[0].shown != slates[2].shown


def test_without_a_seed_the_answer_names_the_one_it_drew(bundle: SmallBundle) -> None:
    slate = recommend(bundle, state_of(HISTORY), None, Request(10, NOW))
    again = recommend(bundle, state_of(HISTORY), None, Request(10, NOW, seed=slate.policy["seed"]))
    assert slate == again


def test_seen_and_excluded_items_never_come_back_and_nothing_else_is_lost(bundle: SmallBundle) -> None:
    slate = recommend(bundle, state_of(HISTORY), None, Request(30, NOW, exclude=("i01", "nowhere"), seed=0))
    assert {one.item_id for one in slate.shown} == set(ITEMS) - {"i03", "i07", "i01"}
    assert len(slate.shown) == 27
    assert slate.served_by == "champion"


def test_every_shown_item_is_a_candidate_with_its_score(bundle: SmallBundle) -> None:
    slate = recommend(bundle, state_of(HISTORY), None, Request(10, NOW, seed=3, context={"page": "home"}))
    scores = {one.item_id: one.score for one in slate.candidates}
    assert len(slate.candidates) == 20
    assert all(scores[one.item_id] == one.score for one in slate.shown)
    assert [one.score for one in slate.candidates] == sorted(scores.values(), reverse=True)
    assert slate.context == {"page": "home"}
    assert slate.policy == {"name": "plackett-luce", "temperature": 1.0, "candidates": 20, "seed": 3}


@pytest.mark.parametrize(
    "state",
    [UserState("nobody"), state_of([("u", "elsewhere", "like", None, 1)]), state_of(HISTORY[:1], retracted=(1,))],
    ids=["unknown user", "items that no model knows", "everything taken back"],
)
def test_without_usable_history_popularity_answers_and_says_so(bundle: SmallBundle, state: UserState) -> None:
    slate = recommend(replace(bundle, policy=PlackettLuce(1e-3)), state, None, Request(3, NOW, seed=0))
    assert slate.served_by == "popularity"
    assert [one.item_id for one in slate.shown] == ["i29", "i28", "i27"]


def test_an_exhausted_catalogue_gives_an_empty_slate(bundle: SmallBundle) -> None:
    slate = recommend(bundle, state_of(HISTORY), None, Request(5, NOW, exclude=ITEMS, seed=0))
    assert slate.shown == []
    assert slate.candidates == []


def test_the_pipeline_depends_on_the_history(bundle: SmallBundle) -> None:
    other = [*HISTORY[:1], ("u", "i07", "rating", 4.0, 2), ("u", "i09", "like", None, 3)]
    slates = [recommend(bundle, state_of(events), None, Request(10, NOW, seed=1)) for events in (HISTORY, other)]
    assert slates[0].shown != slates[1].shown


def test_a_batch_of_nobody() -> None:
    batch: HistoryBatch = histories_from_states(CATALOGUE, [], np.zeros((0, 4)), NOW)
    assert len(batch) == 0


def test_many_questions_at_once_get_the_slates_that_each_would_have_got_alone(bundle_folder) -> None:
    """Users with histories of all lengths, without any, with their own exclusions and rules, in one batch."""
    bundle = Bundle.load(bundle_folder)
    random = np.random.default_rng(0)
    asked = []
    for user in range(12):
        rows = [
            ("u", bundle.catalogue.item_ids[random.integers(len(bundle.catalogue))], "like", None, 10 * place + 1)
            for place in range(user)
        ]
        request = Request(5, NOW + user, exclude=(bundle.catalogue.item_ids[user],), seed=user)
        asked.append(SlateQuery(state_of(rows), None, request, removed=np.array([user + 1])))
    together = recommend_many(bundle, asked)
    alone = [recommend_many(bundle, [one])[0] for one in asked]
    assert [[one.item_id for one in slate.shown] for slate in together] == [
        [one.item_id for one in slate.shown] for slate in alone
    ]
    for left, right in zip(together, alone, strict=True):
        assert left.served_by == right.served_by
        np.testing.assert_allclose([c.score for c in left.candidates], [c.score for c in right.candidates], atol=1e-5)
        np.testing.assert_allclose([s.propensity for s in left.shown], [s.propensity for s in right.shown], rtol=1e-3)


@settings(max_examples=60)
@given(
    st.lists(st.integers(-1, 5), min_size=30, max_size=30), st.integers(1, 3), st.integers(1, 30), st.integers(0, 99)
)
def test_k_come_back_under_a_cap_whenever_the_catalogue_holds_k(
    hashed, fixed_scores, capped, groups: list[int], limit: int, k: int, seed: int
) -> None:
    bundle, groups_N = SmallBundle(hashed(30), fixed_scores(np.arange(30) / 10.0)), np.array(groups)
    bundle = replace(bundle, policy=PlackettLuce(1.0, depth=2))
    left = np.setdiff1d(np.arange(30), [3, 7])
    request = Request(k, NOW, seed=seed)
    slate = recommend(bundle, state_of(HISTORY), None, request, lambda places_C: capped((groups_N[places_C], limit)))
    shown = CATALOGUE.places([one.item_id for one in slate.shown])
    assert len(set(shown.tolist())) == len(shown) == min(k, capped.room(groups_N[left], limit))
    assert set(shown.tolist()) <= set(left.tolist())
    assert np.unique(groups_N[shown][groups_N[shown] >= 0], return_counts=True)[1].max(initial=0) <= limit
    # The draw at the depth that is named gives this very slate, propensities and all.
    deep = replace(bundle, policy=replace(bundle.policy, depth=slate.policy["candidates"]))
    assert len(slate.candidates) == min(max(k, slate.policy["candidates"]), len(left))
    assert slate == recommend(deep, state_of(HISTORY), None, request, lambda at_C: capped((groups_N[at_C], limit)))


def test_a_deeper_search_is_made_only_where_it_brings_something_and_changes_nobody_else(
    bundle: SmallBundle, capped
) -> None:
    groups_N = np.where(np.arange(30) < 25, 0, np.arange(30))
    bundle = replace(bundle, policy=PlackettLuce(1.0, depth=3), hybrid=bundle.popularity)
    looks: list[int] = []

    def rule(places_C: np.ndarray):
        looks.append(len(places_C))
        return capped((groups_N[places_C], 1))

    others = [SlateQuery(state_of(HISTORY), None, Request(2, NOW, seed=seed)) for seed in range(3)]
    asked = SlateQuery(state_of(HISTORY), None, Request(6, NOW, seed=5), rule=rule)
    slates = recommend_many(bundle, [*others, asked])
    assert slates[:3] == recommend_many(bundle, others)
    assert all(slate.policy["candidates"] == 3 for slate in slates[:3])
    assert len(slates[3].shown) == 6
    assert looks == [6], "six candidates hold six under the cap"
    looks.clear()
    slate = recommend_many(bundle, [*others, replace(asked, request=Request(7, NOW, seed=5))])[3]
    assert (len(slate.shown), slate.policy["candidates"]) == (6, 7)
    assert looks == [7, 28], "all that is left was looked at, and no draw over it could give more"


def test_what_the_network_said_of_a_user_is_not_computed_again(bundle_folder) -> None:
    bundle = Bundle.load(bundle_folder)
    kept: dict = {}
    rows = [("u", item_id, "like", None, place + 1) for place, item_id in enumerate(bundle.catalogue.item_ids[:3])]
    first = SlateQuery(state_of(rows), None, Request(5, NOW, seed=1))
    encode(bundle, [first], kept)
    (state_D,) = kept.values()
    state_D[:] = 7.0
    assert (encode(bundle, [first], kept).states_BD == 7.0).all()
    others = [
        SlateQuery(state_of([*rows, ("u", rows[0][1], "dislike", None, 9)]), None, first.request),
        SlateQuery(first.state, np.ones(4, np.float32), first.request),
        SlateQuery(first.state, None, Request(5, NOW + 3_600_000_000, seed=1)),
    ]
    assert not (encode(bundle, others, kept).states_BD == 7.0).any()
    assert len(kept) == 4


def test_vectors_that_were_kept_hold_for_what_a_bundle_is_extended_to(bundle_folder) -> None:
    bundle = Bundle.load(bundle_folder)
    known = bundle.catalogue.item_ids
    state = state_of([("u", known[3], "like", None, 1), ("u", "later", "like", None, 2)])
    others = state_of([("v", known[4], "like", None, 1)])
    asked = [SlateQuery(one, None, Request(5, NOW)) for one in (state, replace(others, user_id="v"))]
    more = Catalogue(("later",), ("",), (("g1",),), (None,), np.full((1, 4), np.nan, np.float32))
    kept: dict = {}
    encode(bundle, asked, kept)
    assert len(kept) == 2
    extended = bundle.extended(more)
    found = encode(extended, asked, kept)
    assert len(kept) == 3, "whose events the bundle came to know is looked at anew, the other user is not"
    np.testing.assert_allclose(found.states_BD, encode(extended, asked).states_BD, atol=1e-6)
    described_anew = bundle.extended(replace(more, genres=(("g2",),)))
    found = encode(described_anew, asked, kept)
    assert len(kept) == 4, "so is who met an item that is said to be another"
    np.testing.assert_allclose(found.states_BD, encode(described_anew, asked).states_BD, atol=1e-6)


def test_what_everybody_says_moves_scores_and_names_candidates_of_those_with_a_history_and_without(
    bundle_folder,
) -> None:
    plain = Bundle.load(bundle_folder)
    bundle = replace(plain, hybrid=replace(plain.hybrid, live=0.2))
    count = len(bundle.catalogue)
    live_1N = np.zeros((1, count), np.float32)
    hit, flop = count - 1, count - 2
    live_1N[0, [hit, flop]] = 0.9, -0.9
    rows = [("u", item_id, "like", None, place + 1) for place, item_id in enumerate(bundle.catalogue.item_ids[:3])]
    for state, served_by in ((state_of(rows), "champion"), (UserState("nobody"), "popularity")):
        asked = [SlateQuery(state, None, Request(5, NOW, seed=1))]
        silent, heard = recommend_many(bundle, asked)[0], recommend_many(bundle, asked, live_1N=live_1N)[0]
        assert recommend_many(plain, asked, live_1N=live_1N) == [silent]
        assert heard.served_by == silent.served_by == served_by
        before, after = ({one.item_id: one.score for one in slate.candidates} for slate in (silent, heard))
        ids = bundle.catalogue.item_ids
        assert after[ids[hit]] == pytest.approx(before.get(ids[hit], after[ids[hit]] - 0.18) + 0.18, abs=1e-5)
        moved = {name for name in before.keys() & after.keys() if before[name] != pytest.approx(after[name], abs=1e-5)}
        assert moved <= {ids[hit], ids[flop]}
        assert next(one.source for one in heard.candidates if one.item_id == ids[hit]) != "mix"
        assert "live" not in {one.source for one in silent.candidates}


THOMPSON = Thompson(LinearPosterior.prior(3, 0.3), ("sequence", "item-knn", "live"), depth=20)


@pytest.mark.parametrize(
    ("chosen", "noted"),
    [
        (Greedy(20), set()),
        (Epsilon(0.3, 20), set()),
        (THOMPSON, {"errors", "features"}),
        (Bounded(THOMPSON, budget=4, least_quality=0.5), {"errors", "features", "explored", "quality"}),
    ],
    ids=["greedy", "epsilon", "thompson", "bounded thompson"],
)
def test_any_policy_serves_in_a_batch_as_alone_and_its_notes_are_logged(
    bundle_folder, chosen: Policy, noted: set[str]
) -> None:
    bundle = replace(Bundle.load(bundle_folder), policy=chosen)
    known, asked = bundle.catalogue.item_ids, []
    for user in range(6):
        rows = [("u", known[7 * user + place], "like", None, place + 1) for place in range(user)]
        asked.append(SlateQuery(state_of(rows), None, Request(5, NOW, seed=user), explored=user % 3))
    together = recommend_many(bundle, asked)
    for one, slate in zip(asked, together, strict=True):
        (alone,) = recommend_many(bundle, [one])
        assert [row.item_id for row in alone.shown] == [row.item_id for row in slate.shown]
        assert len(slate.shown) == 5
        described = chosen.describe()
        assert {name: slate.policy[name] for name in described} == described
        assert noted <= slate.policy.keys()
        assert slate.policy.get("explored", 0) <= 4 - one.explored
        assert slate.policy["seed"] == one.request.seed


def test_thompsons_features_are_what_the_sources_said_of_the_shown_and_the_absent_say_nothing(bundle_folder) -> None:
    bundle = replace(Bundle.load(bundle_folder), policy=THOMPSON)
    rows = [("u", item_id, "like", None, place + 1) for place, item_id in enumerate(bundle.catalogue.item_ids[:3])]
    asked = [SlateQuery(state_of(rows), None, Request(5, NOW, seed=1))]
    users = encode(bundle, asked)
    sources = bundle.hybrid.sources(users.batch, users.states_BD)
    (slate,) = recommend_many(bundle, asked)
    places = bundle.catalogue.places([one.item_id for one in slate.shown])
    found = np.array(slate.policy["features"])
    for column, name in enumerate(("sequence", "item-knn")):
        np.testing.assert_allclose(found[:, column], sources[name][0, places], atol=2e-6)
    assert (found[:, 2] == 0).all()
