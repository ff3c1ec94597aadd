"""POST /v1/feedback and /v1/events: durable when acknowledged, exactly once, and every refusal names its field."""

from concurrent.futures import ThreadPoolExecutor

from attune.clock import MINUTE, system_clock, to_iso
from attune.events import Feedback, Interaction
from features.withdrawal import withdraw


def error(reply) -> tuple[int, str | None]:
    fault = reply.json()["error"]
    assert set(fault) == {"message", "field", "request_id"}
    assert fault["message"]
    return reply.status_code, fault["field"]


def test_feedback_is_in_the_log_when_it_is_acknowledged(endpoint) -> None:
    slate = endpoint.recommend("durable")
    item_id = slate["items"][0]["item_id"]
    reply = endpoint.feedback(slate, item_id, "rating", value=4, event_timestamp="2024-02-03T04:05:06.000007+01:00")
    said = reply.json()
    assert said["status"] == "accepted"
    (logged,) = endpoint.log.tail("durable", 0)
    assert logged.position == said["position"]
    assert logged.event == Feedback(
        event_id=said["event_id"], event_timestamp=1_706_929_506_000_007, user_id="durable", item_id=item_id,
        kind="rating", value=4.0, slate_id=slate["slate_id"],
    )  # fmt: skip


def test_sent_again_it_is_a_repeat(endpoint) -> None:
    slate = endpoint.recommend("twice")
    item_id = slate["items"][0]["item_id"]
    fields = {"event_id": "twice-1", "event_timestamp": "2024-02-03T04:05:06Z"}
    first, second = (endpoint.feedback(slate, item_id, "like", **fields).json() for _ in range(2))
    assert first["status"] == "accepted"
    assert second == {**first, "status": "repeated"}
    assert len(endpoint.log.tail("twice", 0)) == 1


def test_a_retry_that_left_the_time_to_us_is_a_repeat_too(endpoint) -> None:
    slate = endpoint.recommend("retrying")
    item_id = slate["items"][0]["item_id"]
    first, second = (endpoint.feedback(slate, item_id, "like", event_id="retrying-1").json() for _ in range(2))
    assert (first["status"], second["status"]) == ("accepted", "repeated")
    assert first["position"] == second["position"]
    rows = {"events": [{"user_id": "retrying", "item_id": i, "kind": "view", "event_id": f"r-{i}"} for i in "xy"]}
    first, second = (endpoint.client.post("/v1/events", json=rows).json() for _ in range(2))
    assert (first["accepted"], second["accepted"], second["repeated"]) == (2, 0, 2)
    assert first["position"] == second["position"]
    assert second["event_ids"] == ["r-x", "r-y"]


def test_many_at_once_under_one_id_are_one_event(endpoint) -> None:
    slate = endpoint.recommend("hasty")
    item_id = slate["items"][0]["item_id"]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: endpoint.feedback(slate, item_id, "like", event_id="hasty-1"), range(16)))
    assert [reply.status_code for reply in replies] == [200] * 16
    assert sorted(reply.json()["status"] for reply in replies) == ["accepted"] + ["repeated"] * 15
    assert len({reply.json()["position"] for reply in replies}) == 1


def test_the_same_id_with_other_content_is_a_conflict(endpoint) -> None:
    slate = endpoint.recommend("conflicting")
    items = [item["item_id"] for item in slate["items"]]
    assert endpoint.feedback(slate, items[0], "like", event_id="conflict-1").status_code == 200
    assert error(endpoint.feedback(slate, items[0], "dislike", event_id="conflict-1")) == (409, "event_id")
    assert error(endpoint.feedback(slate, items[1], "like", event_id="conflict-1")) == (409, "event_id")
    assert error(endpoint.event("conflicting", items[0], "like", event_id="conflict-1")) == (409, "event_id")
    assert len(endpoint.log.tail("conflicting", 0)) == 1


def test_a_like_can_be_taken_back(endpoint) -> None:
    slate = endpoint.recommend("regretting")
    item_id = slate["items"][0]["item_id"]
    liked = endpoint.feedback(slate, item_id, "like").json()
    assert endpoint.feedback(slate, item_id, "retract", retracts=liked["event_id"]).status_code == 200
    assert error(endpoint.feedback(slate, item_id, "retract")) == (422, "retracts")


def test_a_hidden_item_is_shown_again_once_the_hide_is_taken_back(endpoint) -> None:
    slate = endpoint.recommend("hiding", k=100)
    shown = [item["item_id"] for item in slate["items"]]
    hidden = endpoint.feedback(slate, shown[0], "hide").json()
    assert {item["item_id"] for item in endpoint.recommend("hiding", k=100)["items"]} == set(shown[1:])
    endpoint.feedback(slate, shown[0], "retract", retracts=hidden["event_id"])
    assert {item["item_id"] for item in endpoint.recommend("hiding", k=100)["items"]} == set(shown)


def test_an_invented_slate_or_that_of_another_is_refused(endpoint) -> None:
    slate = endpoint.recommend("owner")
    item_id = slate["items"][0]["item_id"]
    before = endpoint.metric("attune_quarantined_total", field="slate_id")
    for change in ({"slate_id": "invented"}, {"slate_id": slate["slate_id"][:-1]}, {"user_id": "thief"}):
        reply = endpoint.feedback({**slate, **change}, item_id)
        assert error(reply) == (422, "slate_id")
    assert endpoint.log.tail("owner", 0) == []
    assert endpoint.log.tail("thief", 0) == []
    assert endpoint.metric("attune_quarantined_total", field="slate_id") == before + 3


def test_an_item_that_was_not_shown_is_refused(endpoint) -> None:
    slate = endpoint.recommend("precise", k=3)
    endpoint.slate(slate["slate_id"])
    assert error(endpoint.feedback(slate, "no such item")) == (422, "item_id")
    assert endpoint.feedback(slate, slate["items"][2]["item_id"]).status_code == 200


def test_a_signed_slate_that_is_not_in_the_log_yet_is_believed(endpoint) -> None:
    unlogged = {"slate_id": endpoint.components.signer.new_id("early bird"), "user_id": "early bird"}
    assert endpoint.feedback(unlogged, "a-0").json()["status"] == "accepted"


def test_what_is_wrong_with_feedback_is_named(endpoint) -> None:
    slate = endpoint.recommend("wrong")
    item_id = slate["items"][0]["item_id"]
    future = to_iso(system_clock() + 10 * MINUTE)
    for fields, field in [
        ({"kind": "lke"}, "kind"),
        ({"kind": "rating"}, "value"),
        ({"kind": "rating", "value": 6}, "value"),
        ({"value": "4"}, "value"),
        ({"event_timestamp": "2024-02-03T04:05:06"}, "event_timestamp"),
        ({"event_timestamp": 1_700_000_000}, "event_timestamp"),
        ({"event_timestamp": future}, "event_timestamp"),
        ({"event_id": 7}, "event_id"),
        ({"timestamp": "2024-02-03T04:05:06Z"}, "timestamp"),
        ({"item_id": ""}, "item_id"),
        ({"user_id": None}, "user_id"),
    ]:
        row = {"slate_id": slate["slate_id"], "user_id": "wrong", "item_id": item_id, "kind": "like", **fields}
        assert error(endpoint.client.post("/v1/feedback", json=row)) == (422, field)
    assert endpoint.log.tail("wrong", 0) == []
    message = endpoint.feedback(slate, item_id, "lke").json()["error"]["message"]
    assert "did you mean 'like'" in message


def test_bodies_that_are_no_json_are_refused(endpoint) -> None:
    for path in ("/v1/recommend", "/v1/feedback", "/v1/events"):
        for body in (b"", b"{", b"nonsense", b"[]", b"\xff\xfe", b"[" * 100_000):
            assert error(endpoint.client.post(path, content=body)) == (422, "body"), (path, body[:10])


def test_bodies_over_the_limit_are_refused(endpoint) -> None:
    large = b'{"events":[' + b" " * 1_048_576 + b"]}"
    assert error(endpoint.client.post("/v1/events", content=large)) == (413, "body")
    streamed = (large[start : start + 65_536] for start in range(0, len(large), 65_536))
    assert error(endpoint.client.post("/v1/events", content=streamed)) == (413, "body")


def test_events_are_taken_row_by_row(endpoint) -> None:
    quarantined = endpoint.log.quarantined()
    rows = [
        {"user_id": "rows", "item_id": "a-0", "kind": "view"},
        {"user_id": "rows", "item_id": "a-1", "kind": "veiw"},
        {"user_id": "rows", "item_id": "unheard-of", "kind": "purchase", "event_id": "rows-3"},
        {"user_id": 5, "item_id": "a-1", "kind": "view"},
        {"user_id": "rows", "item_id": "unheard-of", "kind": "cart", "event_id": "rows-3"},
    ]
    reply = endpoint.client.post("/v1/events", json={"events": rows})
    said = reply.json()
    assert reply.status_code == 200
    assert (said["accepted"], said["repeated"]) == (2, 0)
    assert [(bad["row"], bad["field"]) for bad in said["rejected"]] == [(1, "kind"), (3, "user_id"), (4, "event_id")]
    assert "did you mean 'view'" in said["rejected"][0]["reason"]
    assert [event_id is not None for event_id in said["event_ids"]] == [True, False, True, False, False]
    logged = endpoint.log.tail("rows", 0)
    assert [one.event.item_id for one in logged if isinstance(one.event, Interaction)] == ["a-0", "unheard-of"]
    assert said["position"] == logged[-1].position
    assert endpoint.log.quarantined() == quarantined + 3


def test_rows_that_are_all_bad_are_reported_and_kept(endpoint) -> None:
    quarantined = endpoint.log.quarantined()
    reply = endpoint.client.post("/v1/events", json={"events": [{}, {}]})
    assert reply.status_code == 200
    assert reply.json()["accepted"] == 0
    assert len(reply.json()["rejected"]) == 2
    assert reply.json()["position"] == 0
    assert endpoint.log.quarantined() == quarantined + 2


def test_a_single_bad_row_is_refused_and_kept(endpoint) -> None:
    quarantined = endpoint.log.quarantined()
    assert error(endpoint.event("single", "a-0", "lke")) == (422, "kind")
    assert endpoint.log.quarantined() == quarantined + 1


def test_a_take_back_reaches_what_a_withdrawn_import_let_stand_again(bare) -> None:
    row = {"user_id": "u", "item_id": "x", "kind": "like", "event_id": "liked"}
    bare.client.post("/v1/events", json={"events": [row]})
    number = bare.log.imports.begin("wrong.csv", {})
    back = Interaction(
        event_id="b", event_timestamp=system_clock(), user_id="u", item_id="x", kind="retract", retracts="liked"
    )
    bare.log.append([back], number)
    withdraw(bare.log, number)
    assert [one["retracted"] for one in bare.client.get("/v1/users/u/state").json()["recent"]] == [False, True]
    row |= {"kind": "retract", "retracts": "liked", "event_id": "unliked"}
    for accepted in (1, 0):
        assert bare.client.post("/v1/events", json={"events": [row]}).json()["accepted"] == accepted
    state = bare.client.get("/v1/users/u/state").json()
    assert ([one["retracted"] for one in state["recent"]], state["seen"]) == ([True, True], 0)
