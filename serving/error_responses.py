"""Every answer that is not 2xx has one shape: ``{"error": {"message", "field", "request_id"}}``."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from attune.errors import AttuneError, DataContractError, EventLogError
from attune.schemas import Answer, ErrorAnswer, Fault
from serving import request_ids
from serving.micro_batcher import Overloaded

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}
UNEXPECTED = "something unexpected went wrong; it was logged"


class Refused(AttuneError):
    """A request that is refused with a status of its own (409, 413, 429, 503)."""

    def __init__(
        self, status: int, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.field = field
        self.headers = headers or {}


class JSON(JSONResponse):
    """Bytes that are JSON already."""

    def render(self, content: Any) -> bytes:
        return bytes(content)


def answer(struct: Answer, status: int = 200, headers: dict[str, str] | None = None) -> JSON:
    return JSON(msgspec.json.encode(struct), status, headers)


def fault(message: str, field: str | None = None) -> Fault:
    return Fault(message=message, field=field, request_id=request_ids.current())


def error_answer(status: int, message: str, field: str | None = None) -> JSON:
    """The one shape of an answer that is not 2xx; a 503 says when to ask again."""
    headers = RETRY_AFTER if status == 503 else None
    return answer(ErrorAnswer(error=fault(message, field)), status, headers)


def install(app: FastAPI) -> None:
    """Give the app an answer for each error that attune or Starlette raises."""
    app.add_exception_handler(DataContractError, _refused)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(EventLogError, _unavailable)
    app.add_exception_handler(Overloaded, _unavailable)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, DataContractError | Refused)
    reply = error_answer(error.status if isinstance(error, Refused) else 422, str(error), error.field)
    reply.headers.update(error.headers if isinstance(error, Refused) else {})
    return reply


async def _unavailable(request: Request, error: Exception) -> Response:
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return error_answer(503, f"{error}")


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}; see /docs"
    reply = error_answer(error.status_code, message)
    reply.headers.update(error.headers or {})
    return reply


async def _gone(request: Request, error: Exception) -> Response:
    return error_answer(400, "the client went away before its request was complete")


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    reply = error_answer(500, UNEXPECTED)
    reply.headers[request_ids.HEADER] = request_ids.current() or ""  # this answer passes no middleware of ours
    return reply
