"""Keys and limits before the routes, on a small app of its own over a real table of keys."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from routers import bare_routers, route_scopes

from attune.api_keys import REVOKED_WITHIN_SECONDS, SCOPES, ApiKey, ApiKeys, digest_of
from attune.errors import ConfigError, EventLogError
from attune.event_log import prepare
from attune.settings import Settings
from serving import authentication, openapi
from serving.authentication import (
    AccessControl,
    AccessMiddleware,
    KeyCache,
    KeysUnavailable,
    RateLimit,
    TokenBuckets,
)
from serving.metrics import Metrics

ROUTES = [("POST", "/v1/recommend"), ("POST", "/v1/feedback"), ("PUT", "/v1/items/7"), ("GET", "/metrics")]
SCOPE_OF = dict(zip(ROUTES, ("recommend", "feedback", "items", "metrics"), strict=True))
SCOPES_OF_ROUTES = route_scopes()
NOBODY = "attune_" + 12 * "0" + "_" + 64 * "0"
PAUSE_SECONDS = authentication.PAUSE_SECONDS


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has an unknown key waits for the next reading; one test waits for as long as production does."""
    monkeypatch.setattr(authentication, "PAUSE_SECONDS", 0.05)


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    prepare(url)
    return url


@pytest.fixture
def table(url: str) -> Iterator[ApiKeys]:
    with closing(ApiKeys(url)) as table:
        yield table


class Visitor:
    """Asks an app whose routes say who asked."""

    def __init__(self, access: AccessControl) -> None:
        self._app = FastAPI()

        @self._app.get("/{path:path}")
        @self._app.post("/{path:path}")
        @self._app.put("/{path:path}")
        async def everything(request: Request) -> dict[str, Any]:
            return {"asked_by": getattr(request.state, "key_name", None)}

        self._app.add_middleware(AccessMiddleware, access=access)
        self._runner = asyncio.Runner()

    def ask(
        self,
        route: tuple[str, str],
        key: str | None = None,
        headers: Mapping[str, Any] | None = None,
        address: str = "10.0.0.1",
    ) -> httpx.Response:
        given = {**(headers or {}), **({"Authorization": f"Bearer {key}"} if key else {})}

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, client=(address, 5))
            async with httpx.AsyncClient(transport=transport, base_url="http://attune") as client:
                return await client.request(*route, headers=given)

        return self._runner.run(asked())

    def close(self) -> None:
        self._runner.close()


@contextmanager
def guarded(access: AccessControl) -> Iterator[Visitor]:
    access.start()
    with closing(Visitor(access)) as visitor:
        yield visitor
    access.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def client(url: str, metrics: Metrics) -> Iterator[Visitor]:
    with guarded(AccessControl(SCOPES_OF_ROUTES, KeyCache(partial(ApiKeys, url)), RateLimit.of(0), metrics)) as client:
        yield client


def counted(metrics: Metrics, reason: str) -> float:
    return metrics.registry.get_sample_value("attune_turned_away_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/docs", "/openapi.json"])
def test_how_the_process_is_needs_no_key(client: Visitor, path: str) -> None:
    assert client.ask(("GET", path)).status_code == 200


def test_each_scope_opens_its_routes_and_admin_all(url: str, table: ApiKeys, metrics: Metrics) -> None:
    keys = {scope: table.create(f"of-{scope}", [scope])[0] for scope in SCOPES}
    with guarded(AccessControl(SCOPES_OF_ROUTES, KeyCache(partial(ApiKeys, url)), RateLimit.of(0), metrics)) as client:
        for route, wanted in SCOPE_OF.items():
            replies = {scope: client.ask(route, key) for scope, key in keys.items()}
            opened = {scope for scope, reply in replies.items() if reply.status_code == 200}
            assert opened == {wanted, "admin"}
            for scope in set(SCOPES) - opened:
                said = replies[scope].json()["error"]["message"]
                assert replies[scope].status_code == 403
                assert f"needs a key with the scope '{wanted}'; key 'of-{scope}' has {scope}" in said
    assert counted(metrics, "scope") == 12


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no_key"),
        ({"Authorization": ""}, "no_key"),
        ({"Authorization": "Basic YTpi"}, "no_key"),
        ({"Authorization": "Bearer"}, "unknown_key"),
        ({"Authorization": "Bearer hush"}, "unknown_key"),
        ({"Authorization": b"Bearer \xff\xfe"}, "unknown_key"),
        ({"Authorization": f"Bearer {NOBODY}"}, "unknown_key"),
        ({"X-Api-Key": NOBODY}, "no_key"),
    ],
)
def test_without_a_key_that_holds_nobody_comes_in(
    client: Visitor, table: ApiKeys, metrics: Metrics, headers: dict[str, Any], reason: str
) -> None:
    table.create("somebody", ["admin"])
    reply = client.ask(ROUTES[0], headers=headers)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert set(reply.json()["error"]) == {"message", "field", "request_id"}
    assert "hush" not in reply.text
    assert NOBODY not in reply.text
    assert counted(metrics, reason) == 1


def test_the_id_alone_does_not_open(client: Visitor, table: ApiKeys) -> None:
    key = table.create("shop", ["recommend"])[0]
    forged = key[:-64] + 64 * "0"
    assert client.ask(ROUTES[0], forged).status_code == 401
    assert client.ask(ROUTES[0], key).status_code == 200
    assert client.ask(ROUTES[0], forged).status_code == 401


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER "])
def test_the_word_before_the_key_is_read_as_http_wants_it(client: Visitor, table: ApiKeys, word: str) -> None:
    key = table.create("shop", ["recommend"])[0]
    reply = client.ask(ROUTES[0], headers={"authorization": f"{word} {key}"})
    assert reply.json() == {"asked_by": "shop"}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/model", "recommend"),
        ("HEAD", "/v1/model", "recommend"),
        ("POST", "/v1/recommend/", "recommend"),
        ("GET", "/v1/users/u1/state", "recommend"),
        ("GET", "/v1/items/7/similar", "recommend"),
        ("DELETE", "/v1/items/7", "items"),
        ("POST", "/v1/events", "feedback"),
        ("POST", "/v1/items", "admin"),
        ("GET", "/v1/recommend", "admin"),
        ("GET", "/v1/new", "admin"),
        ("GET", "/v1", "admin"),
        ("GET", "//v1/model", "admin"),
        ("GET", "/v1//model", "admin"),
        ("GET", "/v1/recommended", "admin"),
        ("GET", "/V1/model", "admin"),
        ("GET", "/metrics/more", "admin"),
        ("GET", "/healthz/more", "admin"),
        ("OPTIONS", "/v1/model", "admin"),
        ("GET", "", "admin"),
        ("GET", "/" * 60_000, "admin"),
    ],
)
def test_what_nobody_named_is_for_admins(method: str, path: str, scope: str) -> None:
    assert SCOPES_OF_ROUTES.of(method, path) == scope


def test_the_routes_name_scopes_that_there_are() -> None:
    assert set(SCOPES_OF_ROUTES.needed.values()) == set(SCOPES) - {"admin"}
    assert all(path.count("/") == 2 or path == "/metrics" for _, path in SCOPES_OF_ROUTES.needed)


def test_nothing_slips_through_as_a_websocket(metrics: Metrics) -> None:
    sent = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async def nothing(*_: Any) -> None:
        raise AssertionError("it slipped through")

    guarded = AccessMiddleware(nothing, AccessControl(SCOPES_OF_ROUTES, None, RateLimit.of(0), metrics))
    asyncio.run(guarded({"type": "websocket", "path": "/v1/socket"}, nothing, send))
    assert sent == ["websocket.close"]


def test_a_new_key_works_at_once_and_a_revoked_one_ends_soon(client: Visitor, table: ApiKeys) -> None:
    assert client.ask(ROUTES[0], NOBODY).status_code == 401
    key = table.create("shop", ["recommend"])[0]
    began = time.monotonic()
    assert client.ask(ROUTES[0], key).status_code == 200
    assert time.monotonic() - began < PAUSE_SECONDS + 1
    table.revoke("shop")
    began = time.monotonic()
    while client.ask(ROUTES[0], key).status_code == 200:
        assert time.monotonic() - began < REVOKED_WITHIN_SECONDS
        time.sleep(0.05)
    assert client.ask(ROUTES[0], key).status_code == 401


def test_a_limit_holds_for_each_key(url: str, table: ApiKeys, metrics: Metrics) -> None:
    now = [0.0]
    cache = KeyCache(partial(ApiKeys, url))
    access = AccessControl(SCOPES_OF_ROUTES, cache, RateLimit.of(2), metrics, TokenBuckets(clock=lambda: now[0]))
    usual, quick, free = (table.create(name, ["feedback"], rate)[0] for name, rate in
                          (("usual", None), ("quick", 5.0), ("free", 0.0)))  # fmt: skip
    with guarded(access) as client:

        def passed(key: str, route: tuple[str, str] = ROUTES[1]) -> list[int]:
            return [client.ask(route, key).status_code for _ in range(7)]

        assert passed(usual) == [200] * 2 + [429] * 5
        assert passed(quick) == [200] * 5 + [429] * 2
        assert passed(free) == [200] * 7
        reply = client.ask(ROUTES[1], quick)
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
        assert "key 'quick' may make 5 requests a second, 5 at once" in reply.json()["error"]["message"]
        assert client.ask(("GET", "/healthz")).status_code == 200
        now[0] += 1
        assert passed(usual, ROUTES[0]) == [403] * 2 + [429] * 5, "what is refused counts too"
    assert counted(metrics, "rate") == 13


def test_without_keys_the_limit_holds_for_each_address(metrics: Metrics) -> None:
    access = AccessControl(SCOPES_OF_ROUTES, None, RateLimit.of(0.1, 3), metrics, TokenBuckets(clock=lambda: 0.0))
    with guarded(access) as client:
        replies = [client.ask(ROUTES[0]) for _ in range(4)]
        assert [one.status_code for one in replies] == [200, 200, 200, 429]
        assert replies[0].json() == {"asked_by": None}
        assert replies[-1].headers["retry-after"] == "10"
        assert "address 10.0.0.1 may make 0.1 requests a second, 3 at once" in replies[-1].text
        assert client.ask(ROUTES[0], address="10.0.0.7").status_code == 200


def test_a_key_is_in_no_log_line(client: Visitor, table: ApiKeys, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = table.create("shop", ["recommend"])[0]
    for sent in (key, key[:-64] + 64 * "1", "attune_hush"):
        client.ask(ROUTES[1], sent)
    assert not [word for word in (key[-64:], 64 * "1", "hush") if word in caplog.text]


class Fake:
    """A table that can be made unreadable, and counts how often it was read."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = list(keys)
        self.readings: list[float] = []
        self.broken = False
        self.hold: threading.Event | None = None

    def active(self) -> list[ApiKey]:
        self.readings.append(time.monotonic())
        if self.hold is not None:
            self.hold.wait(10)
        if self.broken:
            raise EventLogError("gone")
        return list(self.keys)

    def close(self) -> None:
        pass


def a_key(key_id: str) -> ApiKey:
    return ApiKey(key_id, "shop", frozenset({"recommend"}), digest_of("x"), 0)


@pytest.fixture
def key_cache() -> Iterator[Callable[..., KeyCache]]:
    made: list[KeyCache] = []

    def make(table: Fake, every: float = 60.0) -> KeyCache:
        made.append(KeyCache(lambda: table, every))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_known_keys_go_on_while_the_table_cannot_be_read(
    key_cache: Callable[..., KeyCache], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    table = Fake(a_key("known"))

    async def story() -> None:
        keys = key_cache(table, every=0.1)
        assert await keys.find("known")
        table.broken = True
        with pytest.raises(KeysUnavailable, match="cannot be read"):
            await keys.find("unknown")
        assert await keys.find("known")
        table.broken, table.keys = False, [a_key("unknown")]
        assert await keys.find("unknown")
        assert await keys.find("known") is None

    asyncio.run(story())
    said = [record.getMessage() for record in caplog.records if record.name == "serving.authentication"]
    assert said == [
        "the table of API keys cannot be read; those known before go on: gone",
        "the table of API keys can be read again",
    ]


def test_an_unreadable_table_is_503_in_the_one_shape(metrics: Metrics) -> None:
    def nowhere() -> ApiKeys:
        raise EventLogError("there is no event log")

    with guarded(AccessControl(SCOPES_OF_ROUTES, KeyCache(nowhere), RateLimit.of(0), metrics)) as client:
        reply = client.ask(ROUTES[0], NOBODY)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "cannot be read" in reply.json()["error"]["message"]
    assert counted(metrics, "unreadable") == 1


def test_however_many_unknown_keys_come_the_table_is_read_once_a_second(
    key_cache: Callable[..., KeyCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "PAUSE_SECONDS", PAUSE_SECONDS)
    table = Fake(a_key("known"))

    async def story() -> None:
        keys = key_cache(table)
        until = time.monotonic() + 2.5
        number = 0
        while time.monotonic() < until:
            number += 50
            found = await asyncio.gather(*(keys.find(f"{number + one}") for one in range(50)))
            assert found == [None] * 50
        assert number > 50

    asyncio.run(story())
    gaps = [after - before for before, after in zip(table.readings, table.readings[1:], strict=False)]
    assert gaps
    assert min(gaps) >= PAUSE_SECONDS - 0.05


def test_who_was_refused_once_is_refused_at_once(key_cache: Callable[..., KeyCache]) -> None:
    """A client that goes on with a revoked key costs no reading of the table, and waits for none."""
    table = Fake()

    async def story() -> None:
        keys = key_cache(table)
        assert await keys.find("gone") is None
        readings, began = len(table.readings), time.monotonic()
        assert [await keys.find("gone") for _ in range(1_000)] == [None] * 1_000
        assert (len(table.readings), time.monotonic() - began < 0.5) == (readings, True)

    asyncio.run(story())


def test_more_than_can_wait_are_told_to_come_back(
    key_cache: Callable[..., KeyCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "WAITING", 3)
    table = Fake()
    table.hold = threading.Event()

    async def story() -> None:
        keys = key_cache(table)
        waiting = [asyncio.create_task(keys.find(str(number))) for number in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(KeysUnavailable, match="too many"):
            await keys.find("4")
        waiting[0].cancel()
        table.hold.set()  # type: ignore[union-attr]
        assert [await one for one in waiting[1:]] == [None, None], "one who leaves takes nobody along"
        assert await keys.find("4") is None

    asyncio.run(story())


def test_a_table_that_hangs_ends_in_a_refusal(
    key_cache: Callable[..., KeyCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "WAIT_SECONDS", 0.1)
    table = Fake()
    table.hold = threading.Event()

    async def story() -> None:
        with pytest.raises(KeysUnavailable):
            await key_cache(table).find("k")

    asyncio.run(story())
    table.hold.set()


def test_that_nobody_has_a_key_yet_is_said(
    key_cache: Callable[..., KeyCache], caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.run(key_cache(Fake()).find("k"))
    assert "attune keys create NAME --scope recommend" in caplog.text


def test_a_production_endpoint_without_keys_does_not_start() -> None:
    with pytest.raises(ConfigError, match="ATTUNE_API_KEYS=off the endpoint would let anybody in"):
        AccessControl.of(Settings(profile="production", api_keys="off"), SCOPES_OF_ROUTES, Metrics())


@pytest.mark.parametrize(("given", "status"), [({}, 200), ({"api_keys": "on"}, 401), ({"profile": "production"}, 401)])
def test_the_settings_decide_whether_keys_are_asked_for(url: str, given: dict[str, Any], status: int) -> None:
    settings = Settings(database_url=url, rate_per_second=1.0, **given)
    with guarded(AccessControl.of(settings, SCOPES_OF_ROUTES, Metrics())) as client:
        assert client.ask(ROUTES[0]).status_code == status
        assert client.ask(ROUTES[0]).status_code == (429 if status == 200 else 401)


def test_an_open_endpoint_that_others_can_reach_is_said(caplog: pytest.LogCaptureFixture) -> None:
    AccessControl.of(Settings(api_keys="off", serving_host="0.0.0.0"), SCOPES_OF_ROUTES, Metrics())
    assert "whoever reaches 0.0.0.0 may ask for everything" in caplog.text


def test_the_openapi_page_says_where_a_key_is_taken() -> None:
    app = FastAPI()
    openapi.install(app)
    for router in bare_routers():
        app.include_router(router)
    page = app.openapi()
    assert page["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    secured = {path: way["security"] for path, ways in page["paths"].items() for way in ways.values()}
    assert {path for path, security in secured.items() if security == []} == {"/healthz", "/readyz"}
    assert secured["/v1/popular"] == [{"key": ["recommend"]}, {}], "an installation may ask for no keys"
