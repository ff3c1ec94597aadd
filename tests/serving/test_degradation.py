"""What fails costs as little as it can, is said in the answer, and comes back by itself."""

import shutil
from collections.abc import Sequence
from contextlib import closing, contextmanager

import pysqlite3.dbapi2 as sqlite

from attune.errors import EventLogError
from attune.events import LoggedEvent, User
from attune.user_state import UserState, fold
from features.feature_store import FeatureStore
from serving import state


@contextmanager
def locked(endpoint):
    """Another writer holds the log."""
    connection = sqlite.connect(endpoint.settings.var / "log" / "events.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_locked_log_refuses_feedback_and_recommendations_go_on(bare, clicks) -> None:
    bare.log.append([*clicks("u", "xyz"), *clicks("v", "xyz")])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    slate = bare.recommend("w")
    item_id = slate["items"][0]["item_id"]
    bare.slate(slate["slate_id"])
    with locked(bare):
        reply = bare.feedback(slate, item_id, event_id="kept")
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.json()["error"]["message"]
        assert bare.event("w", item_id).status_code == 503
        during = bare.recommend("w")
        assert during["items"]
        assert during["slate_id"]
        assert bare.log.tail("w", 0) == []
    assert bare.feedback(slate, item_id, event_id="kept").json()["status"] in ("accepted", "repeated")
    assert bare.slate(during["slate_id"]).user_id == "w"
    assert [one.event.event_id for one in bare.log.tail("w", 0)] == ["kept"]


def test_without_the_feature_store_the_log_answers_and_says_so(settings, clicks, run_endpoint, monkeypatch) -> None:
    monkeypatch.setattr(state, "REOPEN_SECONDS", 0.0)
    monkeypatch.setattr(state, "STATS_SECONDS", -1.0)  # nobody is remembered
    with run_endpoint(settings, lambda: FeatureStore(settings)) as ready:
        ready.log.append([*clicks("u", "xy"), *clicks("v", "xyz")])
        ready.components.watcher._popular_at = 0.0
        ready.components.watcher.poll()

        def check(degraded: list[str]) -> None:
            slate = ready.recommend("u")
            assert slate["degraded"] == degraded
            assert slate["state_position"] == 2
            assert [item["item_id"] for item in slate["items"]] == ["z"]

        check(["features"])
        assert ready.metric("attune_fallbacks_total", source="features") == 1
        store = FeatureStore(settings)
        store.apply()
        store.push_states([fold(UserState("u"), ready.log.tail("u", 0)[:1])])
        check([])
        (settings.feast_folder / "online" / "online.db").write_bytes(b"no database at all" * 1_000)
        ready.components.snapshots._store = None
        check(["features"])
        shutil.rmtree(settings.feast_folder)
        FeatureStore(settings).apply()
        check([])


def test_an_unreadable_log_leaves_the_snapshot_and_says_so(bare, monkeypatch) -> None:
    def gone(asked: Sequence[tuple[str, int]], limit: int) -> list[list[LoggedEvent]]:
        raise EventLogError("the log's disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(bare.log, "tails", gone)
        assert bare.recommend("u")["degraded"] == ["event_log"]
    assert bare.recommend("u")["degraded"] == []


def test_readiness_follows_the_log(bare, monkeypatch) -> None:
    def gone() -> int:
        raise EventLogError("the log's disk is gone")

    assert bare.client.get("/readyz").status_code == 200
    with monkeypatch.context() as patch:
        patch.setattr(bare.log, "head", gone)
        reply = bare.client.get("/readyz")
        assert reply.status_code == 503
        assert "event log" in reply.json()["error"]["message"]
        assert bare.client.get("/healthz").status_code == 200


def test_a_full_slate_queue_is_said_and_counted(bare, eventually) -> None:
    bare.components.commit._offered = 1
    with locked(bare):
        first = bare.recommend("u")
        assert first["slate_id"] is not None
        eventually(lambda: bare.recommend("u")["slate_id"] is None)
        assert bare.metric("attune_slates_total", status="refused") >= 1
    assert bare.slate(first["slate_id"]).user_id == "u"
    eventually(lambda: bare.recommend("u")["slate_id"])


def test_a_user_whose_event_nobody_can_read_costs_no_other(bare, clicks) -> None:
    bare.log.append([*clicks("good", "xyz"), User(event_id="later", event_timestamp=1, user_id="bad", attributes={})])
    with closing(sqlite.connect(bare.settings.var / "log" / "events.db", isolation_level=None)) as connection:
        connection.execute('UPDATE events SET payload = \'{"type": "user", "half\' WHERE event_id = \'later\'')
    users = ["good", "bad"] * 8
    reply = bare.client.post("/v1/recommend/batch", json={"requests": [{"user_id": user} for user in users]})
    degraded = [tuple(one["slate"]["degraded"]) for one in reply.json()["answers"]]
    assert degraded == [(), ("event_log",)] * 8


def test_a_snapshot_that_nobody_can_read_costs_no_other_user_theirs(
    settings, clicks, run_endpoint, monkeypatch
) -> None:
    monkeypatch.setattr(state, "STATS_SECONDS", -1.0)  # nobody is remembered
    store = FeatureStore(settings)
    store.apply()
    with run_endpoint(settings, lambda: FeatureStore(settings)) as ready:
        ready.log.append([*clicks("good", "xy"), *clicks("bad", "xy")])
        store.push_states([fold(UserState(user), ready.log.tail(user, 0)) for user in ("good", "bad")])
        with closing(sqlite.connect(settings.feast_folder / "online" / "online.db", isolation_level=None)) as online:
            broken = "UPDATE attune_user_state SET value = x'fffe' WHERE feature_name = 'attributes'"
            assert online.execute(f"{broken} AND instr(entity_key, CAST('bad' AS BLOB))").rowcount == 1
        for _ in range(2):
            answers = ready.client.post(
                "/v1/recommend/batch", json={"requests": [{"user_id": "bad"}, {"user_id": "good"}]}
            )
            degraded = [one["slate"]["degraded"] for one in answers.json()["answers"]]
            assert degraded == [["features"], []]
            assert {one["slate"]["state_position"] for one in answers.json()["answers"]} == {2, 4}
