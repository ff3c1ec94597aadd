"""The routes: each reads its body, hands it to the room that does the work, and answers in bytes."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from serving.accepting import Accepting
from serving.documentation import documented
from serving.errors import JSON, Refused, answer, error_answer
from serving.metrics import Metrics
from serving.recommending import Recommending
from serving.schemas import EventsRequest, RecommendRequest, check_context, decode

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
