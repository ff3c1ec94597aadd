"""A typed client of the endpoint's HTTP API.

    with Client("http://127.0.0.1:8000") as client:
        slate = client.recommend("u1", k=5)
        client.feedback(slate.slate_id, "u1", slate.items[0].item_id, "like")

Whatever does not end well is an ``EndpointError`` that says what the endpoint said. A call is made again where nobody
answered, the endpoint is too busy or the key's limit is reached: events carry ids made here, so that a second try
repeats nothing.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
import msgspec

from attune.door import new_event_id
from attune.errors import ConfigError, EndpointError

TIMEOUT_SECONDS = 15.0
PAUSE_SECONDS = 0.2
"""Before the first further try; doubled for each one after it, unless the endpoint says when to come back."""

LONGEST_PAUSE_SECONDS = 5.0
BATCH_ROWS = 500
BATCH_BYTES = 900_000
"""The endpoint takes bodies of up to 1 MiB and 1,000 rows."""

ROW_REFUSED = (409, 422)
TRIED_AGAIN = (429, 503)
ADVICE = {
    401: "; give the client an api_key (attune's commands: ATTUNE_API_KEY), as `attune keys create` makes it",
    403: "; `attune keys create` makes a key with other scopes",
    429: "; send less at once, or ask for a key with a higher limit (`attune keys create --rate`)",
}
"""What a person can do about a status, behind what the endpoint said."""

Row = Mapping[str, Any]


class ShownItem(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a slate (from 1); the propensity is conditional on the items above it."""

    item_id: str
    title: str | None
    position: int
    score: float
    propensity: float


class RecommendAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A slate and how it came about.

    ``slate_id`` is None when the slate could not be logged: there is nothing to give feedback on. ``served_by`` is
    ``champion`` or ``popularity``, ``model_version`` None without a model. ``state_position`` is the log position up
    to which the user's events are reflected, 0 for somebody unknown. ``degraded`` names what could not be read:
    ``features`` costs nothing, ``event_log`` the user's latest events.
    """

    slate_id: str | None
    user_id: str
    items: list[ShownItem]
    model_version: str | None
    served_by: str
    state_position: int
    policy: dict[str, Any]
    degraded: list[str]


class FeedbackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The event is durable; ``status`` is ``accepted``, or ``repeated`` when the log had it already."""

    event_id: str
    position: int
    status: str


class RejectedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was not taken; ``row`` counts from 0 over all the rows given."""

    row: int
    field: str | None
    reason: str


class EventsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows, each accepted, repeated or rejected.

    ``position`` is the highest log position among them (0: none was taken), ``event_ids`` has one a row, None where
    it was rejected.
    """

    accepted: int
    repeated: int
    rejected: list[RejectedRow]
    position: int
    event_ids: list[str | None]


class ModelAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What answers now; everything after the first three is None without a champion. Times are ISO 8601.

    ``log_id`` says which event log the endpoint reads and writes (``EventLog.log_id``).
    """

    endpoint: str
    log_id: str
    served_by: str
    version: str | None
    previous: str | None
    fence: int | None
    promoted_at: str | None
    loaded_at: str | None
    items: int | None
    config: dict[str, Any] | None


class _Fault(msgspec.Struct, frozen=True):
    message: str
    field: str | None = None


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: _Fault


Answer = TypeVar("Answer")


class Client:
    """A client of one endpoint; threads may share it. Leaving its ``with`` block closes the connections.

    ``timeout`` is in seconds and holds for each try, ``retries`` says how many tries may follow the first one.
    ``api_key`` is sent with every request, as the endpoint's installation gave it. Every method raises EndpointError.
    """

    def __init__(
        self, url: str, timeout: float = TIMEOUT_SECONDS, retries: int = 2, api_key: str | None = None
    ) -> None:
        """Raises ConfigError for what is no address of an HTTP server; connects only when something is asked."""
        if not _is_address(url):
            raise ConfigError(f"{url!r} is no address of an endpoint; one looks like http://127.0.0.1:8000")
        self.url, self.retries = url.rstrip("/"), retries
        self._http = httpx.Client(timeout=timeout, headers=_authorization(api_key))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def recommend(
        self,
        user_id: str,
        k: int = 10,
        *,
        exclude: Sequence[str] = (),
        seed: int | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> RecommendAnswer:
        """A slate of ``k`` items (1 to 100) for the user; one seed on one state gives one slate."""
        body = {"user_id": user_id, "k": k, "exclude": list(exclude), "seed": seed, "context": dict(context or {})}
        return self._call("POST", "/v1/recommend", body, RecommendAnswer)

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
    ) -> FeedbackAnswer:
        """A reaction to an item of a slate; durable on return.

        ``event_timestamp`` is ISO 8601 with a zone, the time of arrival if absent. ``event_id`` is made if absent;
        who calls again after an error gives the same one, and nothing counts twice.
        """
        row = {
            "slate_id": slate_id,
            "user_id": user_id,
            "item_id": item_id,
            "kind": kind,
            "value": value,
            "retracts": retracts,
            "event_id": event_id or new_event_id(),
            "event_timestamp": event_timestamp,
        }
        return self._call("POST", "/v1/feedback", row, FeedbackAnswer)

    def events(self, rows: Iterable[Row]) -> EventsAnswer:
        """Behaviour outside slates, any number of rows, sent in batches; what was taken is durable on return.

        A row needs ``user_id``, ``item_id``, ``kind``, and may have ``value``, ``retracts``, ``event_id`` and
        ``event_timestamp`` (ISO 8601). One that breaks a rule is in ``rejected`` and costs no other. When an error
        ends it midway, the batches before it were taken: give rows ids of your own to send all of them again.
        """
        total = EventsAnswer(accepted=0, repeated=0, rejected=[], position=0, event_ids=[])
        for batch in _batches(rows):
            total = _added(total, self._send(batch))
        return total

    def model(self) -> ModelAnswer:
        """Which version answers, since when, and what it is."""
        return self._call("GET", "/v1/model", None, ModelAnswer)

    def ready(self) -> bool:
        """Whether the endpoint answers and is able to recommend; asks once, and never raises."""
        try:
            return self._http.get(f"{self.url}/readyz").is_success
        except httpx.HTTPError:
            return False

    def _send(self, batch: list[bytes]) -> EventsAnswer:
        """One batch; a single row that is refused is answered as an error, and made a rejected row like any other."""
        try:
            return self._call("POST", "/v1/events", {"events": [msgspec.Raw(row) for row in batch]}, EventsAnswer)
        except EndpointError as error:
            if len(batch) > 1 or error.status not in ROW_REFUSED:
                raise
            refused = RejectedRow(row=0, field=error.field, reason=error.reason)
            return EventsAnswer(accepted=0, repeated=0, rejected=[refused], position=0, event_ids=[None])

    def _call(self, method: str, path: str, body: object, answer: type[Answer]) -> Answer:
        content = None if body is None else _encoded(body)
        for tried in range(self.retries + 1):
            pause = min(PAUSE_SECONDS * 2**tried, LONGEST_PAUSE_SECONDS)
            try:
                reply = self._http.request(method, self.url + path, content=content)
            except httpx.HTTPError as error:
                failed = self._unanswered(error)
                failed.__cause__ = error
            else:
                if reply.is_success:
                    return self._decoded(reply, answer)
                failed = self._refused(reply)
                if reply.status_code not in TRIED_AGAIN:
                    break
                asked = _asked_to_wait(reply, pause)
                if reply.status_code == httpx.codes.TOO_MANY_REQUESTS and asked > LONGEST_PAUSE_SECONDS:
                    break  # coming earlier would be refused too
                pause = min(asked, LONGEST_PAUSE_SECONDS)
            if tried < self.retries:
                time.sleep(pause)
        raise failed

    def _unanswered(self, error: httpx.HTTPError) -> EndpointError:
        why = "did not answer in time" if isinstance(error, httpx.TimeoutException) else f"does not answer ({error})"
        return EndpointError(f"the endpoint at {self.url} {why}: is it running, and is that its address?")

    def _refused(self, reply: httpx.Response) -> EndpointError:
        try:
            fault = msgspec.json.decode(reply.content, type=_ErrorAnswer).error
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._foreign(reply)
        return EndpointError(fault.message + ADVICE.get(reply.status_code, ""), fault.field, reply.status_code)

    def _decoded(self, reply: httpx.Response, answer: type[Answer]) -> Answer:
        try:
            return msgspec.json.decode(reply.content, type=answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise self._foreign(reply) from error

    def _foreign(self, reply: httpx.Response) -> EndpointError:
        return EndpointError(
            f"{reply.request.method} {reply.request.url} was answered with {reply.status_code}, and not as an endpoint"
            " of attune answers: something else listens there, or another version of attune",
            status=reply.status_code,
        )


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


def _encoded(body: object) -> bytes:
    try:
        return msgspec.json.encode(body)
    except (TypeError, ValueError, OverflowError) as error:
        raise EndpointError(f"this cannot be sent as JSON: {error}") from error


def _batches(rows: Iterable[Row]) -> Iterator[list[bytes]]:
    """The rows as JSON, each with an id, in batches that the endpoint takes."""
    batch: list[bytes] = []
    size = 0
    for row in rows:
        encoded = _encoded({**row, "event_id": row.get("event_id") or new_event_id()})
        if batch and (len(batch) == BATCH_ROWS or size + len(encoded) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(encoded)
        size += len(encoded) + 1
    if batch:
        yield batch


def _added(total: EventsAnswer, more: EventsAnswer) -> EventsAnswer:
    """Both answers as one; the rows of ``more`` come after those of ``total``."""
    before = len(total.event_ids)
    shifted = [msgspec.structs.replace(one, row=one.row + before) for one in more.rejected]
    return EventsAnswer(
        accepted=total.accepted + more.accepted,
        repeated=total.repeated + more.repeated,
        rejected=[*total.rejected, *shifted],
        position=max(total.position, more.position),
        event_ids=[*total.event_ids, *more.event_ids],
    )


def _asked_to_wait(reply: httpx.Response, otherwise: float) -> float:
    """Seconds of the ``Retry-After`` header."""
    asked = reply.headers.get("retry-after", "")
    return float(asked) if asked.isdecimal() else otherwise
