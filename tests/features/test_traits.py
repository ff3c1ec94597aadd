import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from attune.columns import TRAIT_COLUMNS
from features import training_set


def test_every_value_is_a_trait_once_and_texts_are_none() -> None:
    attributes = {
        "language": "German", "colours": ["red", "blue", "red", None], "price": 3.5, "new": True, "gone": None,
        "words": "x" * (training_set.TRAIT_LETTERS + 1), "title": "One", "text": "two", "year": 1999, "genres": ["A"],
        "available": False, "a=b": "c=d", "empty": "", "nothing": [], "long": list(range(1_000)),
    }  # fmt: skip
    found = training_set.traits_table("item", ["i1", "i2"], [json.dumps(attributes), "{}"])
    assert tuple(found.column_names) == TRAIT_COLUMNS
    assert set(zip(*(found[name].to_pylist() for name in ("whose", "id")), strict=True)) == {("item", "i1")}
    words = list(zip(*(found[name].to_pylist() for name in ("attribute", "value")), strict=True))
    assert words[:6] == [
        ("language", "German"), ("colours", "red"), ("colours", "blue"), ("price", "3.5"), ("new", "true"),
        ("a=b", "c=d"),
    ]  # fmt: skip
    assert words[6:] == [("long", str(place)) for place in range(training_set.TRAIT_VALUES)]
    born = training_set.traits_table("user", ["u1"], ['{"year":1980,"title":"Dr"}'])
    assert born["attribute"].to_pylist() == ["year", "title"], "of users these are like any other"


def test_many_are_written_in_pieces(tmp_path: Path) -> None:
    count = training_set.TRAITS_CHUNK + 1
    items = pd.DataFrame({"item_id": [f"i{place}" for place in range(count)], "attributes": '{"maker":"acme"}'})
    users = pd.DataFrame({"user_id": ["u1"], "attributes": ['{"country":"AT"}']})
    training_set.write_traits(tmp_path / "traits.parquet", items, users)
    found = pq.read_table(tmp_path / "traits.parquet")
    assert found["id"].to_pylist() == [*items["item_id"], "u1"]
    training_set.write_traits(tmp_path / "none.parquet", items[:0], users[:0])
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
