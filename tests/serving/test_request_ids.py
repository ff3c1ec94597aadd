"""Every answer has a request id, which stands in its errors and in the log."""

import asyncio
import io
import logging
import time

import pytest

from attune.errors import EventLogError
from serving import request_ids
from serving.micro_batcher import BoundedExecutor
from serving.request_ids import HEADER, RequestIdMiddleware


@pytest.mark.parametrize("own", ["a", "4bf92f3577b34da6-a3ce929d0e0e4736", "x" * 128, "{'&%s"])
def test_a_sane_id_is_kept(endpoint, own: str) -> None:
    assert endpoint.client.get("/healthz", headers={HEADER: own}).headers.get_list(HEADER) == [own]


@pytest.mark.parametrize("own", [None, "", "x" * 129, "two words", "tab\tbed", "größer".encode(), b"\xff"])
def test_otherwise_a_new_one_is_made(endpoint, own: str | bytes | None) -> None:
    headers = {} if own is None else {HEADER: own}
    made = {endpoint.client.get("/healthz", headers=headers).headers[HEADER] for _ in range(2)}
    assert len(made) == 2
    assert all(len(one) == 24 and one.isalnum() for one in made)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/recommend", b"{", 422),
        ("POST", "/v1/recommend", b"x" * 1_100_000, 413),
        ("GET", "/nowhere", b"", 404),
        ("GET", "/v1/recommend", b"", 405),
    ],
)
def test_errors_name_it(endpoint, method: str, path: str, body: bytes, status: int) -> None:
    reply = endpoint.client.request(method, path, content=body, headers={HEADER: "mine"})
    assert (reply.status_code, reply.headers[HEADER]) == (status, "mine")
    assert reply.json()["error"]["request_id"] == "mine"


def test_also_where_something_unexpected_went_wrong(bare, monkeypatch) -> None:
    monkeypatch.setattr("serving.metrics.generate_latest", lambda registry: 1 / 0)
    reply = bare.client.get("/metrics", headers={HEADER: "mine"})
    assert (reply.status_code, reply.headers.get_list(HEADER)) == (500, ["mine"])
    assert reply.json()["error"]["request_id"] == "mine"


def test_the_log_lines_of_a_request_begin_with_it(bare, monkeypatch) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, handler])
    request_ids.prefix_log_lines()

    def gone(*arguments: object) -> None:
        logging.getLogger("serving").warning("on a thread: %d %%", 5)
        raise EventLogError("the log's disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(bare.log, "tails", gone)
        bare.client.post("/v1/recommend", json={"user_id": "u"}, headers={HEADER: "100%s"})
    logging.getLogger("serving").warning("outside of one")
    lines = said.getvalue().splitlines()
    assert "[100%s] on a thread: 5 %" in lines
    assert [line for line in lines if line.startswith("[100%s] the event log cannot be read")]
    assert "outside of one" in lines


def test_a_thread_of_an_executor_knows_whose_call_it_is() -> None:
    async def main() -> list[str | None]:
        executor = BoundedExecutor("test", 1, 10, 5.0)

        async def one(name: str) -> str | None:
            request_ids._current.set(name)
            return await executor.run(request_ids.current)

        found = await asyncio.gather(one("a"), one("b"), executor.run(request_ids.current))
        executor.close()
        return found

    assert asyncio.run(main()) == ["a", "b", None]


def test_it_costs_microseconds() -> None:
    async def app(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def nothing(message: object) -> None:
        pass

    async def seconds(called) -> float:
        scope = {"type": "http", "headers": [(b"host", b"h"), (b"content-type", b"application/json")]}
        started = time.perf_counter()
        for _ in range(2_000):
            await called(scope, nothing, nothing)
        return (time.perf_counter() - started) / 2_000

    cost = min(asyncio.run(seconds(RequestIdMiddleware(app))) - asyncio.run(seconds(app)) for _ in range(5))
    assert cost < 100e-6
