"""The typed client against a scripted server: what it sends, what it tries again, what its errors say.

How it gets on with a real endpoint is tested in tests/serving/test_client.py.
"""

import http.server
import inspect
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from attune import client as typed
from attune import schemas
from attune.client import BATCH_ROWS, Client
from attune.errors import AttuneError, ConfigError, EndpointError
from serving import openapi as documentation

TAKEN = {"event_id": "e1", "position": 7, "status": "accepted"}
BUSY = (503, {"error": {"message": "the log is busy", "field": None}})
DROP = (0, None)


class Script:
    """A server that gives the answers it was told to give, in their order, and keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self.come_back = "0"

    def tell(self, *answers: tuple[int, Any]) -> None:
        self.answers += answers


@pytest.fixture
def script() -> Iterator[Script]:
    told = Script()

    class Told(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            sent = {"path": self.path, "body": json.loads(body) if body else None}
            named = {"key": self.headers.get("authorization"), "id": self.headers.get("x-request-id")}
            told.requests.append({**sent, **named})
            status, answer = told.answers.pop(0)
            if not status:
                self.close_connection = True
                return
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            if status in (429, 503):
                self.send_header("retry-after", told.come_back)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Told)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(script: Script, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(typed, "PAUSE_SECONDS", 0.01)
    with connect(script.url, timeout=5.0) as ready:
        yield ready


def events_answer(number: int, rejected: int = 0) -> dict[str, Any]:
    refused = [{"row": row, "field": "kind", "reason": "unknown"} for row in range(rejected)]
    ids = [None] * rejected + [f"e{row}" for row in range(number - rejected)]
    return {"accepted": number - rejected, "repeated": 0, "rejected": refused, "position": 9, "event_ids": ids}


@pytest.mark.parametrize("answer", schemas.Answer.__subclasses__())
def test_a_field_that_a_later_endpoint_adds_does_no_harm_to_any_answer(answer: type[schemas.Answer]) -> None:
    plain = documentation.example(documentation.schemas()[answer.__name__])
    assert msgspec.convert({**plain, "new": 1}, answer) == msgspec.convert(plain, answer)


def test_a_field_that_a_later_endpoint_adds_does_no_harm(client: Client, script: Script) -> None:
    script.tell((200, {**TAKEN, "new": 1}))
    assert client.feedback("s", "u", "i", "like").position == 7


def test_what_was_not_answered_is_sent_again_under_the_same_id(client: Client, script: Script) -> None:
    script.tell(DROP, BUSY, (200, TAKEN))
    client.feedback("s", "u", "i", "like")
    sent = [request["body"] for request in script.requests]
    assert len(sent) == 3
    assert sent[0]["event_id"]
    assert sent[0] == sent[1] == sent[2]
    assert len({request["id"] for request in script.requests}) == 1


def test_the_tries_have_an_end(client: Client, script: Script) -> None:
    script.tell(BUSY, BUSY, BUSY, BUSY)
    with pytest.raises(EndpointError, match="the log is busy") as raised:
        client.recommend("u")
    assert (len(script.requests), raised.value.status) == (3, 503)


def test_a_refusal_names_field_and_reason_and_is_final(client: Client, script: Script) -> None:
    script.tell((422, {"error": {"message": "k: Expected `int` <= 100", "field": "k"}}))
    with pytest.raises(EndpointError) as raised:
        client.recommend("u", k=1_000)
    assert (raised.value.field, raised.value.status) == ("k", 422)
    assert "<= 100" in raised.value.reason
    assert len(script.requests) == 1


def test_many_rows_go_in_batches_and_come_back_as_one_answer(client: Client, script: Script) -> None:
    rows = [{"user_id": "u", "item_id": f"i{number}", "kind": "view"} for number in range(2 * BATCH_ROWS + 1)]
    refused = (422, {"error": {"message": "kind: unknown", "field": "kind"}})
    script.tell((200, events_answer(BATCH_ROWS)), (200, events_answer(BATCH_ROWS, rejected=2)), refused)
    answer = client.events(rows)
    sent = [row for request in script.requests for row in request["body"]["events"]]
    assert [row["item_id"] for row in sent] == [row["item_id"] for row in rows]
    assert len({row["event_id"] for row in sent}) == len(rows)
    assert (answer.accepted, len(answer.event_ids)) == (2 * BATCH_ROWS - 2, len(rows))
    assert [one.row for one in answer.rejected] == [BATCH_ROWS, BATCH_ROWS + 1, 2 * BATCH_ROWS]
    assert answer.rejected[-1].reason == "kind: unknown"


def test_large_rows_go_in_small_batches(client: Client, script: Script) -> None:
    rows = [{"user_id": "u", "item_id": "i" * 200_000, "kind": "view"} for _ in range(6)]
    script.tell((200, events_answer(4)), (200, events_answer(2)))
    assert client.events(rows).accepted == 6
    assert [len(request["body"]["events"]) for request in script.requests] == [4, 2]


def test_no_rows_ask_nothing(client: Client, script: Script) -> None:
    assert client.events([]).event_ids == []
    assert script.requests == []


@pytest.mark.parametrize("body", [b"<html>404</html>", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("status", [200, 404])
def test_another_server_at_the_address_is_told_from_an_endpoint(
    client: Client, script: Script, status: int, body: bytes
) -> None:
    script.tell((status, body))
    with pytest.raises(EndpointError, match="something else listens there"):
        client.model()


def test_ready_says_yes_no_and_never_raises(client: Client, script: Script) -> None:
    script.tell((200, {"status": "ready"}), BUSY)
    assert [client.ready(), client.ready()] == [True, False]
    with Client("http://127.0.0.1:9") as nobody:
        assert not nobody.ready()


def test_an_endpoint_that_is_down_is_named(connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "PAUSE_SECONDS", 0.01)
    with connect("http://127.0.0.1:9", retries=1) as client, pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        client.model()


def test_slow_answers_end_with_the_timeout(connect: Callable[..., Any]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with connect(url, timeout=0.1, retries=0) as client, pytest.raises(EndpointError, match="in time"):
            client.model()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "http://", "http://a:b:c", ""])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        Client(url)


def test_what_is_no_json_is_refused_before_it_is_sent(client: Client, script: Script) -> None:
    with pytest.raises(AttuneError, match="JSON"):
        client.recommend("u", context={"when": object()})
    assert script.requests == []


def test_answers_are_values() -> None:
    answer = msgspec.convert(TAKEN, schemas.FeedbackAnswer)
    with pytest.raises(AttributeError):
        answer.position = 8  # type: ignore[misc]


def test_the_key_goes_with_every_request(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typed, "PAUSE_SECONDS", 0.01)
    script.tell((200, {"status": "ready"}), BUSY, (200, TAKEN))
    with Client(script.url, api_key="attune_id_secret") as client:
        client.ready()
        client.feedback("s", "u", "i", "like")
        assert "secret" not in repr(client) + repr(vars(client))
    assert [request["key"] for request in script.requests] == ["Bearer attune_id_secret"] * 3


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_none_is_sent(script: Script, key: str | None) -> None:
    script.tell((200, TAKEN))
    with Client(script.url, api_key=key) as client:
        client.feedback("s", "u", "i", "like")
    assert script.requests[0]["key"] is None


@pytest.mark.parametrize("key", ["hush hush", "hush\n", "hüsh"])
def test_a_key_that_no_header_carries_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ConfigError, match="characters that no key has") as raised:
        Client("http://127.0.0.1:9", api_key=key)
    assert key.strip() not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "ATTUNE_API_KEY"), (403, "a key with other scopes"), (429, "a higher limit")]
)
def test_what_a_key_does_not_open_comes_with_advice(client: Client, script: Script, status: int, advice: str) -> None:
    script.come_back = "60"
    script.tell((status, {"error": {"message": "not with this key", "field": None}}))
    with pytest.raises(EndpointError, match=f"not with this key; .*{advice}") as raised:
        client.model()
    assert (raised.value.status, len(script.requests)) == (status, 1)


def test_a_limit_that_is_reached_is_waited_for(client: Client, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(typed, "time", SimpleNamespace(sleep=waited.append))
    monkeypatch.setattr(typed, "asyncio", SimpleNamespace(sleep=wait))
    script.come_back = "2"
    script.tell((429, {"error": {"message": "too fast", "field": None}}), (200, TAKEN))
    assert client.feedback("s", "u", "i", "like").position == 7
    assert waited == [2.0]
    sent = [request["body"]["event_id"] for request in script.requests]
    assert sent[0] == sent[1]


def test_a_busy_endpoint_says_when_to_come_back(
    client: Client, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.come_back = "1"
    script.tell(BUSY, (200, TAKEN))
    started = time.monotonic()
    client.feedback("s", "u", "i", "like")
    assert time.monotonic() - started >= 1.0


def test_an_error_says_how_the_endpoint_names_the_request(client: Client, script: Script) -> None:
    script.tell((422, {"error": {"message": "no", "field": "k", "request_id": "theirs"}}))
    with pytest.raises(EndpointError) as raised:
        client.recommend("u")
    assert raised.value.request_id == "theirs"
    script.tell((500, {"error": {"message": "it was logged", "field": None}}))
    with pytest.raises(EndpointError) as raised:
        client.model()
    assert raised.value.request_id == script.requests[-1]["id"]
    assert str(raised.value) == f"it was logged as request {raised.value.request_id}"


def test_many_requests_go_in_batches_and_come_back_in_order(client: Client, script: Script) -> None:
    wrong = {"slate": None, "error": {"message": "k: too large", "field": "k", "request_id": "r"}}
    script.tell(*((200, {"answers": [wrong] * size}) for size in (100, 100, 1)))
    answer = client.recommend_many({"user_id": f"u{number}"} for number in range(201))
    assert [one.error.field for one in answer.answers if one.error] == ["k"] * 201
    sent = [one["user_id"] for request in script.requests for one in request["body"]["requests"]]
    assert sent == [f"u{number}" for number in range(201)]


@pytest.mark.parametrize(
    ("item_id", "path"), [("a/b", "a%2Fb"), ("é ?", "%C3%A9%20%3F"), ("..", "%2E%2E"), ("%2F", "%252F"), ("a.b", "a.b")]
)
def test_ids_go_into_the_address_whole(client: Client, script: Script, item_id: str, path: str) -> None:
    script.tell((200, {"item_id": item_id, "title": None, "model_version": "1", "items": []}))
    assert client.similar(item_id, k=3).item_id == item_id
    assert script.requests[0]["path"] == f"/v1/items/{path}/similar?k=3"


def test_both_clients_have_the_same_methods() -> None:
    public = {name for name in vars(typed.Calls) if not name.startswith("_")}
    for one in (typed.Client, typed.AsyncClient):
        assert {name for name in vars(one) if not name.startswith("_")} == public | {"close"}
        for name in public:
            method, call = getattr(one, name), getattr(typed.Calls, name)
            assert method.__doc__ == call.__doc__
            assert inspect.signature(method).parameters == inspect.signature(call).parameters
            assert inspect.iscoroutinefunction(method) == (one is typed.AsyncClient)
    assert inspect.signature(typed.Client.model).return_annotation is schemas.ModelAnswer
