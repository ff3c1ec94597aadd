"""Slices go by what lies before the hold-out, and by the target's item."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from mlflow.utils.validation import _validate_metric_name

from attune.columns import TRAIT_COLUMNS
from evaluation.gates.slices import SliceLimits, slices
from evaluation.replay import replay
from models.learning.dataset import BEFORE_ALL, TrainingSet

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
    moment, last = 35_000_000, 103_000_000
    found = replay(fixed_scores(np.arange(len(training_set.catalogue)) / 10.0), training_set, moment, last)
    masks = slices(found, training_set, moment, LIMITS)
    users = found.events["user_id"].to_numpy()
    assert users[masks["heavy_users"]].tolist() == ["old"]
    assert users[masks["light_users"]].tolist() == ["some"]
    assert users[masks["new_users"]].tolist() == ["new", "new"]
    assert found.events["position"].to_numpy()[masks["long_tail_items"]].tolist() == [len(before) + 1, len(before) + 3]


def test_each_genre_and_decade_is_a_slice(make_training_set, fixed_scores) -> None:
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(6)]
    plain = make_training_set(rows)
    years = (1959.0, 1960.0, 1961.0, None, 1969.0, 2001.0)
    genres = (("War",), (), ("War", "Film-Noir"), (), (), ("War",))
    training_set = replace(plain, catalogue=replace(plain.catalogue, years=years, genres=genres))
    found = replay(fixed_scores(np.arange(6) / 10.0), training_set, BEFORE_ALL, 10**12)
    masks = slices(found, training_set, BEFORE_ALL, LIMITS)
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
    found = replay(fixed_scores(np.arange(events) / 10.0), training_set, BEFORE_ALL, 10**12)
    masks = slices(found, training_set, BEFORE_ALL, LIMITS)
    sizes = {name: int(mask.sum()) for name, mask in masks.items() if name.startswith(("decade", "years"))}
    assert sizes == {"years_1920_to_1959": 5, "years_1990_to_2019": 395}
    assert found.events["position"].to_numpy()[masks["other_genres"]].tolist() == [1, 2]
    assert len([name for name in masks if name.startswith("genre")]) == LIMITS.values


def test_genres_that_are_written_alike_are_one_slice_and_none_is_the_rest(make_training_set, fixed_scores) -> None:
    tagged = [("Action & X",), ("Action + X",), ("Action & X", "Action + X"), ("others",), ("x" * 300,), ("rare",)]
    rows = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(len(tagged))]
    plain = make_training_set(rows)
    training_set = replace(plain, catalogue=replace(plain.catalogue, genres=tuple(tagged)))
    found = replay(fixed_scores(np.arange(len(tagged)) / 10.0), training_set, BEFORE_ALL, 10**12)
    masks = slices(found, training_set, BEFORE_ALL, replace(LIMITS, values=2))
    told = {name: found.events["position"].to_numpy()[mask].tolist() for name, mask in masks.items() if "genre" in name}
    assert told == {"genre_Action _ X": [1, 2, 3], "genre_others": [4], "other_genres": [5, 6]}


def one_event_each(make_training_set, count: int, rows: Sequence[tuple[str, str, str, str]]) -> TrainingSet:
    """Users u0, u1, ... with an event each about i0, i1, ...; ``rows`` are the traits."""
    events = [(place + 1, f"u{place}", f"i{place}", "click", None, place * 1_000_000) for place in range(count)]
    return replace(make_training_set(events), traits=pd.DataFrame(rows, columns=list(TRAIT_COLUMNS)))


def told(training_set: TrainingSet, fixed_scores, limits: SliceLimits = LIMITS) -> dict[str, list[int]]:
    """The positions in each slice by an attribute."""
    count = len(training_set)
    found = replay(fixed_scores(np.arange(count) / 10.0), training_set, BEFORE_ALL, 10**12)
    positions = found.events["position"].to_numpy()
    masks = slices(found, training_set, BEFORE_ALL, limits)
    return {name: positions[mask].tolist() for name, mask in masks.items() if "item_" in name or "user_" in name}


def test_attributes_of_items_and_users_are_slices_where_their_values_tell_of_a_kind(
    make_training_set, fixed_scores
) -> None:
    count = 100
    rows = [("item", f"i{place}", "language", "de" if place < 60 else "en") for place in range(count)]
    rows += [("item", "i0", "language", "sv"), ("item", "i0", "language", "de"), ("item", "gone", "language", "fr")]
    rows += [("item", f"i{place}", "sku", str(place)) for place in range(count)]
    rows += [("user", f"u{place}", "country", "AT" if place % 2 else "a=b") for place in range(count - 1)]
    found = told(one_event_each(make_training_set, count, rows), fixed_scores, replace(LIMITS, values=2))
    assert list(found) == [
        "item_language_de", "user_country_a_b", "user_country_AT", "item_language_en", "other_item_language",
    ], "the largest first"  # fmt: skip
    assert found["item_language_de"] == list(range(1, 61))
    assert found["other_item_language"] == [1], "a target may be of several"
    assert found["user_country_AT"] == list(range(2, 99, 2))


def test_what_is_written_alike_is_one_slice_and_an_address_is_no_path(make_training_set, fixed_scores) -> None:
    rows = [
        ("item", "i0", "size", "class_A"), ("item", "i1", "size_class", "A"), ("item", "i2", "col(1)", "x"),
        ("item", "i3", "col[1]", "x"), ("item", "i4", "site", "https://a.b/../c"), ("item", "i5", "a/b", "c"),
        ("item", "i6", "long" * 60, "x" * 90), ("item", "i7", "long" * 60 + "er", "x" * 90),
    ]  # fmt: skip
    found = told(one_event_each(make_training_set, 8, rows), fixed_scores)
    assert found["item_size_class_A"] == [1, 2]
    assert found["item_col_1__x"] == [3, 4]
    assert [7, 8] in found.values()
    for name in found:
        _validate_metric_name(f"gate/no_harm_to_{name}/value")


def test_many_attributes_crowd_nothing_out(make_training_set, fixed_scores) -> None:
    """What nearly all targets have makes no slice, and of many attributes those that most targets have do."""
    count = 40
    rows = [("item", f"i{place}", f"flag{flag}", "false") for place in range(count) for flag in range(60)]
    rows += [("item", f"i{place}", f"rare{rare}", "yes") for rare in range(30) for place in range(1 + rare)]
    training_set = one_event_each(make_training_set, count, rows)
    found = replay(fixed_scores(np.arange(count) / 10.0), training_set, BEFORE_ALL, 10**12)
    names = list(slices(found, training_set, BEFORE_ALL, LIMITS))
    assert names[-LIMITS.attributes :] == [f"item_rare{rare}_yes" for rare in range(29, 9, -1)], "the largest first"
    assert not [name for name in names[: -LIMITS.attributes] if name.startswith("item_")], "after genres and decades"
