"""`attune recommend`, `feedback`, `users`, `items` over a real endpoint and event log."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from attune.event_log import EventLog, prepare
from attune.events import Interaction, Item, User
from attune.promotions import Promotions
from attune.settings import Settings
from infra.local_stack import Stack


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory,
    clicks: list[Interaction],
    described: list[Item],
    make_bundle: Callable[[Path, int], Path],
) -> Iterator[Settings]:
    """A state keeper and an endpoint over the small world; version 1 is champion."""
    settings = Settings(var=tmp_path_factory.mktemp("served"), serving_port=0)
    prepare(settings.log_url)
    make_bundle(settings.bundles_folder / "1", 1)
    with closing(EventLog(settings.log_url)) as log:
        log.append(clicks)
        log.append([*described, User(event_id="u", event_timestamp=0, user_id="p1", attributes={"country": "FR"})])
    with closing(Promotions(settings.log_url)) as table, table.lease("default", "test", 60) as lease:
        table.append(lease, "1", "promote", "a test", "test")
    before = dict(os.environ)
    with Stack(settings) as stack:
        stack.start("keeper", "endpoint")
        os.environ.clear()
        os.environ.update(before)
        stack.wait()
        yield stack.settings


@pytest.fixture
def there(attune, served: Settings, monkeypatch: pytest.MonkeyPatch):
    """Runs `attune` where the endpoint runs."""
    monkeypatch.setenv("ATTUNE_VAR", str(served.var))
    monkeypatch.setenv("ATTUNE_SERVING_PORT", str(served.serving_port))
    return attune


@pytest.fixture
def seeded(attune, clicks: list[Interaction], described: list[Item]) -> None:
    """The small world's events under this test's own folder, where no server runs."""
    settings = Settings()
    prepare(settings.log_url)
    with closing(EventLog(settings.log_url)) as log:
        log.append(clicks)
        log.append(described)


def test_a_slate_has_titles_scores_and_an_id(there) -> None:
    status, out, err = there("recommend", "p0", "-k", "3", "--seed", "7")
    assert status == 0
    assert "popular" not in err
    for words in ("for p0, by version 1", "Title of", "score", "attune feedback p0"):
        assert words in out, words
    first, second = (json.loads(there("recommend", "p0", "-k", "3", "--seed", "7", "--json")[1]) for _ in range(2))
    assert first["items"] == second["items"]
    assert (first["served_by"], first["model_version"], len(first["items"])) == ("champion", "1", 3)
    assert first["slate_id"] in there("feedback", "p0", first["items"][0]["item_id"], "like", "--slate",
                                      first["slate_id"], "--json")[1]  # fmt: skip


def test_somebody_unknown_gets_what_is_popular_and_it_is_said(there) -> None:
    status, out, err = there("recommend", "nobody", "-k", "2")
    assert status == 0
    assert "Title of" in out
    assert "nothing is known of user 'nobody'" in err
    assert json.loads(there("recommend", "nobody", "--json")[1])["served_by"] == "popularity"


def test_behaviour_is_felt_at_the_next_recommendation(there) -> None:
    status, out, _ = there("feedback", "fresh", "b-1", "like")
    assert status == 0
    assert "taken: fresh like b-1" in out
    slate = json.loads(there("recommend", "fresh", "--json")[1])
    assert slate["state_position"] > 0
    assert "b-1" not in [item["item_id"] for item in slate["items"]]
    state = json.loads(there("users", "fresh", "--json")[1])
    assert (state["kinds"], state["seen"]) == ({"like": 1}, 1)


def test_feedback_on_a_slate_is_kept_as_such(there, served: Settings) -> None:
    slate = json.loads(there("recommend", "p3", "--json")[1])
    item_id = slate["items"][0]["item_id"]
    status, out, _ = there(
        "feedback", "p3", item_id, "rating", "--value", "4.5", "--slate", slate["slate_id"], "--json"
    )
    taken = json.loads(out)
    assert status == 0
    with closing(EventLog(served.log_url)) as log:
        (logged,) = log.read(taken["position"] - 1, 1)
    assert (logged.event.slate_id, logged.event.value) == (slate["slate_id"], 4.5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("u", "i", "liek"), ("'liek' is unknown", "did you mean 'like'", "dislike", "purchase")),
        (("u", "i", "rating"), ("value: absent", "stars")),
        (("u", "i", "rating", "--value", "11"), ("outside 0.5 to 5",)),
        (("u", " ", "like"), ("item_id",)),
    ],
)
def test_what_the_door_would_turn_away_is_refused_before_anything_starts(attune, arguments, words) -> None:
    status, out, err = attune("feedback", *arguments)
    assert (status, out) == (1, "")
    for word in words:
        assert word in err, word


def test_a_forged_slate_is_refused_with_the_endpoints_reason(there) -> None:
    status, out, err = there("feedback", "p1", "a-1", "like", "--slate", "made.up")
    assert (status, out) == (1, "")
    assert "slate_id" in err


def test_an_item_that_nobody_described_is_taken_with_a_warning(there) -> None:
    status, out, err = there("feedback", "p9", "a-99", "view")
    assert status == 0
    assert "taken" in out
    assert "no item 'a-99' is described" in err


@pytest.mark.parametrize(
    "arguments", [("recommend",), ("recommend", "u", "-k", "0"), ("feedback", "u", "i"), ("nope",)]
)
def test_a_wrong_call_is_status_2(attune, arguments) -> None:
    status, out, err = attune(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: attune" in err


def test_an_endpoint_of_another_log_is_not_asked(attune, served: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that is not there: the command starts its own, says that nothing is trained, and stops it."""
    monkeypatch.setenv("ATTUNE_SERVING_PORT", str(served.serving_port))
    before = set(psutil.Process().children())
    status, out, err = attune("recommend", "p0")
    assert status == 0
    assert "for p0, by popularity" in out
    said = " ".join(err.split())
    assert "serves another event log" in said
    assert "no champion answers yet" in said
    assert "nothing is left to recommend" in said
    assert set(psutil.Process().children()) == before


def test_a_platform_whose_endpoint_is_down_is_said_in_one_line(attune, monkeypatch: pytest.MonkeyPatch) -> None:
    from infra.platform import addresses

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setattr(addresses, "running", lambda settings: settings.model_copy(update={"serving_port": port}))
    status, out, err = attune("recommend", "p0")
    assert (status, out) == (1, "")
    assert f"http://127.0.0.1:{port} does not answer" in err


def test_users_are_listed_latest_first(attune, seeded) -> None:
    found = json.loads(attune("users", "-n", "2", "--json")[1])["users"]
    assert [one["user_id"] for one in found] == ["p59", "p58"]
    status, out, _ = attune("users")
    assert status == 0
    assert "p40" in out
    assert "attune users p59" in out


def test_one_user_is_what_recommendations_are_made_from(there) -> None:
    found = json.loads(there("users", "p1", "-n", "2", "--json")[1])
    assert (found["kinds"], found["seen"], found["attributes"]) == ({"click": 6}, 6, {"country": "FR"})
    assert len(found["recent"]) == 2
    accents = [there("users", name, "--json")[2] for name in ("cafe\u0301", "caf\u00e9")]
    assert accents[0] == accents[1] != "", "one id is asked for, however it is composed"
    assert found["recent"][0]["time"] > found["recent"][1]["time"]
    out = there("users", "p1")[1]
    for words in ("6 click", "items seen", "FR", "Title of b-"):
        assert words in out, words


def test_items_by_popularity_by_title_and_one(attune, seeded) -> None:
    listed = json.loads(attune("items", "-n", "3", "--json")[1])["items"]
    assert len(listed) == 3
    assert listed[0]["people"] >= listed[1]["people"] >= listed[2]["people"]
    assert listed[0]["title"] == f"Title of {listed[0]['item_id']}"
    found = json.loads(attune("items", "--search", "TITLE b-3", "--json")[1])["items"]
    assert [one["item_id"] for one in found] == ["b-3"]
    one = json.loads(attune("items", "b-3", "--json")[1])
    assert (one["attributes"], one["kinds"]) == ({"title": "Title of b-3"}, {"click": one["events"]})
    assert "Title of b-3" in attune("items", "b-3")[1]
    assert "no title holds 'zebra'" in attune("items", "-s", "zebra")[1]
    assert attune("items", "b-3", "-s", "x")[0] == 2


@pytest.mark.parametrize(("command", "words"), [("users", "attune users"), ("items", "--search")])
def test_who_and_what_is_unknown_is_said(attune, seeded, command: str, words: str) -> None:
    status, out, err = attune(command, "nobody")
    assert (status, out) == (1, "")
    assert "'nobody'" in err
    assert words in err


@pytest.mark.parametrize("command", ["users", "items"])
def test_an_empty_log_names_the_first_step(attune, command: str) -> None:
    status, out, err = attune(command)
    assert (status, err) == (0, "")
    assert "attune import" in out
    assert json.loads(attune(command, "--json")[1]) == {command: []}
