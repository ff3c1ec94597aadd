"""Slices go by what lies before the hold-out, and by the target's item."""

from dataclasses import replace

import numpy as np

from models.evaluation.limits import SliceLimits
from models.evaluation.replay import replay
from models.evaluation.slices import slices

LIMITS = SliceLimits()


def test_users_and_items_are_told_apart_by_what_lies_before(make_training_set, fixed_scores) -> None:
    before = [("old", place, f"i{place % 5}") for place in range(25)] + [
        ("some", 30 + place, "i0") for place in range(6)
    ]
    after = [("old", 100, "i7"), ("some", 101, "i1"), ("new", 102, "i8"), ("new", 103, "i0")]
    rows = [
        (place + 1, user, item, "click", None, time * 1_000_000)
        for place, (user, time, item) in enumerate([*before, *after])
    ]
    training_set = make_training_set(rows)
    cut = len(before)
    found = replay(fixed_scores(np.arange(len(training_set.catalogue)) / 10.0), training_set, cut, cut + len(after))
    masks = slices(found, training_set, cut, LIMITS)
    users = found.events["user_id"].to_numpy()
    assert users[masks["heavy_users"]].tolist() == ["old"]
    assert users[masks["light_users"]].tolist() == ["some"]
    assert users[masks["new_users"]].tolist() == ["new", "new"]
    assert found.events["position"].to_numpy()[masks["long_tail_items"]].tolist() == [cut + 1, cut + 3]


def test_each_genre_and_decade_is_a_slice(make_training_set, fixed_scores) -> None:
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(6)]
    plain = make_training_set(rows)
    years = (1959.0, 1960.0, 1961.0, None, 1969.0, 2001.0)
    genres = (("War",), (), ("War", "Film-Noir"), (), (), ("War",))
    training_set = replace(plain, catalogue=replace(plain.catalogue, years=years, genres=genres))
    found = replay(fixed_scores(np.arange(6) / 10.0), training_set, 0, 6)
    masks = slices(found, training_set, 0, LIMITS)
    told = {name: found.events["position"].to_numpy()[mask].tolist() for name, mask in masks.items()}
    assert told["decade_1950"] == [1]
    assert told["decade_1960"] == [2, 3, 5]
    assert told["decade_2000"] == [6]
    assert told["genre_War"] == [1, 3, 6]
    assert len([name for name in masks if name.startswith("decade")]) == 3


def test_rare_genres_are_one_slice_and_rare_decades_belong_to_the_next(make_training_set, fixed_scores) -> None:
    events = 400
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(events)]
    plain = make_training_set(rows)
    years = [1990.0] * events
    years[:7] = [1921.0, 1938.0, 1939.0, 1955.0, 1958.0, 2005.0, 2011.0]  # a hundredth of them is 4
    genres = [(f"g{place % LIMITS.values}",) for place in range(events)]
    genres[:2] = [("rare",), ("rarer",)]
    catalogue = replace(plain.catalogue, years=tuple(years), genres=tuple(genres))
    training_set = replace(plain, catalogue=catalogue)
    found = replay(fixed_scores(np.arange(events) / 10.0), training_set, 0, events)
    masks = slices(found, training_set, 0, LIMITS)
    sizes = {name: int(mask.sum()) for name, mask in masks.items() if name.startswith(("decade", "years"))}
    assert sizes == {"years_1920_to_1959": 5, "years_1990_to_2019": 395}
    assert found.events["position"].to_numpy()[masks["other_genres"]].tolist() == [1, 2]
    assert len([name for name in masks if name.startswith("genre")]) == LIMITS.values


def test_genres_that_are_written_alike_are_one_slice_and_none_is_the_rest(make_training_set, fixed_scores) -> None:
    tagged = [("Action & X",), ("Action + X",), ("Action & X", "Action + X"), ("others",), ("x" * 300,), ("rare",)]
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(len(tagged))]
    plain = make_training_set(rows)
    training_set = replace(plain, catalogue=replace(plain.catalogue, genres=tuple(tagged)))
    found = replay(fixed_scores(np.arange(len(tagged)) / 10.0), training_set, 0, len(tagged))
    masks = slices(found, training_set, 0, replace(LIMITS, values=2))
    told = {name: found.events["position"].to_numpy()[mask].tolist() for name, mask in masks.items() if "genre" in name}
    assert told == {"genre_Action _ X": [1, 2, 3], "genre_others": [4], "other_genres": [5, 6]}


def test_attributes_of_items_and_users_are_slices_where_their_values_tell_of_a_kind(
    make_training_set, fixed_scores
) -> None:
    count = 100
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(count)]
    items = {f"i{place}": (f"language={'de' if place < 60 else 'en'}", f"sku={place}") for place in range(count)}
    items["i0"] = ("language=de", "language=sv", "sku=0")
    users = {f"u{place}": ("country=AT",) if place % 2 else ("country=a=b",) for place in range(0, count - 1)}
    training_set = replace(make_training_set(rows), item_traits=items, user_traits=users)
    found = replay(fixed_scores(np.arange(count) / 10.0), training_set, 0, count)
    told = {
        name: found.events["position"].to_numpy()[mask].tolist()
        for name, mask in slices(found, training_set, 0, replace(LIMITS, values=2)).items()
        if "item_" in name or "user_" in name
    }
    assert list(told) == [
        "item_language_de", "item_language_en", "other_item_language", "user_country_a_b", "user_country_AT",
    ]  # fmt: skip
    assert told["item_language_de"] == list(range(1, 61))
    assert told["other_item_language"] == [1], "a target may be of several"
    assert told["user_country_AT"] == list(range(2, 99, 2))
