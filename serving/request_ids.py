"""Every request has an id, by which its answer, its errors and its lines in the log are found again.

A caller may bring one in ``X-Request-Id``; what could be mistaken for something else in a log line is replaced.
"""

import contextvars
import logging
import re
import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-Id"
SANE = re.compile(rb"[!-~]{1,128}")
"""Printable ASCII without blanks."""

_NAME = HEADER.lower().encode()
_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


def current() -> str | None:
    """The id of the request that is being answered; None outside of one."""
    return _current.get()


class Identified:
    """ASGI middleware: gives the request its id, and the answer the header that says it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given(scope) or secrets.token_hex(12).encode()
        _current.set(request_id.decode())  # it stays for what answers behind us, where something unexpected went wrong

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (_NAME, request_id)]
            await send(message)

        await self._app(scope, receive, named)


def _given(scope: Scope) -> bytes | None:
    """The caller's id, if it is a sane one."""
    for name, value in scope["headers"]:
        if name == _NAME:
            return value if SANE.fullmatch(value) else None
    return None


class _Named(logging.Filter):
    """Puts the id at the beginning of what a log line says."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = _current.get()
        if request_id is not None and "request_id" not in vars(record):
            record.request_id = request_id
            record.msg, record.args = f"[{request_id}] {record.getMessage()}", ()
        return True


def name_log_lines() -> None:
    """Let every log line of a request begin with its id; call it once, after logging was set up."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(_Named())
