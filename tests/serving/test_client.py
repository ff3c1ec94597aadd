"""The typed client and a running endpoint understand each other."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pysqlite3.dbapi2 as sqlite
import pytest

from attune import client as typed
from attune.client import AsyncClient, Client
from attune.errors import EndpointError


@pytest.fixture(scope="module")
def client(endpoint, connect: Callable[..., Any]) -> Iterator[Client]:
    with connect(endpoint.url) as ready:
        yield ready


def test_a_slate_is_asked_for_and_answered(client: Client, endpoint) -> None:
    assert client.ready()
    assert (client.model().version, client.model().log_id) == ("1", endpoint.log.log_id())
    endpoint.event("typed", "a-0")
    slate = client.recommend("typed", k=3, seed=5, exclude=["b-1"], context={"page": "home"})
    assert [item.position for item in slate.items] == [1, 2, 3]
    assert (slate.served_by, slate.model_version, slate.degraded) == ("champion", "1", [])
    assert slate.items[0].title == f"Title of {slate.items[0].item_id}"
    assert slate.state_position > 0
    assert client.recommend("typed", k=3, seed=5, exclude=["b-1"]).items == slate.items
    assert endpoint.slate(slate.slate_id).context["request"] == {"page": "home"}


def test_feedback_counts_once_however_often_it_is_sent(client: Client, endpoint) -> None:
    user = f"typed-twice-{type(client).__name__}"
    slate = client.recommend(user)
    given = (slate.slate_id, user, slate.items[0].item_id, "rating", 4)
    first, second = (client.feedback(*given, event_id=f"{user}-1") for _ in range(2))
    assert (first.status, second.status) == ("accepted", "repeated")
    assert second.position == first.position
    (logged,) = endpoint.log.tail(user, 0)
    assert (logged.event.kind, logged.event.value) == ("rating", 4.0)


def test_the_catalogue_is_kept(client: Client, endpoint) -> None:
    name = f"typed/{type(client).__name__}"
    put = client.put_item(name, {"genres": ["typed"], "title": "New"})
    assert (put.item_id, put.status) == (name, "accepted")
    assert client.put_item(name, {"genres": ["typed"], "title": "New"}, event_id=put.event_id).status == "repeated"
    only_it = {"where": {"title": "New", "genres": ["typed", "other"]}}
    assert name in [one.item_id for one in client.recommend("catalogue_reader", k=100, **only_it).items]
    changed = client.change_item(name, {"available": False, "title": None})
    assert changed.attributes == {"genres": ["typed"], "available": False}
    retired = client.retire_item(name)
    known = client.item(name)
    assert (known.position, known.shown, known.learned) == (retired.position, False, False)
    assert client.recommend("catalogue_reader", k=100, where={"genres": "typed"}).items == []
    with pytest.raises(EndpointError, match="nothing is known of") as raised:
        client.item("never named")
    assert (raised.value.status, raised.value.field) == (404, "item_id")


def test_a_slate_is_capped(client: Client, endpoint) -> None:
    capped = client.recommend("typed-caps", k=3, at_most={"genres": 1})
    assert sorted(item.item_id[0] for item in capped.items) == ["a", "b", "c"]
    answers = client.recommend_many([{"user_id": "typed-caps", "k": 3, "at_most": {"genres": 1}}]).answers
    assert [len(one.slate.items) for one in answers if one.slate] == [3]
    with pytest.raises(EndpointError, match="whole number") as raised:
        client.recommend("typed-caps", at_most={"genres": 0})
    assert (raised.value.status, raised.value.field) == (422, "at_most.genres")


def test_a_refused_reaction_names_the_field_and_the_reason(client: Client, endpoint) -> None:
    slate = client.recommend("typed-wrong")
    endpoint.slate(slate.slate_id)
    with pytest.raises(EndpointError, match="did you mean 'like'") as raised:
        client.feedback(slate.slate_id, "typed-wrong", slate.items[0].item_id, "liek")
    assert (raised.value.field, raised.value.status) == ("kind", 422)
    with pytest.raises(EndpointError, match="is not on slate") as raised:
        client.feedback(slate.slate_id, "typed-wrong", "nowhere", "like")
    assert raised.value.field == "item_id"


def test_behaviour_is_taken_row_by_row(client: Client, endpoint) -> None:
    user = f"typed-rows-{type(client).__name__}"
    rows = [{"user_id": user, "item_id": f"a-{number}", "kind": "click"} for number in range(501)]
    rows[3]["kind"] = "clik"
    answer = client.events(rows)
    assert (answer.accepted, answer.repeated, answer.event_ids[3]) == (500, 0, None)
    assert [(one.row, one.field) for one in answer.rejected] == [(3, "kind")]
    assert answer.position == endpoint.log.tail(user, 0)[-1].position


def test_one_bad_row_alone_is_a_rejected_row_too(client: Client) -> None:
    (refused,) = client.events([{"user_id": "u", "item_id": "", "kind": "click"}]).rejected
    assert (refused.row, refused.field) == (0, "item_id")


def test_what_is_read_is_typed(client: Client, endpoint) -> None:
    endpoint.event("typed-state", "a-1", "rating", value=4)
    state = client.state("typed-state", limit=1)
    assert (state.recent[0].item_id, state.recent[0].value, state.counts) == ("a-1", 4.0, {"rating": state.events})
    similar = client.similar("a-1", k=3)
    assert (similar.item_id, len(similar.items), similar.model_version) == ("a-1", 3, "1")
    assert -1.0 <= similar.items[0].similarity <= 1.0 + 1e-6
    assert client.popular(k=1).items[0].title
    assert client.popular().counted_by == "champion"


@pytest.mark.parametrize("user_id", ["..", ".", "a/../b", "a%2Fb", "東京", "x/state"])
def test_ids_come_through_addresses_as_they_are(client: Client, user_id: str) -> None:
    assert client.state(user_id).user_id == user_id


def test_many_slates_in_one_call(client: Client) -> None:
    requests = [{"user_id": f"typed-{number}", "k": 3} for number in range(101)]
    requests[4]["k"] = 0
    answers = client.recommend_many(requests).answers
    assert [one.slate and one.slate.user_id for one in answers[3:6]] == ["typed-3", None, "typed-5"]
    assert (answers[4].error.field, len(answers)) == ("k", 101)


def test_what_the_champion_does_not_know_is_an_error_with_its_request(client: Client) -> None:
    with pytest.raises(EndpointError, match="does not know 'nowhere'") as raised:
        client.similar("nowhere")
    assert (raised.value.status, raised.value.field) == (404, "item_id")
    assert raised.value.request_id


@contextmanager
def locked_for(endpoint, seconds: float) -> Iterator[None]:
    """Another writer holds the log for that long."""
    connection = sqlite.connect(
        endpoint.settings.var / "log" / "events.db", isolation_level=None, check_same_thread=False
    )
    connection.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, lambda: connection.execute("ROLLBACK"))
    timer.start()
    try:
        yield
    finally:
        timer.join()
        connection.close()


def test_an_event_that_met_a_locked_log_counts_once(bare, connect: Callable[..., Any], monkeypatch) -> None:
    monkeypatch.setattr(typed, "PAUSE_SECONDS", 0.1)
    with connect(bare.url, retries=5) as client:
        with locked_for(bare, 1.0):
            answer = client.events([{"user_id": "met", "item_id": "a-1", "kind": "click"}])
        assert len(answer.event_ids) == answer.accepted + answer.repeated == 1
    assert bare.metric("attune_requests_total", route="/v1/events", method="POST", status="503") >= 1
    assert [one.event.event_id for one in bare.log.tail("met", 0)] == answer.event_ids


def test_feedback_whose_answer_was_lost_counts_once(bare, connect: Callable[..., Any], clicks) -> None:
    bare.log.append([*clicks("u", "xyz"), *clicks("v", "xyz")])
    bare.components.watcher._popular_at = 0.0
    bare.components.watcher.poll()
    with connect(bare.url, retries=5, timeout=0.2) as client:
        slate = client.recommend("lost")
        bare.slate(slate.slate_id)
        with locked_for(bare, 0.35):  # longer than the client waits, shorter than the endpoint does: it is written
            answer = client.feedback(slate.slate_id, "lost", slate.items[0].item_id, "like")
    assert [one.event.event_id for one in bare.log.tail("lost", 0)] == [answer.event_id]


def test_tasks_share_a_client(endpoint) -> None:
    async def ask() -> list[str]:
        async with AsyncClient(endpoint.url) as client:
            slates = await asyncio.gather(*(client.recommend(f"task-{number}") for number in range(20)))
        return [slate.user_id for slate in slates]

    assert asyncio.run(ask()) == [f"task-{number}" for number in range(20)]
