"""The typed client and a running endpoint understand each other."""

from collections.abc import Iterator

import pytest

from attune.client import Client
from attune.errors import EndpointError


@pytest.fixture(scope="module")
def client(endpoint) -> Iterator[Client]:
    with Client(endpoint.url) as ready:
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
    slate = client.recommend("typed-twice")
    given = (slate.slate_id, "typed-twice", slate.items[0].item_id, "rating", 4)
    first, second = (client.feedback(*given, event_id="typed-twice-1") for _ in range(2))
    assert (first.status, second.status) == ("accepted", "repeated")
    assert second.position == first.position
    (logged,) = endpoint.log.tail("typed-twice", 0)
    assert (logged.event.kind, logged.event.value) == ("rating", 4.0)


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
    rows = [{"user_id": "typed-rows", "item_id": f"a-{number}", "kind": "click"} for number in range(501)]
    rows[3]["kind"] = "clik"
    answer = client.events(rows)
    assert (answer.accepted, answer.repeated, answer.event_ids[3]) == (500, 0, None)
    assert [(one.row, one.field) for one in answer.rejected] == [(3, "kind")]
    assert answer.position == endpoint.log.last_position("typed-rows")


def test_one_bad_row_alone_is_a_rejected_row_too(client: Client) -> None:
    (refused,) = client.events([{"user_id": "u", "item_id": "", "kind": "click"}]).rejected
    assert (refused.row, refused.field) == (0, "item_id")
