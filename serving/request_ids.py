"""Gives every request an id that its answer, its errors and its log lines carry.

A caller may bring one in ``X-Request-Id``; an id that could forge a log line is replaced.
"""

import contextvars
import logging
import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
PLAIN = re.compile(rb"[!-~]{1,128}")  # printable ASCII without blanks
_NAME = HEADER.lower().encode()
_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the request that is being answered; None outside of one."""
    return _current.get()


class RequestIdMiddleware:
    """ASGI middleware: gives the request its id, and the answer the header that says it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = next((value for name, value in scope["headers"] if name == _NAME), b"")
        if not PLAIN.fullmatch(request_id):
            request_id = secrets.token_hex(12).encode()
        _current.set(request_id.decode())  # kept for the answer to an unexpected error

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_NAME, request_id)]
            await send(message)

        await self._app(scope, receive, send_with_id)


def prefix_log_lines() -> None:
    """Let every log line of a request begin with its id; call it once, after logging was set up."""

    def prefix(record: logging.LogRecord) -> bool:
        request_id = _current.get()
        if request_id is not None and "request_id" not in vars(record):
            record.request_id = request_id
            record.msg, record.args = f"[{request_id}] {record.getMessage()}", ()
        return True

    for handler in logging.getLogger().handlers:
        handler.addFilter(prefix)
