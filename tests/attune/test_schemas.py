"""Bodies are decoded strictly, and what is wrong with one is named."""

import msgspec
import pytest

from attune.errors import DataContractError
from attune.schemas import (
    CONTEXT_BYTES,
    EventsRequest,
    ItemRequest,
    RecommendRequest,
    SimilarRequest,
    StateRequest,
    decode,
)

RECOMMEND = msgspec.json.Decoder(RecommendRequest)
EVENTS = msgspec.json.Decoder(EventsRequest)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b'{"user_id":"\xff"}', "body"),
        (b'{"user_id":"\\ud800"}', "body"),
        (b'{"user_id":5}', "user_id"),
        (b'{"user_id":""}', "user_id"),
        (b'{"user_id":" a"}', "user_id"),
        (b'{"user_id":"a\\u0000b"}', "user_id"),
        (b'{"user_id":"a\\n"}', "user_id"),
        (b'{"user_id":"a\\u0085"}', "user_id"),
        (b'{"user_id":"\\u3000a"}', "user_id"),
        (b'{"user_id":"' + b"x" * 257 + b'"}', "user_id"),
        (b'{"k":3}', "user_id"),
        (b'{"user_id":"a","k":"x"}', "k"),
        (b'{"user_id":"a","k":0}', "k"),
        (b'{"user_id":"a","k":101}', "k"),
        (b'{"user_id":"a","k":true}', "k"),
        (b'{"user_id":"a","kk":1}', "kk"),
        (b'{"user_id":"a","seed":-1}', "seed"),
        (b'{"user_id":"a","seed":99999999999999999999}', "seed"),
        (b'{"user_id":"a","exclude":["b",3]}', "exclude[1]"),
        (b'{"user_id":"a","at_most":{"genres":99999999999999999999}}', "at_most.genres"),
        (b'{"user_id":"a","context":[]}', "context"),
        (b'{"user_id":"a","context":{"x":1e999}}', "context[...]"),
        (b'{"user_id":"a","context":{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}}", "body"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, field: str) -> None:
    with pytest.raises(DataContractError) as caught:
        decode(body, RECOMMEND)
    assert caught.value.field == field
    assert field in str(caught.value)


def test_only_the_user_is_needed() -> None:
    asked = decode('{"user_id":"Zoë 東京 15"}'.encode(), RECOMMEND)
    assert (asked.user_id, asked.k, asked.exclude, asked.seed, asked.context) == ("Zoë 東京 15", 10, [], None, {})


@pytest.mark.parametrize("body", [b'{"events":[]}', b'{"events":[1]}', b'{"events":{}}', b"{}"])
def test_events_are_a_list_of_rows(body: bytes) -> None:
    with pytest.raises(DataContractError, match="events"):
        decode(body, EVENTS)


def test_at_most_a_thousand_rows() -> None:
    rows = b",".join([b"{}"] * 1_001)
    with pytest.raises(DataContractError, match="events"):
        decode(b'{"events":[' + rows + b"]}", EVENTS)


@pytest.mark.parametrize("context", [{"x": 10**5000}, {"x": "y" * CONTEXT_BYTES}])
def test_a_context_that_cannot_be_logged_is_refused(context: dict) -> None:
    with pytest.raises(DataContractError) as caught:
        RecommendRequest(user_id="a", context=context)
    assert caught.value.field == "context"


def test_plain_contexts_pass() -> None:
    RecommendRequest(user_id="a", context={})
    RecommendRequest(user_id="a", context={"device": "phone", "nested": {"list": [1, 2.5, None, True]}})


def test_ids_of_requests_get_the_spelling_of_imports() -> None:
    body = RECOMMEND.decode('{"user_id": "12.0", "exclude": ["7.0", "cafe\u0301", "031"]}')
    assert (body.user_id, body.exclude) == ("12", ["7", "caf\u00e9", "031"])
    for wanted, name in ((StateRequest, "user_id"), (ItemRequest, "item_id"), (SimilarRequest, "item_id")):
        assert getattr(msgspec.convert({name: "12.0"}, wanted), name) == "12"
