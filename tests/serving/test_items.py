"""The live catalogue: what was acknowledged of an item holds for the very next request, of every process."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from attune.errors import EventLogError
from attune.event_log import EventLog, prepare
from attune.events import Item, LoggedEvent
from attune.influence import PopularityCounts
from attune.settings import Settings
from attune.user_state import UserState, current
from models.bundle import Bundle
from models.item_vectors import TextVectors, VectorSpace
from models.network.sequence import ItemAttributes, SequenceNetwork, SequenceRecommender
from models.recommender import Request, SlateQuery, recommend_many
from serving.catalogue_snapshot import CatalogueReader, ItemFilter, LiveModel
from serving.ranking import PopularityFallback

PLANTED = [f"{group}-{number}" for group in "abc" for number in range(8)]


def ids(slate: dict) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def address(item_id: str) -> str:
    return f"/v1/items/{quote(item_id, safe='')}"


def put(endpoint, item_id: str, attributes: dict[str, Any], **fields: Any) -> httpx.Response:
    return endpoint.client.put(address(item_id), json={"attributes": attributes, **fields})


def patch(endpoint, item_id: str, attributes: dict[str, Any], **fields: Any) -> httpx.Response:
    return endpoint.client.patch(address(item_id), json={"attributes": attributes, **fields})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two endpoints write beside each other here: one waits for the other as long as it would anywhere."""
    return settings.model_copy(update={"lock_seconds": 10.0})


@pytest.fixture
def shop(bare, install, eventually):
    """An endpoint of the test's own with a champion over 24 items, of which the log says nothing yet."""
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    return bare


def test_a_new_item_can_be_recommended_at_the_next_request(shop) -> None:
    shop.event("u", "a-0")
    assert len(shop.recommend("u", k=100)["items"]) == 23
    reply = put(shop, "new", {"title": "Brand new", "genres": ["a"]})
    assert reply.status_code == 200
    assert reply.json() | {"event_id": "", "position": 0} == {
        "item_id": "new", "attributes": {"title": "Brand new", "genres": ["a"]}, "event_id": "", "position": 0,
        "status": "accepted",
    }  # fmt: skip
    slate = shop.recommend("u", k=100)
    assert len(ids(slate)) == 24
    assert {item["item_id"]: item["title"] for item in slate["items"]}["new"] == "Brand new"
    assert slate["served_by"] == "champion"
    candidates = {one.item_id: one.source for one in shop.slate(slate["slate_id"]).candidates}
    assert candidates["new"] in ("new", "sequence")
    assert "new" in ids(shop.recommend("somebody else", k=100))
    assert shop.feedback(slate, "new").status_code == 200
    assert "new" not in ids(shop.recommend("u", k=100))
    assert shop.recommend("only saw the new one", k=1)["served_by"] == "popularity"
    shop.event("only saw the new one", "new")
    assert shop.recommend("only saw the new one", k=1)["served_by"] == "champion"


def test_out_of_stock_holds_at_the_next_request_and_so_does_its_end(shop) -> None:
    put(shop, "a-1", {"title": "Tea", "genres": ["a"]})
    for _ in range(3):
        assert patch(shop, "a-1", {"available": False}).status_code == 200
        assert "a-1" not in ids(shop.recommend("u", k=100))
        assert patch(shop, "a-1", {"available": True}).status_code == 200
        slate = shop.recommend("u", k=100)
        assert {item["item_id"]: item["title"] for item in slate["items"]}["a-1"] == "Tea"
        assert len(ids(slate)) == 24


def test_a_retired_item_is_never_shown_and_what_was_known_is_kept(shop) -> None:
    shop.event("u", "b-0")
    put(shop, "a-1", {"title": "Tea", "stock": 3})
    reply = shop.client.delete(address("a-1"))
    assert reply.json()["attributes"] == {"title": "Tea", "stock": 3, "retired": True}
    for seed in range(20):
        assert "a-1" not in ids(shop.recommend("u", k=100, seed=seed))
    found = shop.client.get(address("a-1")).json()
    assert (found["shown"], found["learned"]) == (False, True)
    patch(shop, "a-1", {"available": True})
    assert "a-1" not in ids(shop.recommend("u", k=100)), "stock that comes in brings no retired item back"


def test_what_is_known_of_an_item(shop) -> None:
    assert shop.client.get(address("a-0")).status_code == 404, "of a-0 the log says nothing"
    position = put(shop, "a-0", {"title": "T", "year": 1999}).json()["position"]
    assert shop.client.get(address("a-0")).json() == {
        "item_id": "a-0", "attributes": {"title": "T", "year": 1999}, "position": position, "shown": True,
        "learned": True,
    }  # fmt: skip
    put(shop, "other", {})
    assert shop.client.get(address("other")).json()["learned"] is False
    reply = patch(shop, "a-0", {"year": None, "genres": ["x", "y"]})
    assert reply.json()["attributes"] == {"title": "T", "genres": ["x", "y"]}
    assert put(shop, "a-0", {"stock": 1}).json()["attributes"] == {"stock": 1}
    assert shop.client.get(address("a-0")).json()["attributes"] == {"stock": 1}
    item = shop.log.item("a-0")
    assert item is not None
    assert item.attributes == {"stock": 1}


def test_items_that_are_unknown_are_not_changed(shop) -> None:
    for reply in (
        patch(shop, "nobody", {"available": False}),
        shop.client.delete(address("nobody")),
        shop.client.get(address("nobody")),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["field"] == "item_id"
    assert shop.log.last_item_position() == 0


def test_the_same_event_again_changes_nothing(shop) -> None:
    first = put(shop, "x", {"stock": 1, "colour": "red"}, event_id="once").json()
    again = put(shop, "x", {"stock": 1, "colour": "red"}, event_id="once").json()
    assert (again["status"], again["position"]) == ("repeated", first["position"])
    assert put(shop, "x", {"stock": 2}, event_id="once").status_code == 409
    assert put(shop, "y", {"stock": 1, "colour": "red"}, event_id="once").status_code == 409
    changed = patch(shop, "x", {"colour": None, "size": 4}, event_id="twice").json()
    patch(shop, "x", {"stock": 9})
    again = patch(shop, "x", {"colour": None, "size": 4}, event_id="twice").json()
    assert (again["status"], again["position"]) == ("repeated", changed["position"])
    assert again["attributes"] == {"stock": 1, "size": 4}
    assert patch(shop, "x", {"size": 5}, event_id="twice").status_code == 409
    retired = shop.client.delete(address("x"), params={"event_id": "gone"}).json()
    assert shop.client.delete(address("x"), params={"event_id": "gone"}).json()["position"] == retired["position"]
    assert shop.client.get(address("x")).json()["attributes"] == {"stock": 9, "size": 4, "retired": True}


@pytest.mark.parametrize("item_id", ["a/b/c", "slash/", "日本 茶", "x" * 256, "50%", "a?b=c#d", "../up", "a+b", "é"])
def test_any_id_may_stand_in_the_address(shop, item_id: str) -> None:
    assert put(shop, item_id, {"title": item_id}).json()["item_id"] == item_id
    assert shop.client.get(address(item_id)).json()["attributes"] == {"title": item_id}
    assert patch(shop, item_id, {"available": False}).status_code == 200
    assert item_id not in ids(shop.recommend("u", k=100))
    assert shop.client.delete(address(item_id)).json()["item_id"] == item_id


WRONG: list[tuple[Any, str]] = [
    ({}, "attributes"),
    ({"attributes": []}, "attributes"),
    ({"attributes": {"available": "no"}}, "attributes.available"),
    ({"attributes": {"retired": 1}}, "attributes.retired"),
    ({"attributes": {"year": "soon"}}, "attributes.year"),
    ({"attributes": {"year": True}}, "attributes.year"),
    ({"attributes": {"year": 2**53 + 1}}, "attributes.year"),
    ({"attributes": {"title": 5}}, "attributes.title"),
    ({"attributes": {"genres": "Comedy|Drama"}}, "attributes.genres"),
    ({"attributes": {"genres": ["x", 1]}}, "attributes.genres"),
    ({"attributes": {"nested": {"a": 1}}}, "attributes"),
    ({"attributes": {"nested": [["a"]]}}, "attributes"),
    ({"attributes": {"x": 2**70}}, "attributes"),
    ({"attributes": {"x\x00": 1}}, "attributes"),
    ({"attributes": {str(n): n for n in range(201)}}, "attributes"),
    ({"attributes": {}, "event_id": 5}, "event_id"),
    ({"attributes": {}, "event_id": "x" * 300}, "event_id"),
    ({"attributes": {}, "item_id": "other"}, "item_id"),
    ([], "body"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_what_is_wrong_is_refused_by_name(endpoint, body: Any, field: str) -> None:
    head = endpoint.log.last_item_position()
    for method in ("PUT", "PATCH"):
        reply = endpoint.client.request(method, address("unheard of"), json=body)
        assert reply.status_code == 422
        assert reply.json()["error"]["field"] == field
    assert endpoint.log.last_item_position() == head


def test_hostile_bodies_and_addresses(shop) -> None:
    huge = {"attributes": {"text": "x" * 1_100_000}}
    assert shop.client.put(address("x"), json=huge).status_code == 413
    assert shop.client.put(address("x"), content=b"[" * 100_000).status_code == 422
    assert shop.client.put(address("x"), content=b"\xff\xfe").status_code == 422
    assert shop.client.put(address("x"), content=b'{"attributes": {"x": 1e999}}').status_code == 422
    assert shop.client.put(address(" blanks "), json={"attributes": {}}).status_code == 422
    assert shop.client.put(address("x" * 257), json={"attributes": {}}).status_code == 422
    assert shop.client.put("/v1/items/%00", json={"attributes": {}}).status_code == 422
    assert shop.client.delete("/v1/items/x?event=1").status_code == 422
    assert shop.client.put(address("x"), json={"attributes": {"text": "y" * 900_000}}).status_code == 200
    assert "x" in ids(shop.recommend("u", k=100))
    assert len(shop.client.get(address("x")).json()["attributes"]["text"]) == 900_000


@pytest.fixture
def two(shop, feature_store, run_endpoint, eventually) -> Iterator[tuple[Any, Any]]:
    """Two endpoints on one log."""
    with run_endpoint(shop.settings, lambda: feature_store) as other:
        eventually(lambda: other.model_version() == "1")
        yield shop, other


def test_two_endpoints_see_each_others_changes_at_the_next_request(two) -> None:
    for turn in range(6):
        here, there = two if turn % 2 else two[::-1]
        put(here, f"new-{turn}", {"genres": ["a"]})
        assert f"new-{turn}" in ids(there.recommend("u", k=100))
        patch(there, f"new-{turn}", {"available": False})
        assert f"new-{turn}" not in ids(here.recommend("u", k=100))
        here.client.delete(address(f"new-{turn}"))
        patch(there, f"new-{turn}", {"available": True})
        assert f"new-{turn}" not in ids(there.recommend("u", k=100))
    put(two[0], "last", {"genres": ["b"]})
    put(two[1], "very last", {"genres": ["b"]})
    slates = [one.recommend("u", k=5, seed=3)["items"] for one in two]
    assert slates[0] == slates[1]


def test_changes_at_once_are_all_kept(two) -> None:
    put(two[0], "shared", {"title": "T"})

    def change(number: int) -> int:
        return patch(two[number % 2], "shared", {f"field-{number}": number}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(change, range(40))) == {200}
    expected = {"title": "T", **{f"field-{number}": number for number in range(40)}}
    assert two[1].client.get(address("shared")).json()["attributes"] == expected


def test_puts_at_once_leave_the_last_and_no_request_fails(two) -> None:
    stop, wrong = threading.Event(), []

    def ask() -> None:
        with httpx.Client(base_url=two[0].url, timeout=30.0) as client:
            while not stop.is_set():
                reply = client.post("/v1/recommend", json={"user_id": "u", "k": 100})
                if reply.status_code != 200 or reply.json()["degraded"] or len(reply.json()["items"]) < 24:
                    wrong.append(reply.text)

    asking = threading.Thread(target=ask)
    asking.start()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: put(two[n % 2], f"item-{n % 5}", {"n": n, "genres": ["a"]}), range(60)))
    stop.set()
    asking.join()
    assert wrong == []
    assert {reply.status_code for reply in replies} == {200}
    last = {}
    for reply in sorted(replies, key=lambda reply: reply.json()["position"]):
        last[reply.json()["item_id"]] = reply.json()["attributes"]
    for item_id, attributes in last.items():
        assert two[0].client.get(address(item_id)).json()["attributes"] == attributes


def test_a_filter_is_met_by_every_item_and_loses_none(shop) -> None:
    put(shop, "old", {"genres": ["a", "x"], "year": 1999, "fresh": True})
    put(shop, "newer", {"genres": ["x"], "year": 2004.0, "stock": 1})
    put(shop, "b-0", {"genres": ["x"]})

    def where(**wanted: Any) -> set[str]:
        slate = shop.recommend("u", k=100, where=wanted)
        assert shop.slate(slate["slate_id"]).context["where"] == wanted
        return set(ids(slate))

    assert where(genres="x") == {"old", "newer", "b-0"}
    assert where(genres=["a"]) == {"old", *PLANTED[:8]}
    assert where(genres=["a", "x"]) == {"old", "newer", "b-0", *PLANTED[:8]}
    assert where(genres=["b"]) == set(PLANTED[9:16]), "what the log says of b-0 is what holds"
    assert where(genres=["x"], year=[1999, 2004]) == {"old", "newer"}
    assert where(genres=["x"], year=1999) == {"old"}
    assert where(fresh=True) == {"old"}
    assert where(fresh=1) == where(stock=True) == where(nothing="x") == set()
    patch(shop, "newer", {"year": 1999})
    assert where(genres="x", year=1999) == {"old", "newer"}
    patch(shop, "newer", {"available": False})
    assert where(genres="x") == {"old", "b-0"}
    assert "where" not in shop.slate(shop.recommend("u")["slate_id"]).context


def test_ids_in_attributes_are_one_however_they_were_written(shop) -> None:
    put(shop, "x", {"author_id": 12})
    put(shop, "y", {"author_id": "12"})
    put(shop, "z", {"author_id": ["12.0", 7.0, "cafe\u0301"]})
    put(shop, "other", {"author_id": "012", "author": "12"})
    for wanted in (12, 12.0, "12", "12.0", ["1", 12]):
        assert set(ids(shop.recommend("u", k=100, where={"author_id": wanted}))) == {"x", "y", "z"}
    assert len(ids(shop.recommend("u", k=100, where={"author_id": 12}, at_most={"author_id": 1}))) == 1
    assert ids(shop.recommend("u", where={"author_id": ["caf\u00e9"]})) == ["z"]
    assert ids(shop.recommend("u", where={"author": 12})) == [], "elsewhere a number is no text"


def test_an_address_has_the_spelling_of_imports(shop) -> None:
    assert put(shop, "12.0", {"title": "Twelve"}).json()["item_id"] == "12"
    assert patch(shop, "12.0", {"price": 3}).json()["attributes"] == {"title": "Twelve", "price": 3}
    shop.event("u", "12")
    assert shop.client.get("/v1/users/u/state").json()["recent"][0]["item_id"] == "12"
    assert shop.client.delete(address("12.0")).json()["item_id"] == "12"
    assert shop.client.get(address("12")).json()["attributes"]["retired"] is True
    assert shop.client.get(address("012")).status_code == 404


def test_few_that_are_let_through_come_back_whatever_else_would_be_better(shop) -> None:
    for item_id in PLANTED[:6]:
        shop.event("fan", item_id)
    slate = shop.recommend("fan", k=8, where={"genres": "c"})
    assert set(ids(slate)) == set(PLANTED[16:])
    assert len(ids(shop.recommend("fan", k=100, where={"genres": "a"}))) == 2


@pytest.mark.parametrize(
    ("where", "field"),
    [
        ({"genres": None}, "where.genres"),
        ({"genres": []}, "where.genres"),
        ({"genres": [None]}, "where.genres"),
        ({"genres": {"in": ["x"]}}, "where.genres"),
        ({"genres": [["x"]]}, "where.genres"),
        ({"genres": "x" * 300}, "where.genres"),
        ({"year": list(range(101))}, "where.year"),
        ({str(n): 1 for n in range(9)}, "where"),
        ([], "where"),
        ("x", "where"),
    ],
)
def test_a_wrong_filter_is_refused_by_name(endpoint, where: Any, field: str) -> None:
    reply = endpoint.client.post("/v1/recommend", json={"user_id": "u", "where": where})
    assert reply.status_code == 422
    assert reply.json()["error"]["field"] == field


def test_popularity_is_counted_by_one_thread_at_a_time(bare, monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[PopularityCounts] = []
    most: list[int] = []

    def advance(counts: PopularityCounts) -> tuple[bool, bool]:
        inside.append(counts)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return False, True

    monkeypatch.setattr(PopularityCounts, "advance", advance)
    bare.components.watcher._popular_at = 0.0
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(bare.components.watcher.poll) for _ in range(4)]:
            done.result()
    assert len(most) >= 4
    assert max(most) == 1


def test_without_a_model_items_come_and_go_too(bare, clicks) -> None:
    bare.log.append([*clicks("u", ["x", "y"]), *clicks("v", ["x", "z"])])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    assert set(ids(bare.recommend("w", k=100))) == {"x", "y", "z"}
    put(bare, "new", {"title": "New", "genres": ["g"]})
    slate = bare.recommend("w", k=100)
    assert {item["item_id"]: item["title"] for item in slate["items"]} == {
        "x": None,
        "y": None,
        "z": None,
        "new": "New",
    }
    scores = {item["item_id"]: item["score"] for item in slate["items"]}
    assert scores["new"] < min(scores[item] for item in "xyz")
    put(bare, "x", {"available": False})
    assert set(ids(bare.recommend("w", k=100))) == {"y", "z", "new"}
    assert ids(bare.recommend("w", where={"genres": "g"})) == ["new"]
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    assert set(ids(bare.recommend("w", k=100))) == {"y", "z", "new"}


def test_while_the_log_cannot_be_read_items_are_as_they_were(shop, monkeypatch) -> None:
    put(shop, "new", {"genres": ["a"]})
    put(shop, "a-0", {"available": False})
    assert "new" in ids(shop.recommend("u", k=100))

    def gone(*arguments: object) -> list[LoggedEvent]:
        raise EventLogError("the log's disk is gone")

    for name in ("last_item_position", "tails"):
        with monkeypatch.context() as context:
            context.setattr(shop.log, name, gone)
            slate = shop.recommend("u", k=100)
            assert slate["degraded"] == ["event_log"]
            assert "new" in ids(slate)
            assert "a-0" not in ids(slate)
    assert shop.recommend("u")["degraded"] == []


def test_a_model_that_takes_over_knows_the_items_of_now(shop, install, eventually) -> None:
    put(shop, "new", {"genres": ["a"]})
    put(shop, "a-0", {"available": False})
    install(shop.settings, "second", "2")
    shop.promote("2")
    eventually(lambda: shop.model_version() == "2")
    slate = shop.recommend("u", k=100)
    assert slate["model_version"] == "2"
    assert set(ids(slate)) == {"new", *PLANTED[1:]}


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Bundle:
    return Bundle.load(bundles["first"])


GENRES = st.lists(st.sampled_from(["a", "b", "x"]), max_size=2, unique=True)
DESCRIBED = st.fixed_dictionaries(
    {"genres": GENRES},
    optional={"available": st.booleans(), "retired": st.booleans(), "year": st.sampled_from([1990, 2000])},
)
NAMES = st.sampled_from([*PLANTED[:10], "new-0", "new-1", "new-2"])


@examples(max_examples=30, deadline=None)
@given(
    said=st.lists(st.tuples(NAMES, DESCRIBED), max_size=12),
    cut=st.integers(0, 12),
    seen=st.lists(NAMES, max_size=6),
    exclude=st.lists(NAMES, max_size=6),
    where=st.dictionaries(
        st.sampled_from(["genres", "year"]), st.sampled_from(["a", "x", 1990, ["a", "b"]]), max_size=2
    ),
    k=st.integers(1, 30),
    counts_alone=st.booleans(),
)
def test_k_come_back_whenever_k_exist(
    tmp_path_factory, bundle, clicks, said, cut, seen, exclude, where, k, counts_alone
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('k') / 'events.db'}"
    prepare(url)
    served = PopularityFallback([(item_id, 2) for item_id in PLANTED]) if counts_alone else bundle
    live_model = LiveModel(served)
    with closing(EventLog(url)) as log:
        catalogue_reader = CatalogueReader(log)
        events = [
            Item(event_id=f"i{at}", event_timestamp=1, item_id=item_id, attributes=attributes)
            for at, (item_id, attributes) in enumerate(said)
        ]
        log.append(events[:cut])
        catalogue_reader.pools([ItemFilter(live_model, where)])
        log.append(events[cut:])
        log.append(clicks("u", seen))
        pool = catalogue_reader.pools([ItemFilter(live_model, where)])[0]
        fresh = CatalogueReader(log).pools([ItemFilter(LiveModel(served), where)])[0]
        state = _state(log)
    for name in ("item_ids", "genres", "years"):
        assert getattr(fresh.snapshot.model.catalogue, name) == getattr(pool.snapshot.model.catalogue, name)
    assert fresh.removed.tolist() == pool.removed.tolist()
    latest: dict[str, dict[str, Any]] = {item: {} if counts_alone else {"genres": [item[0]]} for item in PLANTED}
    latest |= dict(said)
    allowed = {item for item, attributes in latest.items() if _lets_through(attributes, where)}
    allowed -= {*seen, *exclude}
    asked = SlateQuery(state, None, Request(k, 10**15, exclude=exclude, seed=0), pool.removed)
    slate = recommend_many(pool.snapshot.model, [asked])[0]
    shown = [one.item_id for one in slate.shown]
    assert len(set(shown)) == len(shown) == min(k, len(allowed))
    assert set(shown) <= allowed


def _state(log: EventLog) -> UserState:
    return current(log, UserState("u")).state


def _lets_through(attributes: dict[str, Any], where: dict[str, Any]) -> bool:
    if attributes.get("available") is False or attributes.get("retired") is True:
        return False

    def held(name: str) -> list:
        value = attributes.get(name)
        return value if isinstance(value, list) else [value]

    return all(
        set(held(name)) & set(wanted if isinstance(wanted, list) else [wanted]) for name, wanted in where.items()
    )


def test_what_filters_found_is_kept_and_kept_up(bundle, monkeypatch, tmp_path: Path) -> None:
    walks: list[str] = []
    monkeypatch.setattr("serving.catalogue_snapshot._masks", _counted(walks))
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    with closing(EventLog(url)) as log:
        catalogue_reader, live_model = CatalogueReader(log), LiveModel(bundle)
        for number in range(3):
            about = {"genres": ["a" if number == 1 else "z"]}
            log.append([Item(event_id=f"i{number}", event_timestamp=1, item_id=f"n{number % 2}", attributes=about)])
            closed = catalogue_reader.pools([ItemFilter(live_model, {"genres": ["a", "z"]})])[0].removed
            again = CatalogueReader(log).pools([ItemFilter(LiveModel(bundle), {"genres": ["z", "a"]})])[0].removed
            np.testing.assert_array_equal(closed, again)
    assert len(walks) == 1 + 3


def _counted(walks: list[str]) -> Callable:
    from serving.catalogue_snapshot import _masks

    def counted(snapshot, attribute, missing):
        walks.append(attribute)
        return _masks(snapshot, attribute, missing)

    return counted


class Lengths:
    """A text's vector is its length, beside a constant."""

    name = "lengths"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), 1.0] for text in texts], np.float32)


@pytest.fixture
def reading_bundle(bundle: Bundle) -> Bundle:
    """The bundle with a network that reads texts and the attribute ``taste``, as it was drawn."""
    rng, catalogue = np.random.default_rng(0), bundle.catalogue
    count = len(catalogue)
    vectors = {"taste": rng.normal(size=(count, 3)), TextVectors(Lengths()).block: rng.normal(30, 9, (count, 2))}
    told = replace(catalogue, vectors={name: block_NV.astype(np.float32) for name, block_NV in vectors.items()})
    attributes = ItemAttributes.of(told, space=VectorSpace.of(told.vectors))
    config = replace(bundle.hybrid.network.network.config, item_vectors=True)
    network = SequenceNetwork(config, attributes)
    torch.nn.init.normal_(network.vector_VD)
    return replace(bundle, hybrid=replace(bundle.hybrid, network=SequenceRecommender(network, attributes.genre_names)))


def test_a_later_item_is_known_by_its_text_and_its_vector_in_every_process(
    reading_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.catalogue_snapshot.LIVE_TEXTS", 2)
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    versions = [
        ("n0", {"title": "Tea", "taste": [0.5, 1.0, -1.0]}),
        ("n1", {"title": "Cup", "taste": [0.5, 1.0]}),
        ("n2", {"title": "A third", "text": "x" * 400}),
        ("n0", {"title": "A long title of tea", "taste": [9.5, 1.0, -1.0]}),
    ]
    said = []
    with closing(EventLog(url)) as log:
        reader, live_model = CatalogueReader(log, TextVectors(Lengths())), LiveModel(reading_bundle)
        for number, (item_id, attributes) in enumerate(versions):
            log.append([Item(event_id=f"i{number}", event_timestamp=1, item_id=item_id, attributes=attributes)])
            said.append(reader.pools([ItemFilter(live_model, {})])[0].snapshot.model.hybrid.network.items_ND)
            fresh = CatalogueReader(log, TextVectors(Lengths())).pools([ItemFilter(LiveModel(reading_bundle), {})])[0]
            np.testing.assert_array_equal(fresh.snapshot.model.hybrid.network.items_ND, said[-1])
    learned, nan = len(reading_bundle.catalogue), np.nan
    vectors = {"taste": [[9.5, 1, -1], [nan] * 3, [nan] * 3], "text:lengths": [[19, 1], [3, 1], [nan, nan]]}
    more = fresh.snapshot.model.catalogue.unused(np.arange(learned, learned + 3))
    more = replace(more, vectors={name: np.array(rows, np.float32) for name, rows in vectors.items()})
    expected = reading_bundle.extended(more).hybrid.network.items_ND
    np.testing.assert_array_equal(said[-1], expected)
    assert not np.array_equal(said[0][learned], said[-1][learned])
