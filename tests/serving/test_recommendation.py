"""POST /v1/recommend: who answers, what is shown, what is logged, and how soon feedback is felt."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from attune.event_log import EventLog
from attune.influence import NEWCOMER
from attune.user_state import UserState, fold
from models.ranking.policy import PlackettLuce, Pool
from serving.ranking import UNUSED, PopularityFallback


def ids(slate: dict) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def scores(slate: dict) -> dict[str, float]:
    return {item["item_id"]: item["score"] for item in slate["items"]}


def introduce(endpoint, user_id: str, items: list[str]) -> None:
    for item_id in items:
        assert endpoint.event(user_id, item_id).status_code == 200


def test_a_known_user_is_served_by_the_champion(endpoint) -> None:
    introduce(endpoint, "known", ["a-0", "a-1"])
    slate = endpoint.recommend("known", k=5, seed=1)
    assert slate["served_by"] == "champion"
    assert slate["model_version"] == "1"
    assert slate["user_id"] == "known"
    assert slate["degraded"] == []
    assert [item["position"] for item in slate["items"]] == [1, 2, 3, 4, 5]
    assert len(set(ids(slate))) == 5
    assert all(0 < item["propensity"] <= 1 for item in slate["items"])
    assert all(item["title"] for item in slate["items"])
    assert slate["policy"]["name"] == "plackett-luce"
    assert slate["policy"]["seed"] == 1


def test_an_unknown_user_gets_what_is_popular_and_is_told(endpoint) -> None:
    slate = endpoint.recommend("nobody-ever-saw-me", k=5)
    assert slate["served_by"] == "popularity"
    assert slate["model_version"] == "1"
    assert slate["state_position"] == 0
    assert len(slate["items"]) == 5


def test_a_user_who_did_only_unknown_things_gets_what_is_popular(endpoint) -> None:
    introduce(endpoint, "elsewhere", ["an-item-of-another-shop"])
    slate = endpoint.recommend("elsewhere")
    assert slate["served_by"] == "popularity"
    assert slate["state_position"] > 0


def test_what_was_seen_or_excluded_is_not_shown(endpoint) -> None:
    introduce(endpoint, "picky", ["a-0", "a-1", "b-0"])
    slate = endpoint.recommend("picky", k=100, exclude=["a-2", "no such item"])
    assert not {"a-0", "a-1", "a-2", "b-0"} & set(ids(slate))
    assert len(slate["items"]) == 24 - 4


def test_the_same_seed_gives_the_same_slate(endpoint) -> None:
    introduce(endpoint, "seeded", ["a-0"])
    first, second = (endpoint.recommend("seeded", seed=7) for _ in range(2))
    assert first["items"] == second["items"]
    assert first["slate_id"] != second["slate_id"]
    assert any(endpoint.recommend("seeded", seed=seed)["items"] != first["items"] for seed in range(8, 12))


def test_a_drawn_seed_is_named_and_repeats_the_slate(endpoint) -> None:
    introduce(endpoint, "unseeded", ["b-0"])
    first = endpoint.recommend("unseeded")
    assert endpoint.recommend("unseeded", seed=first["policy"]["seed"])["items"] == first["items"]


def test_feedback_is_felt_at_the_next_request_by_its_user_alone(endpoint) -> None:
    introduce(endpoint, "feeling", ["a-0", "b-0"])
    introduce(endpoint, "control", ["a-0", "b-0"])
    before, control_before = (endpoint.recommend(user, k=20, seed=3) for user in ("feeling", "control"))
    liked = [item for item in ids(before) if item.startswith("b")][:2]
    for item_id in liked:
        reply = endpoint.feedback(before, item_id, "like")
        assert reply.status_code == 200
        after = endpoint.recommend("feeling", k=20, seed=3)
        assert after["state_position"] >= reply.json()["position"]
        assert item_id not in ids(after)
    control_after = endpoint.recommend("control", k=20, seed=3)
    assert control_after["items"] == control_before["items"]
    assert control_after["state_position"] == control_before["state_position"]

    def lead(slate: dict) -> float:
        """By how much the mean score of group b lies above that of group a."""
        found = scores(slate)
        groups = [[score for item, score in found.items() if item[0] == group] for group in "ba"]
        return float(np.mean(groups[0]) - np.mean(groups[1]))

    assert lead(after) > lead(before)


def test_a_dislike_moves_the_other_way(endpoint) -> None:
    for user in ("liker", "hater"):
        introduce(endpoint, user, ["a-0", "b-0"])
    slates = {user: endpoint.recommend(user, k=20, seed=3) for user in ("liker", "hater")}
    assert endpoint.feedback(slates["liker"], "b-1", "like").status_code == 200
    assert endpoint.feedback(slates["hater"], "b-1", "dislike").status_code == 200
    liker, hater = (scores(endpoint.recommend(user, k=20, seed=3)) for user in ("liker", "hater"))
    group = [item for item in liker if item in hater and item.startswith("b")]
    assert sum(liker[item] - hater[item] for item in group) > 0


@pytest.mark.parametrize("way", ["events", "feedback"])
def test_the_very_next_request_reflects_every_acknowledgement(endpoint, way: str) -> None:
    user = f"impatient-{way}"
    slate = endpoint.recommend(user, k=24)
    for turn in range(24):
        item_id = f"{'abc'[turn % 3]}-{turn // 3}"
        reply = endpoint.event(user, item_id) if way == "events" else endpoint.feedback(slate, item_id, "click")
        assert reply.status_code == 200
        assert endpoint.recommend(user)["state_position"] >= reply.json()["position"]


def test_what_another_process_wrote_counts_as_well(endpoint, clicks) -> None:
    with closing(EventLog(endpoint.settings.log_url)) as other:
        position = other.append(clicks("elsewhere-written", ["a-0", "a-1"])).positions[-1]
    slate = endpoint.recommend("elsewhere-written", k=24)
    assert slate["state_position"] == position
    assert not {"a-0", "a-1"} & set(ids(slate))


def test_the_snapshot_and_the_tail_give_the_state_of_the_log_alone(endpoint, feature_store) -> None:
    introduce(endpoint, "pushed", ["a-0", "b-0", "c-0"])
    introduce(endpoint, "unpushed", ["a-0", "b-0", "c-0"])
    feature_store.push_states([fold(UserState("pushed"), endpoint.log.tail("pushed", 0)[:2])])
    pushed, unpushed = (endpoint.recommend(user, k=24, seed=5) for user in ("pushed", "unpushed"))
    assert ids(pushed) == ids(unpushed)
    assert pushed["state_position"] == endpoint.log.tail("pushed", 0)[-1].position


def test_a_snapshot_of_another_log_is_thrown_away(endpoint, feature_store) -> None:
    introduce(endpoint, "restored", ["a-0"])
    state = fold(UserState("restored"), endpoint.log.tail("restored", 0))
    feature_store.push_states([replace(state, position=state.position + 1_000_000, seen=("a-1", "a-2"))])
    slate = endpoint.recommend("restored", k=24)
    assert slate["state_position"] == endpoint.log.tail("restored", 0)[-1].position
    assert {"a-1", "a-2"} <= set(ids(slate))


def test_the_logged_slate_is_the_answer_and_its_propensities_are_the_policys(endpoint) -> None:
    introduce(endpoint, "logged", ["a-0", "a-1"])
    answer = endpoint.recommend("logged", k=6, context={"device": "phone"}, exclude=["c-0"])
    slate = endpoint.slate(answer["slate_id"])
    assert (slate.user_id, slate.model_version, slate.served_by) == ("logged", "1", "champion")
    assert [(i.item_id, i.score, i.propensity) for i in slate.shown] == [
        (i["item_id"], i["score"], i["propensity"]) for i in answer["items"]
    ]
    assert slate.policy == answer["policy"]
    assert slate.state_position == answer["state_position"]
    assert slate.context["request"] == {"device": "phone"}
    assert (slate.context["k"], slate.context["exclude"]) == (6, ["c-0"])
    assert {item.item_id for item in slate.shown} <= {item.item_id for item in slate.candidates}
    assert len(slate.candidates) <= 200

    policy = PlackettLuce(slate.policy["temperature"], slate.policy["candidates"])
    found = {item.item_id: place for place, item in enumerate(slate.candidates)}
    logits = np.array([item.score for item in slate.candidates])
    pool, places = Pool(logits, 6, np.random.default_rng(0)), [found[item.item_id] for item in slate.shown]
    (chances,) = policy.propensities_of([pool], [np.array(places)])
    assert [item.propensity for item in slate.shown] == pytest.approx(chances.tolist(), rel=1e-9)


def test_without_a_model_the_log_is_counted(bare, clicks) -> None:
    assert bare.recommend("early")["items"] == []
    bare.log.append([event for n in range(6) for event in clicks(f"u{n}", ["x", "y", "z"][: 1 + n % 3])])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    slate = bare.recommend("u0", k=10)
    assert slate["served_by"] == "popularity"
    assert slate["model_version"] is None
    assert sorted(ids(slate)) == ["y", "z"]
    pool, first = Pool(np.log(UNUSED + NEWCOMER * np.array([4.0, 2.0])), 1, np.random.default_rng(0)), slate["items"][0]
    place = np.array([0 if first["item_id"] == "y" else 1])
    (chance,) = PopularityFallback.policy.propensities_of([pool], [place])
    assert first["propensity"] == pytest.approx(chance[0], rel=1e-6)
    assert slate["items"][1]["propensity"] == 1.0
    assert bare.slate(slate["slate_id"]).model_version == ""
