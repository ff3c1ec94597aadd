"""Typed clients of the endpoint's HTTP API: ``Client``, and ``AsyncClient`` for programs that run on asyncio.

    with Client("http://127.0.0.1:8000") as client:
        slate = client.recommend("u1", k=5)
        client.feedback(slate.slate_id, "u1", slate.items[0].item_id, "like")

    async with AsyncClient("http://127.0.0.1:8000") as client:
        slate = await client.recommend("u1", k=5)

Every failure is an ``EndpointError`` that says what the endpoint said. A call is tried again where nobody answered, the
endpoint is too busy or the key's limit is reached: events get their ids here, so that a second try repeats nothing.
The answers are the types of ``attune.schemas``.
"""

import asyncio
import inspect
import secrets
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar, get_args
from urllib.parse import quote

import httpx
import msgspec

from attune import schemas
from attune.errors import ConfigError, EndpointError
from attune.row_rules import new_event_id

TIMEOUT_SECONDS = 15.0
PAUSE_SECONDS = 0.2
"""Before the second try; doubled for each one after it, unless the endpoint says when to come back."""

LONGEST_PAUSE_SECONDS = 5.0
BATCH_ROWS = 500
BATCH_REQUESTS = 100
BATCH_BYTES = 900_000
"""The endpoint takes bodies of up to 1 MiB, 1,000 rows and 100 requests."""

REQUEST_ID = "X-Request-Id"
ROW_REFUSED = (409, 422)
TRIED_AGAIN = (429, 503)
ADVICE = {
    401: "; give the client an api_key (attune's commands: ATTUNE_API_KEY), as `attune keys create` makes it",
    403: "; `attune keys create` makes a key with other scopes",
    429: "; send less at once, or ask for a higher limit (`attune keys create --rate`, ATTUNE_EVENTS_PER_MINUTE)",
}
"""What a person can do about a status, behind what the endpoint said."""

Row = Mapping[str, Any]
Answer = TypeVar("Answer")
P = ParamSpec("P")


class Send(NamedTuple):
    """One request; the id in its headers is the same for all tries of a call."""

    method: str
    url: str
    content: bytes | None
    headers: dict[str, str]


Reply = httpx.Response | httpx.HTTPError | None
Steps = Generator[Send | float, Reply, Answer]


class Calls:
    """The calls of one endpoint, without input or output: ``Client`` and ``AsyncClient`` run them.

    Each call is a generator. It yields a ``Send`` and gets the response or the error that replaced it; it yields the
    seconds to wait before the next try and gets None; it returns the answer or raises EndpointError. So the rules of
    trying again stand here once. ``retries`` says how many tries may follow the first one.
    """

    def __init__(self, url: str, retries: int) -> None:
        """Raises ConfigError for what is no address of an HTTP server."""
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            raise ConfigError(f"{url!r} is no address of an endpoint; one looks like http://127.0.0.1:8000")
        self.url, self.retries = url.rstrip("/"), retries

    def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None,
        seed: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Steps[schemas.RecommendAnswer]:
        """A slate of ``k`` items (1 to 100) for the user; one seed on one state gives one slate.

        ``where`` names attributes, each with the value that an item must hold, or a list of which it must hold one.
        ``at_most`` names attributes, each with how many items of the slate may share one value of it.
        """
        body: dict[str, Any] = {"user_id": user_id, "k": k, "exclude": list(exclude), "seed": seed}
        body |= {"where": dict(where or {}), "at_most": dict(at_most or {}), "context": dict(context or {})}
        return self._call("POST", "/v1/recommend", body, schemas.RecommendAnswer)

    def recommend_many(self, requests: Iterable[Row]) -> Steps[schemas.BatchAnswer]:
        """Slates for requests, each as ``recommend`` takes it, sent in batches; in order, errors for wrong ones."""
        answers: list[schemas.BatchEntry] = []
        for batch in _batches(map(_encoded, requests), BATCH_REQUESTS):
            body = {"requests": [msgspec.Raw(request) for request in batch]}
            answer = yield from self._call("POST", "/v1/recommend/batch", body, schemas.BatchAnswer)
            answers += answer.answers
        return schemas.BatchAnswer(answers=answers)

    def feedback(
        self,
        slate_id: str,
        user_id: str,
        item_id: str,
        kind: str,
        value: float | None = None,
        *,
        retracts: str | None = None,
        event_id: str | None = None,
        event_timestamp: str | None = None,
    ) -> Steps[schemas.FeedbackAnswer]:
        """A reaction to an item of a slate; durable on return.

        ``event_timestamp`` is ISO 8601 with a zone, the time of arrival if absent. ``event_id`` is made if absent;
        who calls again after an error gives the same one, and nothing counts twice.
        """
        row: dict[str, Any] = {"slate_id": slate_id, "user_id": user_id, "item_id": item_id, "kind": kind}
        row |= {"value": value, "retracts": retracts}
        row |= {"event_id": event_id or new_event_id(), "event_timestamp": event_timestamp}
        return self._call("POST", "/v1/feedback", row, schemas.FeedbackAnswer)

    def events(self, rows: Iterable[Row]) -> Steps[schemas.EventsAnswer]:
        """Behaviour outside slates, any number of rows, sent in batches; what was taken is durable on return.

        A row needs ``user_id``, ``item_id``, ``kind``, and may have ``value``, ``retracts``, ``event_id`` and
        ``event_timestamp`` (ISO 8601). One that breaks a rule is in ``rejected`` and costs no other. When an error
        ends it midway, the batches before it were taken: give rows ids of your own to send all of them again.
        """
        accepted = repeated = position = 0
        rejected: list[schemas.RejectedRow] = []
        event_ids: list[str | None] = []
        rows_with_ids = (_encoded({**row, "event_id": row.get("event_id") or new_event_id()}) for row in rows)
        for batch in _batches(rows_with_ids, BATCH_ROWS):
            body = {"events": [msgspec.Raw(row) for row in batch]}
            try:
                answer = yield from self._call("POST", "/v1/events", body, schemas.EventsAnswer)
            except EndpointError as error:  # so a single row that is refused comes back
                if len(batch) > 1 or error.status not in ROW_REFUSED:
                    raise
                refused = schemas.RejectedRow(row=0, field=error.field, reason=error.reason)
                answer = schemas.EventsAnswer(0, 0, [refused], 0, [None])
            accepted, repeated = accepted + answer.accepted, repeated + answer.repeated
            rejected += [msgspec.structs.replace(row, row=row.row + len(event_ids)) for row in answer.rejected]
            position = max(position, answer.position)
            event_ids += answer.event_ids
        return schemas.EventsAnswer(accepted, repeated, rejected, position, event_ids)

    def item(self, item_id: str) -> Steps[schemas.ItemKnown]:
        """What is known of an item."""
        return self._call("GET", _item(item_id), None, schemas.ItemKnown)

    def put_item(
        self, item_id: str, attributes: Mapping[str, Any], *, event_id: str | None = None
    ) -> Steps[schemas.ItemAnswer]:
        """All that is known of the item from now on; it may be recommended at the next request."""
        return self._call("PUT", _item(item_id), _item_body(attributes, event_id), schemas.ItemAnswer)

    def change_item(
        self, item_id: str, attributes: Mapping[str, Any], *, event_id: str | None = None
    ) -> Steps[schemas.ItemAnswer]:
        """Set some attributes and remove those that are None; ``{"available": False}`` is out of stock."""
        return self._call("PATCH", _item(item_id), _item_body(attributes, event_id), schemas.ItemAnswer)

    def retire_item(self, item_id: str, *, event_id: str | None = None) -> Steps[schemas.ItemAnswer]:
        """Never to be shown again; what was known of it is kept."""
        path = f"{_item(item_id)}?event_id={_in_path(event_id or new_event_id())}"
        return self._call("DELETE", path, None, schemas.ItemAnswer)

    def similar(self, item_id: str, k: int = 10) -> Steps[schemas.SimilarAnswer]:
        """The ``k`` items (1 to 100) nearest to one, by the champion's vectors."""
        return self._call("GET", f"{_item(item_id)}/similar?k={k}", None, schemas.SimilarAnswer)

    def popular(self, k: int = 10) -> Steps[schemas.PopularAnswer]:
        """The ``k`` most popular items (1 to 100)."""
        return self._call("GET", f"/v1/popular?k={k}", None, schemas.PopularAnswer)

    def state(self, user_id: str, limit: int = 50) -> Steps[schemas.StateAnswer]:
        """What is known of a user as of now, with the ``limit`` latest events (0 to 200)."""
        return self._call("GET", f"/v1/users/{_in_path(user_id)}/state?limit={limit}", None, schemas.StateAnswer)

    def model(self) -> Steps[schemas.ModelAnswer]:
        """Which version answers, since when, and what it is."""
        return self._call("GET", "/v1/model", None, schemas.ModelAnswer)

    def ready(self) -> Steps[bool]:
        """Whether the endpoint answers and is able to recommend; asks once, and never raises."""
        reply = yield Send("GET", f"{self.url}/readyz", None, {REQUEST_ID: secrets.token_hex(12)})
        return isinstance(reply, httpx.Response) and reply.is_success

    def _call(self, method: str, path: str, body: object, answer: type[Answer]) -> Steps[Answer]:
        """One request and its tries; each sends the same bytes, with the same ids of events and request."""
        content, request_id = None if body is None else _encoded(body), secrets.token_hex(12)
        request = Send(method, self.url + path, content, {REQUEST_ID: request_id})
        for tried in range(self.retries + 1):
            pause = min(PAUSE_SECONDS * 2**tried, LONGEST_PAUSE_SECONDS)
            reply = yield request
            if isinstance(reply, httpx.Response):
                if reply.is_success:
                    return _decoded(request_id, reply, answer)
                failure = _failure(request_id, reply)
                if reply.status_code not in TRIED_AGAIN:
                    break
                retry_after = reply.headers.get("retry-after", "")
                wanted = float(retry_after) if retry_after.isdecimal() else pause
                if reply.status_code == httpx.codes.TOO_MANY_REQUESTS and wanted > LONGEST_PAUSE_SECONDS:
                    break  # coming earlier would be refused too
                pause = min(wanted, LONGEST_PAUSE_SECONDS)
            else:
                is_slow = isinstance(reply, httpx.TimeoutException)
                why = "did not answer in time" if is_slow else f"does not answer ({reply})"
                message = f"the endpoint at {self.url} {why}: is it running, and is that its address?"
                failure = EndpointError(message, request_id=request_id)
                failure.__cause__ = reply
            if tried < self.retries:
                yield pause
        raise failure


def _item_body(attributes: Mapping[str, Any], event_id: str | None) -> dict[str, Any]:
    return {"attributes": dict(attributes), "event_id": event_id or new_event_id()}


def _item(item_id: str) -> str:
    return f"/v1/items/{_in_path(item_id)}"


def _in_path(identifier: str) -> str:
    """An id as one part of a path; dots alone would be taken for folders."""
    return quote(identifier, safe="") if identifier.strip(".") else "%2E" * len(identifier)


def _encoded(body: object) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise EndpointError(f"this cannot be sent as JSON: {error}") from error


def _decoded(request_id: str, reply: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        return msgspec.json.decode(reply.content, type=answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EndpointError(
            f"{reply.request.method} {reply.request.url} was answered with {reply.status_code}, and not as an endpoint"
            " of attune answers: something else listens there, or another version of attune",
            status=reply.status_code,
            request_id=request_id,
        ) from error


def _failure(request_id: str, reply: httpx.Response) -> EndpointError:
    try:
        fault = _decoded(request_id, reply, schemas.ErrorAnswer).error
    except EndpointError as foreign:
        return foreign
    request_id = fault.request_id or request_id
    advice = ADVICE.get(reply.status_code, "")
    if reply.status_code == httpx.codes.INTERNAL_SERVER_ERROR:
        advice = f" as request {request_id}"
    return EndpointError(fault.message + advice, fault.field, reply.status_code, request_id)


def _batches(encoded: Iterable[bytes], most: int) -> Iterator[list[bytes]]:
    """Encoded rows in batches that the endpoint takes."""
    batch: list[bytes] = []
    size = 0
    for row in encoded:
        if batch and (len(batch) == most or size + len(row) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row) + 1
    if batch:
        yield batch


def _method(call: Callable[Concatenate[Calls, P], Steps[Answer]]) -> "Callable[Concatenate[Client, P], Answer]":
    @wraps(call)
    def method(client: "Client", *arguments: P.args, **named: P.kwargs) -> Answer:
        return client._run(call(client._calls, *arguments, **named))

    return _signed(method, call)


def _coroutine(
    call: Callable[Concatenate[Calls, P], Steps[Answer]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, Answer]]":
    @wraps(call)
    async def method(client: "AsyncClient", *arguments: P.args, **named: P.kwargs) -> Answer:
        return await client._run(call(client._calls, *arguments, **named))

    return _signed(method, call)


Method = TypeVar("Method", bound=Callable[..., Any])


def _signed(method: Method, call: Callable[..., Any]) -> Method:
    """For ``help``: the call's own arguments, and its answer in place of its steps."""
    answer = get_args(call.__annotations__["return"])[2]
    signature = inspect.signature(call).replace(return_annotation=answer)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def _authorization(api_key: str | None) -> dict[str, str]:
    """The header that carries the key; raises ConfigError, which does not repeat it, for what no header can carry."""
    if not api_key:
        return {}
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ConfigError("the API key has characters that no key has; give it as `attune keys create` printed it")
    return {"Authorization": f"Bearer {api_key}"}


class Client:
    """A client of one endpoint; threads may share it. Leaving its ``with`` block closes the connections.

    ``timeout`` is in seconds and holds for each try, ``retries`` says how many tries may follow the first one.
    ``api_key`` is sent with every request, as the endpoint's installation gave it. Every method raises EndpointError.
    """

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, retries: int = 2, api_key: str | None = None
    ) -> None:
        """Raises ConfigError for what is no address of an HTTP server; the first call connects."""
        self._calls = Calls(url, retries)
        self.url = self._calls.url
        self._http = httpx.Client(timeout=timeout, headers=_authorization(api_key))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    recommend = _method(Calls.recommend)
    recommend_many = _method(Calls.recommend_many)
    feedback = _method(Calls.feedback)
    events = _method(Calls.events)
    item = _method(Calls.item)
    put_item = _method(Calls.put_item)
    change_item = _method(Calls.change_item)
    retire_item = _method(Calls.retire_item)
    similar = _method(Calls.similar)
    popular = _method(Calls.popular)
    state = _method(Calls.state)
    model = _method(Calls.model)
    ready = _method(Calls.ready)

    def _run(self, steps: Steps[Answer]) -> Answer:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
                reply = None
                if isinstance(step, Send):
                    reply = self._http.request(**step._asdict())
                else:
                    time.sleep(step)
            except httpx.HTTPError as error:
                reply = error
            except StopIteration as end:
                return end.value


class AsyncClient:
    """``Client`` for asyncio; tasks may share one. A cancelled call may have reached the endpoint all the same."""

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, retries: int = 2, api_key: str | None = None
    ) -> None:
        """Raises ConfigError for what is no address of an HTTP server; the first call connects."""
        self._calls = Calls(url, retries)
        self.url = self._calls.url
        self._http = httpx.AsyncClient(timeout=timeout, headers=_authorization(api_key))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    recommend = _coroutine(Calls.recommend)
    recommend_many = _coroutine(Calls.recommend_many)
    feedback = _coroutine(Calls.feedback)
    events = _coroutine(Calls.events)
    item = _coroutine(Calls.item)
    put_item = _coroutine(Calls.put_item)
    change_item = _coroutine(Calls.change_item)
    retire_item = _coroutine(Calls.retire_item)
    similar = _coroutine(Calls.similar)
    popular = _coroutine(Calls.popular)
    state = _coroutine(Calls.state)
    model = _coroutine(Calls.model)
    ready = _coroutine(Calls.ready)

    async def _run(self, steps: Steps[Answer]) -> Answer:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
                reply = None
                if isinstance(step, Send):
                    reply = await self._http.request(**step._asdict())
                else:
                    await asyncio.sleep(step)
            except httpx.HTTPError as error:
                reply = error
            except StopIteration as end:
                return end.value
