"""Typed clients of the endpoint's HTTP API: ``Client``, and ``AsyncClient`` for programs that run on asyncio.

    with Client("http://127.0.0.1:8000") as client:
        slate = client.recommend("u1", k=5)
        client.feedback(slate.slate_id, "u1", slate.items[0].item_id, "like")

    async with AsyncClient("http://127.0.0.1:8000") as client:
        slate = await client.recommend("u1", k=5)

Whatever does not end well is an ``EndpointError`` that says what the endpoint said. A call is made again where nobody
answered, the endpoint is too busy or the key's limit is reached: events carry ids made here, so that a second try
repeats nothing. What both have in common stands in ``attune.asking``.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args

import httpx

from attune.answers import (
    BatchAnswer,
    BatchEntry,
    EventsAnswer,
    Fault,
    FeedbackAnswer,
    ItemAnswer,
    ItemKnown,
    ModelAnswer,
    PopularAnswer,
    PopularItem,
    RecentEvent,
    RecommendAnswer,
    RejectedRow,
    ShownItem,
    SimilarAnswer,
    SimilarItem,
    StateAnswer,
)
from attune.asking import REQUEST_ID, Asking, Given, Send, Steps, Wait
from attune.errors import ConfigError

__all__ = [
    "AsyncClient",
    "BatchAnswer",
    "BatchEntry",
    "Client",
    "EventsAnswer",
    "Fault",
    "FeedbackAnswer",
    "ItemAnswer",
    "ItemKnown",
    "ModelAnswer",
    "PopularAnswer",
    "PopularItem",
    "RecentEvent",
    "RecommendAnswer",
    "RejectedRow",
    "ShownItem",
    "SimilarAnswer",
    "SimilarItem",
    "StateAnswer",
]

TIMEOUT_SECONDS = 15.0

P = ParamSpec("P")
Answer = TypeVar("Answer")


class _Address:
    """Where the endpoint is, and the calls that may be made there."""

    def __init__(self, url: str, retries: int) -> None:
        if not _is_address(url):
            raise ConfigError(f"{url!r} is no address of an endpoint; one looks like http://127.0.0.1:8000")
        self.url, self.retries = url.rstrip("/"), retries
        self._asking = Asking(self.url, retries)


def _method(call: Callable[Concatenate[Asking, P], Steps[Answer]]) -> "Callable[Concatenate[Client, P], Answer]":
    """The call as a method that returns its answer."""

    @wraps(call)
    def method(client: "Client", *arguments: P.args, **named: P.kwargs) -> Answer:
        return client._run(call(client._asking, *arguments, **named))

    return _signed(method, call)


def _coroutine(
    call: Callable[Concatenate[Asking, P], Steps[Answer]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, Answer]]":
    """The call as a method to await."""

    @wraps(call)
    async def method(client: "AsyncClient", *arguments: P.args, **named: P.kwargs) -> Answer:
        return await client._run(call(client._asking, *arguments, **named))

    return _signed(method, call)


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method, call: Callable[..., Any]) -> Method:
    """For ``help``: the call's own arguments, and the answer where it has steps."""
    answer = get_args(call.__annotations__["return"])[2]
    signature = inspect.signature(call).replace(return_annotation=answer)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


class Client(_Address):
    """A client of one endpoint; threads may share it. Leaving its ``with`` block closes the connections.

    ``timeout`` is in seconds and holds for each try, ``retries`` says how many tries may follow the first one.
    ``api_key`` is sent with every request, as the endpoint's installation gave it. Every method raises EndpointError.
    """

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, retries: int = 2, api_key: str | None = None
    ) -> None:
        """Raises ConfigError for what is no address of an HTTP server; connects only when something is asked."""
        super().__init__(url, retries)
        self._http = httpx.Client(timeout=timeout, headers=_authorization(api_key))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    recommend = _method(Asking.recommend)
    recommend_many = _method(Asking.recommend_many)
    feedback = _method(Asking.feedback)
    events = _method(Asking.events)
    item = _method(Asking.item)
    put_item = _method(Asking.put_item)
    change_item = _method(Asking.change_item)
    retire_item = _method(Asking.retire_item)
    similar = _method(Asking.similar)
    popular = _method(Asking.popular)
    state = _method(Asking.state)
    model = _method(Asking.model)
    ready = _method(Asking.ready)

    def _run(self, steps: Steps[Answer]) -> Answer:
        given: Given = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                return end.value
            if isinstance(step, Wait):
                time.sleep(step.seconds)
                given = None
            else:
                given = self._sent(step)

    def _sent(self, step: Send) -> Given:
        try:
            return self._http.request(
                step.method, self.url + step.path, content=step.content, headers={REQUEST_ID: step.request_id}
            )
        except httpx.HTTPError as error:
            return error


class AsyncClient(_Address):
    """``Client`` for asyncio: the same methods, to be awaited; tasks may share one.

    A call that is cancelled may have reached the endpoint all the same.
    """

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, retries: int = 2, api_key: str | None = None
    ) -> None:
        """Raises ConfigError for what is no address of an HTTP server; connects only when something is asked."""
        super().__init__(url, retries)
        self._http = httpx.AsyncClient(timeout=timeout, headers=_authorization(api_key))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    recommend = _coroutine(Asking.recommend)
    recommend_many = _coroutine(Asking.recommend_many)
    feedback = _coroutine(Asking.feedback)
    events = _coroutine(Asking.events)
    item = _coroutine(Asking.item)
    put_item = _coroutine(Asking.put_item)
    change_item = _coroutine(Asking.change_item)
    retire_item = _coroutine(Asking.retire_item)
    similar = _coroutine(Asking.similar)
    popular = _coroutine(Asking.popular)
    state = _coroutine(Asking.state)
    model = _coroutine(Asking.model)
    ready = _coroutine(Asking.ready)

    async def _run(self, steps: Steps[Answer]) -> Answer:
        given: Given = None
        while True:
            try:
                step = steps.send(given)
            except StopIteration as end:
                return end.value
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                given = None
            else:
                given = await self._sent(step)

    async def _sent(self, step: Send) -> Given:
        try:
            return await self._http.request(
                step.method, self.url + step.path, content=step.content, headers={REQUEST_ID: step.request_id}
            )
        except httpx.HTTPError as error:
            return error


def _is_address(url: str) -> bool:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return address.scheme in ("http", "https") and bool(address.host)


def _authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the key; raises ConfigError, which does not repeat it, for what no header can carry."""
    if not api_key:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigError("the API key has characters that no key has; give it as `attune keys create` printed it")
    return {"Authorization": f"Bearer {api_key}"}
