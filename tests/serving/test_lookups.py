"""What can be read beside slates: slates for many, neighbours, what is popular, what is known of a user."""

from collections.abc import Sequence
from urllib.parse import quote

import numpy as np
import pytest

from attune.events import Interaction, Item, User
from attune.user_state import UserState, fold
from models.bundle import Bundle
from serving.state import TailQuery, TailView

ODD = ["plain", "with space", "slash/inside", "東京/café", "50%", "a?b#c&d=e", "x/similar", "x/state", "../up"]


def batch(endpoint, *requests: object) -> list[dict]:
    reply = endpoint.client.post("/v1/recommend/batch", json={"requests": requests})
    assert reply.status_code == 200, reply.text
    return reply.json()["answers"]


def test_a_batch_answers_in_order_what_each_would_have_got_alone(endpoint) -> None:
    users = [f"together-{number}" for number in range(100)]
    for number in range(0, 100, 7):
        endpoint.event(users[number], f"b-{number % 8}")
    found = batch(endpoint, *({"user_id": user, "k": 4, "seed": 9} for user in users))
    assert [one["slate"]["user_id"] for one in found] == users
    assert all(one["error"] is None for one in found)
    for number in (0, 1, 7, 99):
        alone = endpoint.recommend(users[number], k=4, seed=9)["items"]
        assert [one["item_id"] for one in found[number]["slate"]["items"]] == [one["item_id"] for one in alone]
    assert endpoint.slate(found[50]["slate"]["slate_id"]).user_id == users[50]
    assert endpoint.feedback(found[50]["slate"], found[50]["slate"]["items"][0]["item_id"]).status_code == 200


def test_one_that_is_wrong_is_refused_in_its_place(endpoint) -> None:
    wrong = [{"user_id": "u", "k": 0}, {"user_id": ""}, 5, {"user_id": "u", "kk": 1}, {"user_id": "u", "context": [1]}]
    found = batch(endpoint, {"user_id": "first"}, *wrong, {"user_id": "last"})
    assert [one["error"] and one["error"]["field"] for one in found] == [
        None, "k", "user_id", "body", "kk", "context", None
    ]  # fmt: skip
    assert [one["slate"] and one["slate"]["user_id"] for one in found] == ["first", *[None] * 5, "last"]
    assert all(one["error"]["request_id"] for one in found[1:-1])
    oversized = {"user_id": "u", "context": {"x": "y" * 20_000}}
    assert [one["error"] and one["error"]["field"] for one in batch(endpoint, oversized, {"user_id": "v"})] == [
        "context", None
    ]  # fmt: skip


def test_one_that_fails_unexpectedly_costs_no_other(bare, monkeypatch) -> None:
    work = bare.components.tails._work

    def fails(looks: Sequence[TailQuery]) -> list[TailView]:
        if any(one.state.user_id == "bad" for one in looks):
            raise ZeroDivisionError
        return work(looks)

    monkeypatch.setattr(bare.components.tails, "_work", fails)
    found = batch(bare, {"user_id": "good"}, {"user_id": "bad"})
    assert found[0]["slate"]["user_id"] == "good"
    assert "unexpected" in found[1]["error"]["message"]


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        (b"{}", "requests", 422),
        (b'{"requests":[]}', "requests", 422),
        (b'{"requests":[' + b",".join([b'{"user_id":"u"}'] * 101) + b"]}", "requests", 422),
        (b'{"requests":{}}', "requests", 422),
        (b'{"requests":[{]}', "body", 422),
        (b'{"requests":[' + b" " * 1_100_000 + b"]}", "body", 413),
    ],
)
def test_a_batch_that_is_none_is_refused(endpoint, body: bytes, field: str, status: int) -> None:
    reply = endpoint.client.post("/v1/recommend/batch", content=body)
    assert (reply.status_code, reply.json()["error"]["field"]) == (status, field)


def test_the_neighbours_are_the_nearest_of_all(endpoint, bundles) -> None:
    bundle = Bundle.load(bundles["first"])
    ids, likeness_ND = bundle.catalogue.item_ids, bundle.likeness_ND
    similarity_N = likeness_ND @ likeness_ND[ids.index("b-3")]
    nearest = [ids[place] for place in np.argsort(-similarity_N, kind="stable") if ids[place] != "b-3"]
    found = endpoint.client.get("/v1/items/b-3/similar", params={"k": 5}).json()
    assert (found["item_id"], found["title"], found["model_version"]) == ("b-3", "Title of b-3", "1")
    assert [one["item_id"] for one in found["items"]] == nearest[:5]
    assert found["items"][0]["title"] == f"Title of {nearest[0]}"
    assert [one["similarity"] for one in found["items"]] == pytest.approx(sorted(similarity_N)[-2:-7:-1], abs=1e-5)
    assert len(endpoint.client.get("/v1/items/b-3/similar").json()["items"]) == 10
    assert len(endpoint.client.get("/v1/items/b-3/similar?k=100").json()["items"]) == len(ids) - 1


@pytest.mark.parametrize("item_id", ODD)
def test_an_unknown_item_is_named_as_it_was_asked_for(endpoint, item_id: str) -> None:
    reply = endpoint.client.get(f"/v1/items/{quote(item_id, safe='')}/similar")
    assert (reply.status_code, reply.json()["error"]["field"]) == (404, "item_id")
    assert repr(item_id) in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("/v1/items/a-1/similar?k=0", "k"),
        ("/v1/items/a-1/similar?k=101", "k"),
        ("/v1/items/a-1/similar?k=ten", "k"),
        ("/v1/items/a-1/similar?k=", "k"),
        ("/v1/items/a-1/similar?kk=3", "kk"),
        ("/v1/items/a-1/similar?k=1&k=2", "k"),
        ("/v1/items/a-1/similar?item_id=a-2", "item_id"),
        ("/v1/items/%20a/similar", "item_id"),
        ("/v1/items/%00/similar", "item_id"),
        ("/v1/items//similar", "item_id"),
        (f"/v1/users/{'x' * 257}/state", "user_id"),
        ("/v1/users/u/state?limit=-1", "limit"),
        ("/v1/users/u/state?limit=201", "limit"),
        ("/v1/popular?k=1000", "k"),
        ("/v1/popular?user=u", "user"),
    ],
)
def test_what_is_wrong_with_an_address_is_named(endpoint, address: str, field: str) -> None:
    reply = endpoint.client.get(address)
    assert (reply.status_code, reply.json()["error"]["field"]) == (422, field), reply.text


def test_what_is_popular_comes_from_the_champion(endpoint, bundles) -> None:
    bundle = Bundle.load(bundles["first"])
    weights_N = bundle.popularity.weights_N
    best = np.argsort(-weights_N, kind="stable")[:3]
    found = endpoint.client.get("/v1/popular?k=3").json()
    assert (found["counted_by"], found["model_version"]) == ("champion", "1")
    assert [one["item_id"] for one in found["items"]] == [bundle.catalogue.item_ids[place] for place in best]
    assert [one["score"] for one in found["items"]] == pytest.approx(weights_N[best].tolist())
    assert found["items"][0]["title"].startswith("Title of ")


def test_without_a_champion_the_log_says_what_is_popular_and_nobody_what_is_alike(bare, clicks) -> None:
    named = Item(event_id="i", event_timestamp=1, item_id="y", attributes={"title": "Why"})
    bare.log.append([*clicks("u", "xyz"), *clicks("v", "yz"), *clicks("w", "y"), named])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    found = bare.client.get("/v1/popular?k=2").json()
    assert (found["counted_by"], found["model_version"]) == ("log", None)
    assert [(one["item_id"], one["title"]) for one in found["items"]] == [("y", "Why"), ("z", None)]
    reply = bare.client.get("/v1/items/y/similar")
    assert reply.status_code == 503
    assert "no champion" in reply.json()["error"]["message"]


def test_what_the_log_says_of_items_holds_for_neighbours_and_the_popular(bare, install, eventually) -> None:
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")

    def told(item_id: str, **attributes: object) -> Item:
        return Item(event_id=f"about {item_id}", event_timestamp=1, item_id=item_id, attributes=attributes)

    bare.log.append([told(f"a-{number}", available=False) for number in range(8)])
    bare.log.append([told("later", genres=["b"], title="Later"), told("b-0", title="Other")])
    for way in ("items/a-1/similar", "popular"):
        items = bare.client.get(f"/v1/{way}?k=100").json()["items"]
        assert {one["item_id"] for one in items} == {*(f"{group}-{n}" for group in "bc" for n in range(8)), "later"}
        assert {one["title"] for one in items if one["item_id"] in ("later", "b-0")} == {"Later", "Other"}
    assert bare.client.get("/v1/items/later/similar").json()["title"] == "Later"


@pytest.mark.parametrize("user_id", ODD)
def test_the_state_of_a_user_of_any_name(endpoint, user_id: str) -> None:
    def event(number: int, kind: str, value: float | None = None, **fields: str) -> Interaction:
        return Interaction(
            event_id=f"{user_id}-{number}",
            event_timestamp=1_700_000_000_000_000 + number,
            user_id=user_id,
            item_id=f"a-{number}",
            kind=kind,
            value=value,
            **fields,
        )

    told = User(event_id=f"{user_id}-u", event_timestamp=1, user_id=user_id, attributes={"language": "en"})
    endpoint.log.append([told, event(0, "like"), event(1, "click"), event(2, "rating", 4.5)])
    endpoint.log.append([event(3, "retract", retracts=f"{user_id}-0")])
    address = f"/v1/users/{quote(user_id, safe='')}/state"
    found = endpoint.client.get(address).json()
    assert found["user_id"] == user_id
    assert found["position"] == endpoint.log.tail(user_id, 0)[-1].position
    assert (found["events"], found["seen"], found["attributes"]) == (4, 2, {"language": "en"})
    assert found["counts"] == {"like": 1, "click": 1, "rating": 1, "retract": 1}
    assert [one["item_id"] for one in found["recent"]] == ["a-2", "a-1", "a-0"]
    assert found["recent"][0] == {
        "event_id": f"{user_id}-2",
        "item_id": "a-2",
        "title": "Title of a-2",
        "kind": "rating",
        "value": 4.5,
        "event_timestamp": "2023-11-14T22:13:20.000002+00:00",
        "position": found["position"] - 1,
        "retracted": False,
    }
    assert [one["retracted"] for one in found["recent"]] == [False, False, True]
    assert (found["snapshot_position"], found["snapshot_from"], found["tail"]) == (0, None, 5)
    again = endpoint.client.get(f"{address}?limit=1").json()
    assert [one["item_id"] for one in again["recent"]] == ["a-2"]
    assert (again["snapshot_position"], again["snapshot_from"], again["tail"]) == (found["position"], "process", 0)
    assert endpoint.client.get(f"{address}?limit=0").json()["recent"] == []


def test_nothing_is_known_of_somebody_unknown(endpoint) -> None:
    found = endpoint.client.get("/v1/users/never-seen/state").json()
    assert (found["position"], found["events"], found["recent"], found["first_event_at"]) == (0, 0, [], None)
    assert found["degraded"] == []


def test_a_state_from_the_feature_store_says_so(endpoint, feature_store, clicks) -> None:
    endpoint.log.append(clicks("pushed-before", ["a-0", "a-1", "a-2"]))
    logged = endpoint.log.tail("pushed-before", 0)
    feature_store.push_states([fold(UserState("pushed-before"), logged[:2])])
    found = endpoint.client.get("/v1/users/pushed-before/state").json()
    assert (found["snapshot_position"], found["snapshot_from"]) == (logged[1].position, "features")
    assert (found["tail"], found["position"], len(found["recent"])) == (1, logged[2].position, 3)
