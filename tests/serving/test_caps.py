"""Caps on a slate: at most so many items that share a value, by what is known of the items at that moment."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from attune.user_state import UserState
from models.bundle import Bundle
from models.ranking.policy import PlackettLuce
from models.recommender import Request, SlateQuery, recommend_many
from serving.caps import Caps
from serving.catalogue_snapshot import CatalogueSnapshot, LiveItem

PLANTED = [f"{group}-{number}" for group in "abc" for number in range(8)]


def ids(slate: dict) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def put(endpoint, item_id: str, attributes: dict[str, Any]) -> None:
    reply = endpoint.client.put(f"/v1/items/{quote(item_id, safe='')}", json={"attributes": attributes})
    assert reply.status_code == 200


def counts(slate: dict, held: Mapping[str, list[str]]) -> Counter:
    """How often each genre stands on the slate; the planted items' is their first letter."""
    return Counter(value for one in ids(slate) for value in held.get(one, [one[0]]))


@pytest.fixture
def shop(bare, install, eventually):
    """An endpoint of the test's own with a champion over 24 items of the genres a, b and c."""
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    return bare


def test_a_slate_has_at_most_so_many_of_a_genre_and_is_full_when_there_are_enough(shop) -> None:
    shop.event("fan", "a-0")
    plain = shop.recommend("fan", k=6, seed=1)
    assert counts(plain, {})["a"] > 2, "somebody who likes the genre a gets more of it"
    for seed in range(10):
        slate = shop.recommend("fan", k=6, seed=seed, at_most={"genres": 2})
        assert counts(slate, {}) == {"a": 2, "b": 2, "c": 2}
    assert slate["served_by"] == "champion"
    assert shop.slate(slate["slate_id"]).context["at_most"] == {"genres": 2}
    assert "at_most" not in shop.slate(plain["slate_id"]).context
    assert len(ids(shop.recommend("fan", k=100, at_most={"genres": 3}))) == 9
    assert len(ids(shop.recommend("nobody", k=100, at_most={"genres": 2**53 - 1, "maker": 1}))) == 24
    assert shop.recommend("fan", k=6, seed=1, at_most={})["items"] == plain["items"]


def test_what_is_said_of_an_item_holds_for_the_caps_of_the_next_request(shop) -> None:
    ask = {"k": 100, "at_most": {"genres": 1}}
    assert counts(shop.recommend("u", **ask), {}) == {"a": 1, "b": 1, "c": 1}
    put(shop, "a-0", {"genres": ["x"]})
    slate = shop.recommend("u", **ask)
    assert counts(slate, {"a-0": ["x"]}) == {"a": 1, "b": 1, "c": 1, "x": 1}
    assert "a-0" in ids(slate)
    held = {"a-0": ["x"], "both": ["x", "y", "y"], "none": [], "none either": []}
    for name in ("both", "none", "none either"):
        put(shop, name, {"genres": held[name]} if held[name] else {"title": name})
    for seed in range(10):
        slate = shop.recommend("u", seed=seed, **ask)
        assert max(counts(slate, held | {"both": ["x", "y"]}).values()) == 1
        assert {"none", "none either"} <= set(ids(slate))
        assert len({"a-0", "both"} & set(ids(slate))) == 1


def test_caps_and_filters_hold_together(shop) -> None:
    for number in range(4):
        put(shop, f"n-{number}", {"genres": ["a", "new"], "maker": number % 2 if number else True, "price": 10.5})
    assert len(ids(shop.recommend("u", k=50, where={"genres": "new"}, at_most={"maker": 1}))) == 3, "true is not 1"
    assert len(ids(shop.recommend("u", k=50, where={"genres": "new"}, at_most={"maker": 1, "price": 2}))) == 2
    assert len(ids(shop.recommend("u", k=2, where={"genres": ["new", "b"]}, at_most={"genres": 1}))) == 2


def test_each_request_of_a_batch_has_its_own_caps(shop) -> None:
    asked: list[dict[str, Any]] = [
        {"user_id": "u", "k": 24, "seed": 3},
        {"user_id": "u", "k": 24, "seed": 3, "at_most": {"genres": 2}},
        {"user_id": "v", "k": 24, "seed": 3, "at_most": {"genres": 1}},
        {"user_id": "v", "k": 24, "at_most": {"genres": 0}},
    ]
    answers = shop.client.post("/v1/recommend/batch", json={"requests": asked}).json()["answers"]
    assert [len(one["slate"]["items"]) for one in answers[:3]] == [24, 6, 3]
    assert answers[3]["slate"] is None
    assert answers[3]["error"]["field"] == "at_most.genres"
    assert answers[0]["slate"]["items"] == shop.recommend("u", k=24, seed=3)["items"]


def test_without_a_model_caps_hold_too(bare, clicks) -> None:
    bare.log.append([*clicks("u", ["x", "y"]), *clicks("v", ["x", "z"])])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    for item_id in "xy":
        put(bare, item_id, {"genres": ["g"]})
    slate = bare.recommend("w", k=3, at_most={"genres": 1})
    assert slate["model_version"] is None
    assert len(ids(slate)) == 2
    assert "z" in ids(slate)


@pytest.mark.parametrize(
    ("at_most", "field"),
    [
        ({"genres": 0}, "at_most.genres"),
        ({"genres": -1}, "at_most.genres"),
        ({"genres": 1.5}, "at_most.genres"),
        ({"genres": 2.0}, "at_most.genres"),
        ({"genres": True}, "at_most.genres"),
        ({"genres": None}, "at_most.genres"),
        ({"genres": "2"}, "at_most.genres"),
        ({"genres": [2]}, "at_most.genres"),
        ({"genres": 2**53}, "at_most.genres"),
        ({"genres": 2, "year": 0}, "at_most.year"),
        ({str(n): 1 for n in range(9)}, "at_most"),
        ([], "at_most"),
        (2, "at_most"),
    ],
)
def test_a_wrong_cap_is_refused_by_name(endpoint, at_most: Any, field: str) -> None:
    reply = endpoint.client.post("/v1/recommend", json={"user_id": "u", "at_most": at_most})
    assert reply.status_code == 422
    assert reply.json()["error"]["field"] == field


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Bundle:
    return Bundle.load(bundles["first"])


VALUE = st.sampled_from(["a", "b", "x", 1, True, 0, False, 2.5])
DESCRIBED = st.fixed_dictionaries(
    {}, optional={"genres": st.lists(st.sampled_from(["a", "b", "x"]), max_size=3), "tag": st.lists(VALUE) | VALUE}
)
SAID = st.lists(st.tuples(st.sampled_from([*PLANTED[:10], "new-0", "new-1"]), DESCRIBED), max_size=12)
AT_MOST = st.dictionaries(st.sampled_from(["genres", "tag", "nothing"]), st.integers(1, 3), min_size=1)


def told(snapshot: CatalogueSnapshot, said: list[tuple[str, dict[str, Any]]]) -> CatalogueSnapshot:
    """The snapshot after the log said so, of which the snapshot had heard nothing yet."""
    latest = dict(said)
    start = snapshot.position + 1
    items = [LiveItem(name, latest[name], start + at, start + at) for at, name in enumerate(latest)]
    return snapshot.advanced(items, start + len(items))


def held(name: str, said: Mapping[str, dict[str, Any]], attribute: str) -> set[tuple[type, Any]]:
    value = said.get(name, {"genres": [name[0]]}).get(attribute, [])
    return {(bool if isinstance(one, bool) else object, one) for one in (value if isinstance(value, list) else [value])}


@examples(max_examples=100, deadline=None)
@given(before=SAID, later=SAID, at_most=AT_MOST, above=st.lists(st.integers(0, 25), max_size=6, unique=True))
def test_a_cap_closes_what_a_naive_count_closes(bundle, before, later, at_most, above) -> None:
    first = told(CatalogueSnapshot.bare(bundle), before)
    Caps(first, at_most)(np.arange(len(first.model.catalogue)))
    snapshot = told(first, later)
    names, said = snapshot.model.catalogue.item_ids, dict(before) | dict(later)
    places_C = np.random.default_rng(0).permutation(len(names))
    above = [one for one in above if one < len(names)]

    def is_open(name: str) -> bool:
        return all(
            sum(value in held(names[places_C[one]], said, attribute) for one in above) < limit
            for attribute, limit in at_most.items()
            for value in held(name, said, attribute)
        )

    assert Caps(snapshot, at_most)(places_C)(above).tolist() == [is_open(names[place]) for place in places_C]


@examples(max_examples=30, deadline=None)
@given(said=SAID, at_most=AT_MOST, k=st.integers(1, 26), seed=st.integers(0, 9))
def test_no_item_that_would_fit_is_left_where_a_slate_is_short(bundle, said, at_most, k, seed) -> None:
    """And under one cap on items of one value each that is: k come back whenever k exist under the cap."""
    snapshot = told(CatalogueSnapshot.bare(replace(bundle, policy=PlackettLuce(depth=2))), said)
    rule, names = Caps(snapshot, at_most), snapshot.model.catalogue.item_ids
    slate = recommend_many(snapshot.model, [SlateQuery(UserState("u"), None, Request(k, 1, seed=seed), rule=rule)])[0]
    shown = snapshot.model.catalogue.places([one.item_id for one in slate.shown]).tolist()
    every = np.arange(len(names))
    assert all(rule(every)(shown[:position])[place] for position, place in enumerate(shown))
    fitting = set(np.flatnonzero(rule(every)(shown)).tolist()) - set(shown)
    assert len(shown) == k or not fitting
    singles = [held(name, dict(said), attribute) for attribute in at_most for name in names]
    if len(at_most) == 1 and max(map(len, singles)) <= 1:
        (limit,) = at_most.values()
        room = sum(min(count, limit) for count in Counter(one for values in singles for one in values).values())
        assert len(shown) == min(k, room + sum(not values for values in singles))
