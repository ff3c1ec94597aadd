"""The routes: each reads its body, hands it to the room that does the work, and answers in bytes."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from attune.errors import DataContractError
from serving.error_responses import JSON, Refused, answer, error_answer
from serving.ingestion import Accepting
from serving.items import Items
from serving.lookups import Reading
from serving.metrics import Metrics
from serving.openapi import documented
from serving.recommendation import Recommending, answer_together
from serving.schemas import (
    BatchRequest,
    EventsRequest,
    ItemBody,
    ItemRequest,
    PopularRequest,
    RecommendRequest,
    RetireRequest,
    SimilarRequest,
    StateRequest,
    check_context,
    convert,
    decode,
)

BODY_LIMIT = 1_048_576

_RECOMMEND = msgspec.json.Decoder(RecommendRequest)
_EVENTS = msgspec.json.Decoder(EventsRequest)
_ROW = msgspec.json.Decoder(dict[str, Any])


async def read_body(request: Request) -> bytes:
    """The body; raises Refused (413) as soon as it is known to exceed 1 MiB."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_LIMIT:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large() -> Refused:
    return Refused(413, f"body: larger than {BODY_LIMIT} bytes; send the rows in several requests", "body")


def hot_routes(recommending: Recommending, accepting: Accepting) -> APIRouter:
    """What users' requests go through."""
    router = APIRouter(default_response_class=JSON)

    @router.post("/v1/recommend", **documented("recommend"))
    async def recommend(request: Request) -> Response:
        asked = decode(await read_body(request), _RECOMMEND)
        check_context(asked.context)
        return answer(await recommending.answer(asked))

    @router.post("/v1/feedback", **documented("feedback"))
    async def feedback(request: Request) -> Response:
        return answer(await accepting.feedback(decode(await read_body(request), _ROW)))

    @router.post("/v1/events", **documented("events"))
    async def events(request: Request) -> Response:
        return answer(await accepting.events(decode(await read_body(request), _EVENTS).events))

    return router


def steward_routes(model: Callable[[], Any], ready: Callable[[], Awaitable[str | None]], metrics: Metrics) -> APIRouter:
    """What operators and their machines ask; ``ready`` says what is missing, or None."""
    router = APIRouter(default_response_class=JSON)

    @router.get("/v1/model", **documented("model"))
    async def current_model() -> Response:
        return answer(model())

    @router.get("/healthz", **documented("healthz"))
    async def healthz() -> Response:
        return JSON(b'{"status":"alive"}')

    @router.get("/readyz", **documented("readyz"))
    async def readyz() -> Response:
        missing = await ready()
        return error_answer(503, missing) if missing else JSON(b'{"status":"ready"}')

    @router.get("/metrics", **documented("metrics"))
    async def exposition() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


# The routes of what is read: slates for many users at once, neighbours of items, what is popular, states of users.
#
# Ids stand in the address percent-encoded (a slash as ``%2F``, though a plain one is understood too).


Asked = TypeVar("Asked", bound=msgspec.Struct)

_BATCH = msgspec.json.Decoder(BatchRequest)


class Whole(Convertor[str]):
    """Whatever stands in an address: ids with slashes, and those that no id may be are refused by name."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


def reading_routes(recommending: Recommending, reading: Reading) -> APIRouter:
    """What services ask beside the slate of the user at hand."""
    register_url_convertor("id", Whole())
    router = APIRouter(default_response_class=JSON)

    @router.post("/v1/recommend/batch", **documented("recommend_batch"))
    async def recommend_batch(request: Request) -> Response:
        return answer(await answer_together(recommending, decode(await read_body(request), _BATCH)))

    @router.get("/v1/items/{item_id:id}/similar", **documented("similar"))
    async def similar(request: Request) -> Response:
        return answer(await reading.similar(asked(request, SimilarRequest)))

    @router.get("/v1/users/{user_id:id}/state", **documented("state"))
    async def state(request: Request) -> Response:
        return answer(await reading.state(asked(request, StateRequest)))

    @router.get("/v1/popular", **documented("popular"))
    async def popular(request: Request) -> Response:
        return answer(await reading.popular(asked(request, PopularRequest)))

    return router


def asked(request: Request, wanted: type[Asked]) -> Asked:
    """What the address asks for; raises DataContractError naming the field, for one that stands there twice too."""
    given: dict[str, str] = dict(request.path_params)
    for name, value in request.query_params.multi_items():
        if name in given:
            raise DataContractError(f"{name}: stands in the address twice; say it once", name)
        given[name] = value
    return convert(given, wanted)


# The routes of items: what is known of one, and its changes.


_BODY = msgspec.json.Decoder(ItemBody)

ITEM = "/v1/items/{item_id:path}"


def item_routes(items: Items) -> APIRouter:
    """What whoever keeps the catalogue asks; an id may have anything in it that an id may have, slashes too."""
    router = APIRouter(default_response_class=JSON)

    @router.put(ITEM, **documented("replace_item"))
    async def replace_item(request: Request) -> Response:
        body = decode(await read_body(request), _BODY)
        return answer(await items.replace(asked(request, ItemRequest).item_id, body))

    @router.patch(ITEM, **documented("change_item"))
    async def change_item(request: Request) -> Response:
        body = decode(await read_body(request), _BODY)
        return answer(await items.change(asked(request, ItemRequest).item_id, body))

    @router.delete(ITEM, **documented("retire_item"))
    async def retire_item(request: Request) -> Response:
        which = asked(request, RetireRequest)
        return answer(await items.retire(which.item_id, which.event_id))

    @router.get(ITEM, **documented("item"))
    async def item(request: Request) -> Response:
        return answer(await items.known(asked(request, ItemRequest).item_id))

    return router
