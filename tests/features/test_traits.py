import json

from features.traits import LONGEST, traits_of


def test_every_value_is_a_trait_once_and_texts_are_none() -> None:
    told = {
        "language": "German", "colours": ["red", "blue", "red", None], "price": 3.5, "new": True, "gone": None,
        "words": "x" * (LONGEST + 1), "title": "One", "text": "two", "year": 1999, "genres": ["A"], "available": False,
        "a=b": "c=d", "empty": "", "nothing": [],
    }  # fmt: skip
    assert traits_of([json.dumps(told), "{}"]) == [
        ["language=German", "colours=red", "colours=blue", "price=3.5", "new=true", "a=b=c=d"],
        [],
    ]
