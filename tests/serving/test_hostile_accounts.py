"""Nobody steers the rest: what one account, or fifty fresh ones, can do to the slates of newcomers."""

from collections.abc import Callable

import pytest

from attune.influence import MOST_A_MINUTE
from serving import champion
from serving.authentication import EventLimit

NEWCOMERS = range(15)


def send(endpoint, rows: list[dict]) -> list[str]:
    """Up to 1,000 rows in one request; their event ids."""
    reply = endpoint.client.post("/v1/events", json={"events": rows})
    assert reply.json()["accepted"] == len(rows)
    return reply.json()["event_ids"]


def slates(endpoint) -> list[list[str]]:
    """What each newcomer is shown, drawn under a seed of their own."""
    answers = [endpoint.recommend(f"newcomer-{number}", k=10, seed=number) for number in NEWCOMERS]
    return [[item["item_id"] for item in answer["items"]] for answer in answers]


@pytest.mark.parametrize(
    ("accounts", "each", "kind"), [(1, 1_000, "like"), (50, 1, "like"), (1, 1_000, "dislike"), (50, 1, "dislike")]
)
def test_accounts_without_a_history_move_no_slate(
    hearing, eventually: Callable, accounts: int, each: int, kind: str
) -> None:
    before = slates(hearing)
    catalogue = hearing.components.watcher.champion.bundle.catalogue.item_ids
    shown = [item_id for slate in before for item_id in slate]
    target = max(catalogue, key=shown.count) if kind == "dislike" else min(catalogue, key=shown.count)
    rows = [{"user_id": f"fresh-{n}", "item_id": target, "kind": kind} for n in range(accounts) for _ in range(each)]
    send(hearing, rows)
    eventually(lambda: hearing.components.follower.position == hearing.log.head())
    assert slates(hearing) == before
    assert hearing.metric("attune_set_aside_total") == max(each - MOST_A_MINUTE, 0) * accounts


@pytest.fixture
def counting(bare, clicks, monkeypatch: pytest.MonkeyPatch, eventually: Callable) -> tuple:
    """An endpoint without a model, where sixty people clicked on "loved"; and what is popular once all is counted."""
    monkeypatch.setattr(champion, "POPULAR_SECONDS", 0.05)
    bare.log.append([event for person in range(60) for event in clicks(f"person-{person}", ["loved"])])

    def popular(*first: str) -> dict[str, float]:
        """The scores of /v1/popular, once these are the first."""

        def answer() -> dict[str, float] | None:
            items = bare.client.get("/v1/popular", params={"k": 10}).json()["items"]
            scores = {item["item_id"]: item["score"] for item in items}
            return scores if tuple(scores)[: len(first)] == first else None

        return eventually(answer)

    return bare, popular


def test_one_account_with_400_clicks_is_not_first_for_newcomers(counting) -> None:
    endpoint, popular = counting
    send(endpoint, [{"user_id": "pusher", "item_id": "pushed", "kind": "click"} for _ in range(400)])
    assert list(popular("loved", "pushed")) == ["loved", "pushed"]
    firsts = [slate[0] for slate in slates(endpoint)]
    assert firsts == ["loved"] * len(NEWCOMERS)


def test_dislikes_and_impressions_make_nothing_popular(counting) -> None:
    endpoint, popular = counting
    send(endpoint, [{"user_id": f"critic-{n}", "item_id": "hated", "kind": "dislike"} for n in range(60)])
    send(endpoint, [{"user_id": f"passer-{n}", "item_id": "shown", "kind": "impression"} for n in range(300)])
    send(endpoint, [{"user_id": "ada", "item_id": "liked", "kind": "like"}])
    scores = popular("loved", "liked", "hated")
    assert len(scores) == 3
    assert scores["hated"] < scores["liked"]


def test_clicks_that_are_taken_back_count_nothing(counting) -> None:
    endpoint, popular = counting
    rows = [{"user_id": f"fickle-{n}", "item_id": "undone", "kind": "click"} for n in range(400)]
    event_ids = send(endpoint, rows)
    popular("undone", "loved")
    send(endpoint, [row | {"kind": "retract", "retracts": name} for row, name in zip(rows, event_ids, strict=True)])
    send(endpoint, [{"user_id": "ada", "item_id": "liked", "kind": "like"}])
    scores = popular("loved", "liked")
    assert scores.get("undone", -10.0) < scores["liked"]


def test_many_accounts_behind_one_key_have_one_limit(bare) -> None:
    """Each account stays below its own limit; beyond the key's none of a request's rows is taken."""
    object.__setattr__(bare.components.ingestion, "limit", EventLimit(60))
    send(bare, [{"user_id": f"u{number}", "item_id": "pushed", "kind": "like"} for number in range(1_000)])
    head = bare.log.head()
    reply = bare.client.post("/v1/events", json={"events": [{"user_id": "v", "item_id": "pushed", "kind": "like"}] * 9})
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "9")
    assert "may send 60 events a minute" in reply.json()["error"]["message"]
    assert bare.log.head() == head
    assert bare.metric("attune_events_total", type="interaction", status="limited") == 9
