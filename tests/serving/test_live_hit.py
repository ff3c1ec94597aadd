"""A hit is felt by everybody at once: no training, no swap, other users' slates."""

import time
from collections.abc import Callable

import pytest

from attune.clock import SECOND
from attune.settings import Settings
from features.feature_store import FeatureStore

FANS = 60


@pytest.fixture
def fans(hearing, clicks) -> None:
    """People who have a history."""
    history = [f"old-{number}" for number in range(5)]
    hearing.log.append([event for fan in range(FANS) for event in clicks(f"fan-{fan}", history)])


@pytest.mark.parametrize("history", [["a-0", "a-1"], []])
def test_a_new_hit_rises_in_another_users_slate_within_a_second(
    hearing, fans, clicks, eventually: Callable, history: list[str]
) -> None:
    hearing.log.append(clicks("listening", history))

    def slate() -> dict[str, tuple[str, float]]:
        """The candidates: who named each, and its score."""
        answer = hearing.recommend("listening", k=10, seed=3)
        assert answer["served_by"] == ("champion" if history else "popularity")
        assert len(answer["items"]) == 10
        return {one.item_id: (one.source, one.score) for one in hearing.slate(answer["slate_id"]).candidates}

    before = slate()
    assert "live" not in {source for source, _ in before.values()}
    catalogue = hearing.components.watcher.champion.bundle.catalogue
    hit = next(item_id for item_id in reversed(catalogue.item_ids) if item_id not in {*before, *history})
    rows = [{"user_id": f"fan-{fan}", "item_id": hit, "kind": "like"} for fan in range(FANS)]
    assert hearing.client.post("/v1/events", json={"events": rows}).status_code == 200
    started = time.monotonic()
    after = eventually(lambda: (found := slate()) and hit in found and found)
    assert time.monotonic() - started < 1.0
    source, score = after[hit]
    assert source == "live"
    assert score > min(score for _, score in before.values()) - 0.2
    for item_id in before.keys() & after.keys():
        assert after[item_id][1] == pytest.approx(before[item_id][1], abs=1e-5)
    eventually(lambda: hearing.metric("attune_item_profile_lag") == 0)


def test_what_a_hit_was_before_the_process_came_is_felt_at_its_start(
    settings: Settings, feature_store: FeatureStore, hearing, fans, run_endpoint, eventually
) -> None:
    rows = [{"user_id": f"fan-{fan}", "item_id": "c-0", "kind": "like"} for fan in range(FANS)]
    hearing.client.post("/v1/events", json={"events": rows})
    with run_endpoint(settings, lambda: feature_store) as another:
        eventually(lambda: another.model_version() == "1")
        live_model = another.components.watcher.champion.live
        place = another.components.watcher.champion.bundle.catalogue.index["c-0"]
        eventually(lambda: live_model.live_1N is not None and live_model.live_1N[0, place] > 0.7)


def test_the_old_history_of_an_import_is_no_hit(hearing, clicks, eventually: Callable) -> None:
    hearing.log.append([event for fan in range(FANS) for event in clicks(f"old-{fan}", ["c-0"], fan * SECOND)])
    eventually(lambda: hearing.components.follower.position == hearing.log.head())
    eventually(lambda: hearing.components.watcher.champion.live.live_1N is not None)
    assert not hearing.components.watcher.champion.live.live_1N.any()
