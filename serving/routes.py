"""The routes: each declares its scope, summary and errors; its types stand in the signature of the service's method."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.convertors import Convertor, register_url_convertor

from attune.errors import DataContractError
from attune.schemas import Address, ModelAnswer, convert, decode
from serving.error_responses import JSON, Refused, answer, error_answer
from serving.ingestion import IngestionService
from serving.items import ItemService
from serving.lookups import LookupService
from serving.openapi import documented
from serving.recommendation import RecommendationService

BODY_LIMIT = 1_048_576
BODY_TOO_LARGE = f"body: larger than {BODY_LIMIT} bytes; send the rows in several requests"

WRONG = {422: "A field is wrong."}
AGAIN = {503: "Ask again soon."}
UNKNOWN_ITEM = {404: "The item is unknown."}
TAKEN = {409: "The event id names other content."}
TOO_LARGE = {413: "The body exceeds 1 MiB."}
BUSY = {503: "The event log is busy: send it again."}

Route = tuple[str, str, str, Callable[..., Awaitable[Any]], str, Mapping[int, str]]
"""Method, path, scope, the service's method, the summary, the errors by status."""

Body = TypeVar("Body")
Parameters = TypeVar("Parameters", bound=Address)


class Anything(Convertor[str]):
    """Whatever stands in an address: ids with slashes, and those that no id may be, which are refused by name."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


async def read_body(request: Request, decoder: "msgspec.json.Decoder[Body]") -> Body:
    """The decoded body; raises DataContractError, and Refused (413) as soon as the body is known to exceed 1 MiB."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > BODY_LIMIT:
        raise Refused(413, BODY_TOO_LARGE, "body")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise Refused(413, BODY_TOO_LARGE, "body")
        chunks.append(chunk)
    return decode(b"".join(chunks), decoder)


def read_address(request: Request, wanted: type[Parameters]) -> Parameters:
    """The parameters in the address; raises DataContractError naming the field, also where one stands there twice."""
    parameters: dict[str, str] = dict(request.path_params)
    for name, value in request.query_params.multi_items():
        if name in parameters:
            raise DataContractError(f"{name}: stands in the address twice; say it once", name)
        parameters[name] = value
    return convert(parameters, wanted)


def create_router(*routes: Route) -> APIRouter:
    """Routes that answer JSON and are named, in the OpenAPI page too, by their functions."""
    register_url_convertor("id", Anything())
    router = APIRouter(default_response_class=JSON, generate_unique_id_function=lambda route: route.name)
    for route in routes:
        add_route(router, route)
    return router


def add_route(router: APIRouter, route: Route) -> None:
    """Route requests to a service's method, whose signature says what they bring and get.

    Its parameter ``body`` is decoded from the body, ``address`` from the path and the query; both are optional.
    ``Annotated[T, Shown]`` documents a body as another type than the one that decodes it.
    """
    method, path, scope, call, summary, errors = route
    types = get_type_hints(call, include_extras=True)
    address, body = types.get("address"), types.get("body")
    decoder = msgspec.json.Decoder(body) if body else None

    async def endpoint(request: Request) -> Response:
        arguments: dict[str, Any] = {}
        if decoder is not None:
            arguments["body"] = await read_body(request, decoder)
        if address is not None:
            arguments["address"] = read_address(request, address)
        return answer(await call(**arguments))

    declared = documented(
        summary, scope, address=address, body=(get_args(body) or (body,))[-1], answer=types["return"], errors=errors
    )
    router.add_api_route(path, endpoint, methods=[method], name=call.__name__, **declared)


def user_routes(
    recommendation: RecommendationService, ingestion: IngestionService, lookups: LookupService
) -> APIRouter:
    """What services ask and report about users."""
    return create_router(
        ("POST", "/v1/recommend", "recommend", recommendation.recommend,
         "A slate for a user, reflecting everything acknowledged before", TOO_LARGE | WRONG | AGAIN),
        ("POST", "/v1/recommend/batch", "recommend", recommendation.recommend_batch,
         "Slates for up to 100 users, each answered or refused on its own",
         TOO_LARGE | {422: "The body is wrong."} | AGAIN),
        ("POST", "/v1/feedback", "feedback", ingestion.feedback,
         "A reaction to an item of a slate; acknowledged once durable",
         TAKEN | TOO_LARGE | {422: "A field or the slate id is wrong."} | BUSY),
        ("POST", "/v1/events", "feedback", ingestion.events,
         "Up to 1,000 rows of behaviour outside slates; acknowledged once durable",
         {409: "The event id of a single row names other content.", 422: "The body or a single row is wrong."}
         | TOO_LARGE | BUSY),
        ("GET", "/v1/users/{user_id:id}/state", "recommend", lookups.state,
         "What is known of a user, and where it was read", WRONG | AGAIN),
        ("GET", "/v1/popular", "recommend", lookups.popular,
         "What is popular now", WRONG | {503: "Nothing is loaded yet, or ask again soon."}),
    )  # fmt: skip


def item_routes(items: ItemService, lookups: LookupService) -> APIRouter:
    """What services ask and report about items. An id may have slashes, as ``%2F`` or plain."""
    path = "/v1/items/{item_id:path}"
    return create_router(
        ("GET", "/v1/items/{item_id:id}/similar", "recommend", lookups.similar,
         "The items nearest to one by the champion's vectors",
         {404: "The champion does not know the item."} | WRONG | {503: "No champion answers, or ask again soon."}),
        ("GET", path, "recommend", items.item,
         "What is known of an item", UNKNOWN_ITEM | WRONG | AGAIN),
        ("PUT", path, "items", items.replace_item,
         "All that is known of an item from the next slate on",
         {404: "No item can have such an id."} | TAKEN | TOO_LARGE | WRONG | BUSY),
        ("PATCH", path, "items", items.change_item,
         "Other values for some of an item's attributes; null removes one",
         UNKNOWN_ITEM | TAKEN | TOO_LARGE | WRONG | BUSY),
        ("DELETE", path, "items", items.retire_item,
         "Show an item to nobody from now on; its attributes stay, with `retired: true`",
         UNKNOWN_ITEM | TAKEN | WRONG | BUSY),
    )  # fmt: skip


def operator_routes(
    model: Callable[[], Awaitable[ModelAnswer]],
    missing: Callable[[], Awaitable[str | None]],
    exposition: Callable[[], bytes],
) -> APIRouter:
    """What operators and their machines ask.

    ``model`` describes what answers now, ``missing`` says what keeps the endpoint from being ready (None: nothing),
    ``exposition`` gives the metrics in Prometheus' text format.
    """
    router = create_router(("GET", "/v1/model", "recommend", model, "What answers now", {}))

    @router.get("/healthz", **documented("200 while the process lives", None))
    async def healthz() -> Response:
        return JSON(b'{"status":"alive"}')

    ready = "200 when the event log answers and a model, or the popularity fallback, is loaded"

    @router.get("/readyz", **documented(ready, None, errors={503: "What is missing."}))
    async def readyz() -> Response:
        reason = await missing()
        return error_answer(503, reason) if reason else JSON(b'{"status":"ready"}')

    @router.get("/metrics", **documented("Prometheus' text format", "metrics", text=True))
    async def metrics() -> Response:
        return Response(exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
