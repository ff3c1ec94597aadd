"""A challenger judged by what a champion showed: chances that are those of its own draw, on the state of the slate."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attune.events import Interaction, LoggedEvent
from attune.user_state import UserState, fold
from evaluation.gates.off_policy_value import OffPolicyValue
from evaluation.offpolicy.estimate import OffPolicyLimits
from evaluation.offpolicy.logged_policy import (
    ANOTHER_STATE,
    NO_CANDIDATE,
    NO_SCORE,
    UNKNOWN_ITEM,
    LoggedSlates,
    logged_slates,
    states_at,
)
from evaluation.offpolicy.value_change import value_change
from models.bundle import Bundle, Provenance, golden_batch, save_bundle
from models.catalogue import Catalogue
from models.history import KIND_INDEX
from models.hybrid import Hybrid
from models.learning.dataset import TrainingSet
from models.ranking.exploration import Bounded, Epsilon
from models.ranking.policy import PlackettLuce, Policy
from models.ranking.thompson import LinearPosterior, Thompson
from models.recommender import Recommendation, Request, SlateQuery, histories_from_states, recommend_many
from models.sources import LIVE

KNN, POPULAR = (0.1, 0.8, 0.1), (0.0, 0.0, 1.0)
KINDS = {place: name for name, place in KIND_INDEX.items()}


def logged_events(training_set: TrainingSet) -> list[LoggedEvent]:
    """The events of a training set as the log had them."""
    return [
        LoggedEvent(
            int(position), 0,
            Interaction(
                event_id=f"e{position}", event_timestamp=int(time), user_id=training_set.user_ids[user],
                item_id=training_set.catalogue.item_ids[item], kind=KINDS[kind],
            ),
        )
        for position, time, user, item, kind in zip(
            training_set.positions, training_set.times, training_set.users, training_set.items, training_set.kinds,
            strict=True,
        )
    ]  # fmt: skip


@pytest.fixture(scope="module")
def states(planted: TrainingSet) -> Callable[[str, int], UserState]:
    events = logged_events(planted)
    return lambda user, upto: fold(UserState(user), [one for one in events if one.position <= upto])


@pytest.fixture(scope="module")
def made(
    planted: TrainingSet, make_hybrid: Callable[..., Hybrid], provenance: Provenance, cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Bundle]:  # fmt: skip
    """A bundle of the planted world by the weights of its parts and its policy."""
    golden = golden_batch(planted, cut, planted.catalogue)

    def one(weights: tuple[float, float, float], policy: Policy, live: float = 0.0) -> Bundle:
        folder = tmp_path_factory.mktemp("bundle") / "it"
        hybrid = replace(make_hybrid(planted, cut, weights), live=live)
        return Bundle.load(save_bundle(folder, hybrid, planted.catalogue, policy, provenance, golden))

    return one


@dataclass
class Served:
    """Slates of a bundle, and what is written of them."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, user: str, state_position: int, moment: int, k: int, slate: Recommendation, likes: np.ndarray
    ) -> None:
        self.rows.append({
            "position": 10_000 + len(self.rows), "user_id": user, "event_timestamp": moment,
            "state_position": state_position, "k": k,
            "policy": {name: slate.policy.get(name) for name in ("seed", "explored_before", "budget")},
            "items": [one.item_id for one in slate.shown],
            "propensities": [one.propensity for one in slate.shown], "rewards": likes.tolist(),
            "candidates": [one.item_id for one in slate.candidates],
            "scores": [one.score for one in slate.candidates],
        })  # fmt: skip

    def write(self, folder: Path, left_out: dict[str, int] | None = None) -> Path:
        folder.mkdir()
        pq.write_table(pa.Table.from_pylist(self.rows), folder / "slates.parquet")
        (folder / "slates.json").write_text(json.dumps({"left_out": left_out or {}, "feedback": {"burst": 3}}))
        return folder


@pytest.fixture
def serve(planted: TrainingSet, states) -> Callable[..., Served]:
    """Slates for users of the planted world, from states of the past; items of one's own cluster please."""

    def one(
        bundle: Bundle, slates: int = 60, k: int = 3, live_1N: np.ndarray | None = None, seed: int = 0,
        liked: float = 0.8,
    ) -> Served:  # fmt: skip
        rng, found = np.random.default_rng(seed), Served()
        latest = int(planted.positions.max())
        known, asked = [], []
        for number in range(slates):
            user = str(planted.user_ids[number % len(planted.user_ids)])
            state = states(user, int(rng.integers(1, latest)))
            request = Request(k, int(planted.times.max()) + number, seed=int(rng.integers(2**53)))
            known.append(state)
            asked.append(SlateQuery(state, None, request, explored=number % 3))
        for state, one, slate in zip(known, asked, recommend_many(bundle, asked, live_1N=live_1N), strict=True):
            of_cluster = np.array([item.item_id[:2] == cluster_of(planted, state.user_id) for item in slate.shown])
            rewards = np.where(rng.random(len(of_cluster)) < np.where(of_cluster, liked, 0.1), 1.0, 0.5)
            found.add(state.user_id, state.position, one.request.now, k, slate, rewards)
        return found

    return one


def cluster_of(planted: TrainingSet, user: str) -> str:
    """``c0`` to ``c3``: whose items this user uses."""
    place = int(np.flatnonzero(planted.user_ids == user)[0])
    return planted.catalogue.item_ids[planted.items[planted.users == place][0]][:2]


THOMPSON = Thompson(LinearPosterior.prior(2, 0.3), ("item-knn", LIVE), samples=64, floor=1e-3)
POLICIES: dict[str, Policy] = {
    "plackett-luce": PlackettLuce(0.1),
    "diverse": PlackettLuce(0.1, diversity=0.2),
    "epsilon": Epsilon(0.3),
    "thompson": THOMPSON,
    "bounded": Bounded(PlackettLuce(0.3), budget=3, least_quality=0.2),
}


@pytest.mark.parametrize("live", [0.0, 0.2])
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_the_champions_own_chances_are_the_logged_propensities(
    made, serve, planted: TrainingSet, tmp_path: Path, policy: Policy, live: float
) -> None:
    champion = made(KNN, policy, live)
    said_1N = np.random.default_rng(1).uniform(-1, 1, (1, len(planted.catalogue))).astype(np.float32)
    folder = serve(champion, live_1N=said_1N if live else None).write(tmp_path / "slates")
    found = logged_slates(folder, planted, champion, champion)
    assert found.log is not None
    assert len(found.log) == found.restated == 60
    assert found.left_out == {}
    assert found.alike == (0 if live else 60)
    np.testing.assert_allclose(found.log.chances_SK, found.log.propensities_SK, rtol=2e-3)
    change = value_change(found).change
    assert max(abs(change.value), abs(change.low), abs(change.high)) < 1e-3


def test_a_slate_counts_down_to_what_was_left_of_its_users_budget(
    made, serve, planted: TrainingSet, tmp_path: Path
) -> None:
    """Three positions may explore; none, one or two have before. Propensities are compared on whole slates."""
    champion = made(KNN, Bounded(PlackettLuce(0.3), budget=3))
    found = logged_slates(
        serve(champion).write(tmp_path / "slates"), planted, made(POPULAR, PlackettLuce(0.3)), champion
    )
    assert found.log is not None
    assert found.log.shown_SK.sum(axis=1).tolist() == [3, 2, 1] * 20
    assert (found.shortened, found.restated) == (40, 60)
    assert ["slates that count down to what was left of a budget", "40", "", ""] in value_change(found).rows()


def test_a_challengers_chances_are_those_of_its_own_draw_from_these_candidates(
    made, serve, states, planted: TrainingSet, tmp_path: Path
) -> None:
    """With what everybody said at that moment, which no file holds."""
    champion, challenger = made(POPULAR, PlackettLuce(0.3), 0.2), made(KNN, PlackettLuce(0.2), 0.1)
    said_1N = np.random.default_rng(1).uniform(-1, 1, (1, len(planted.catalogue))).astype(np.float32)
    served = serve(champion, live_1N=said_1N)
    found = logged_slates(served.write(tmp_path / "slates"), planted, challenger, champion)
    assert found.log is not None
    for slate, chances_K in zip(served.rows, found.log.chances_SK, strict=True):
        state = states(slate["user_id"], slate["state_position"])
        asked = SlateQuery(state, None, Request(3, slate["event_timestamp"], seed=0))
        (own,) = recommend_many(challenger, [asked], live_1N=said_1N)
        scores = {one.item_id: one.score for one in own.candidates}  # all that is left: the catalogue is small
        weights = {item: np.exp(scores[item] / 0.2) for item in slate["candidates"]}
        for item, chance in zip(slate["items"], chances_K, strict=True):
            assert chance == pytest.approx(weights[item] / sum(weights.values()), rel=1e-3)
            del weights[item]


def test_states_are_those_that_serving_folded(planted: TrainingSet, states) -> None:
    """Of shuffled dates too: what was logged later is not known, however early it is dated."""
    rng = np.random.default_rng(2)
    shuffled = replace(planted, positions=rng.permutation(planted.positions))
    events = logged_events(shuffled)
    users_B = rng.integers(0, len(planted.user_ids), 50)
    positions_B = rng.integers(0, planted.positions.max() + 1, 50)
    known = [
        fold(
            UserState(str(planted.user_ids[user])),
            sorted((one for one in events if one.position <= upto), key=lambda one: one.position),
        )
        for user, upto in zip(users_B, positions_B, strict=True)
    ]
    moments_B = np.arange(50) + int(planted.times.max())
    found = states_at(shuffled, users_B, positions_B, moments_B, planted.catalogue)
    expected = histories_from_states(planted.catalogue, known, found.user_stats_BF, moments_B)
    for name in expected.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_nobody_has_no_history(planted: TrainingSet) -> None:
    found = states_at(planted, np.array([-1, 0]), np.array([10**6, 0]), np.zeros(2, np.int64), planted.catalogue)
    assert (found.items_BL == 0).all()
    assert np.isnan(found.user_stats_BF).all()


def test_statistics_are_those_of_the_latest_event_that_was_known(planted: TrainingSet) -> None:
    stats_EF = np.repeat(planted.positions[:, None], 4, axis=1).astype(np.float32)
    counted = replace(planted, user_stats_EF=stats_EF)
    rows = np.flatnonzero(planted.users == 5)
    upto = int(planted.positions[rows[3]])
    found = states_at(counted, np.array([5]), np.array([upto]), np.zeros(1, np.int64), planted.catalogue)
    assert found.user_stats_BF.tolist() == [[upto] * 4]


def test_what_cannot_be_asked_about_is_counted_by_its_reason(made, serve, planted: TrainingSet, tmp_path: Path) -> None:
    champion, challenger = made(KNN, PlackettLuce(0.1)), made(POPULAR, PlackettLuce(0.1))
    served = serve(champion, 10)
    served.rows[1]["candidates"][-1] = "nobody knows it"
    served.rows[2]["items"][0] = "elsewhere"
    served.rows[3]["scores"] = [score + 0.1 for score in served.rows[3]["scores"]]
    folder = served.write(tmp_path / "slates", {"degraded answer": 4, "deterministic policy": 0})
    found = logged_slates(folder, planted, challenger, champion)
    assert found.log is not None
    assert len(found.log) == 7
    assert found.feedback == {"burst": 3}
    assert found.left_out == {"degraded answer": 4, UNKNOWN_ITEM: 1, NO_CANDIDATE: 1, ANOTHER_STATE: 1}
    knn = challenger.hybrid.popularity
    broken = replace(challenger, hybrid=challenger.hybrid.with_others(replace(knn, weights_N=knn.weights_N * np.nan)))
    assert logged_slates(folder, planted, broken, champion).left_out[NO_SCORE] == 8
    later = logged_slates(folder, planted, challenger, champion, after=int(planted.times.max()) + 4)
    assert later.log is not None
    assert len(later.log) == 5


def test_a_policy_that_is_not_the_one_that_drew_is_found_out(made, serve, planted: TrainingSet, tmp_path: Path) -> None:
    drew, another = made(KNN, PlackettLuce(0.1)), made(KNN, PlackettLuce(0.12))
    found = logged_slates(serve(drew, 200).write(tmp_path / "slates"), planted, drew, another)
    assert found.restated < 20
    change = value_change(found)
    assert any("propensities of" in reason for reason in change.reasons)
    assert change.needed is None
    assert OffPolicyValue().verdict(change).verdict == "not_applicable"


def test_items_that_came_after_the_training_are_taken_in_as_serving_does(
    made, serve, planted: TrainingSet, tmp_path: Path
) -> None:
    champion = made(KNN, PlackettLuce(0.3))
    more = Catalogue(("new-1",), ("One",), (("g1",),), (1995.0,), np.full((1, 4), np.nan, np.float32))
    folder = serve(champion.extended(more)).write(tmp_path / "slates")
    known = replace(planted, catalogue=planted.catalogue.extended(more))
    found = logged_slates(folder, known, champion, champion)
    assert found.log is not None
    assert len(found.log) == found.alike == found.restated == 60
    assert logged_slates(folder, planted, champion, champion).left_out == {UNKNOWN_ITEM: 60}


LIMITS = OffPolicyLimits()


def true_value(
    slates: Sequence[dict[str, Any]], planted: TrainingSet, challenger: Bundle, temperature: float, liked: float
) -> float:
    """What two positions of the challenger's would bring on these candidates, by every pair that it could show."""
    positions = np.array([slate["state_position"] for slate in slates])
    users = np.array([int(np.flatnonzero(planted.user_ids == slate["user_id"])[0]) for slate in slates])
    moments = np.array([slate["event_timestamp"] for slate in slates])
    batch = states_at(planted, users, positions, moments, challenger.catalogue)
    known_B = batch.items_BL[:, -1] > 0
    scores_BN = np.where(known_B[:, None], challenger.hybrid.scores(batch), challenger.popularity.scores(batch))
    total = 0.0
    for slate, scores_N in zip(slates, scores_BN, strict=True):
        worth_C = np.array(
            [liked if item[:2] == cluster_of(planted, slate["user_id"]) else 0.1 for item in slate["candidates"]]
        )
        weights_C = np.exp(scores_N[challenger.catalogue.places(slate["candidates"])].astype(float) / temperature)
        first_C = weights_C / weights_C.sum()
        second_CC = weights_C[None, :] / (weights_C.sum() - weights_C)[:, None]
        np.fill_diagonal(second_CC, 0.0)
        total += first_C @ worth_C + first_C @ second_CC @ worth_C
    return total / len(slates)


@pytest.mark.parametrize(("champion", "challenger", "verdict"), [(POPULAR, KNN, "pass"), (KNN, POPULAR, "fail")])
def test_a_world_where_the_challenger_is_truly_better_or_worse(
    made, serve, planted: TrainingSet, tmp_path: Path, champion, challenger, verdict: str
) -> None:
    temperature = 0.7
    theirs, ours = (made(weights, PlackettLuce(temperature)) for weights in (champion, challenger))
    served = serve(theirs, 1600, k=2, seed=1)
    change = value_change(logged_slates(served.write(tmp_path / "slates"), planted, ours, theirs))
    assert change.reasons == ()
    truth = {
        who: true_value(served.rows, planted, one, temperature, 0.8)
        for who, one in (("ours", ours), ("theirs", theirs))
    }
    assert change.challenger.low <= truth["ours"] <= change.challenger.high
    assert change.shown.low <= truth["theirs"] <= change.shown.high
    assert change.change.low <= truth["ours"] - truth["theirs"] <= change.change.high
    assert abs(truth["ours"] - truth["theirs"]) > 0.03
    assert OffPolicyValue().verdict(change).verdict == verdict


def test_too_few_slates_say_how_many_it_takes(made, serve, planted: TrainingSet, tmp_path: Path) -> None:
    theirs, ours = made(KNN, PlackettLuce(0.4)), made(POPULAR, PlackettLuce(0.4))
    change = value_change(logged_slates(serve(theirs, 40).write(tmp_path / "slates"), planted, ours, theirs))
    gate = OffPolicyValue().verdict(change)
    assert gate.verdict == "not_applicable"
    assert change.top == 1
    assert change.needed is not None
    assert change.needed > 40
    assert f"{change.needed:,} rows like these would do" in gate.note


def test_no_slate_at_all_says_what_became_of_them() -> None:
    gate = OffPolicyValue().verdict(value_change(LoggedSlates(None, {"deterministic policy": 500})))
    assert gate.verdict == "not_applicable"
    assert "500 deterministic policy" in gate.note


def test_where_the_whole_slate_is_too_little_its_top_decides(made, serve, planted: TrainingSet, tmp_path: Path) -> None:
    theirs, ours = made(POPULAR, PlackettLuce(0.15)), made(KNN, PlackettLuce(0.15))
    change = value_change(logged_slates(serve(theirs, 800, k=6).write(tmp_path / "slates"), planted, ours, theirs))
    assert 1 <= change.top < 6
