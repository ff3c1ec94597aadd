"""A hit is felt by everybody at once: no training, no swap, other users' slates."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from attune.clock import SECOND
from attune.settings import Settings
from features.feature_store import FeatureStore
from models.bundle import Bundle, Provenance, save_bundle
from models.history import HistoryBatch
from models.ranking.policy import PlackettLuce

FANS = 60


def hearing_bundle(first: Path, folder: Path) -> Path:
    """The same model, made to hear what everybody says and to draw from few candidates."""
    bundle = Bundle.load(first)
    golden = HistoryBatch(**{name: bundle._golden[f"batch/{name}"] for name in HistoryBatch.__dataclass_fields__})
    provenance = Provenance({}, bundle.config["window"], bundle.trained_upto, bundle.holdout_after, 1, 0)
    hybrid = replace(bundle.hybrid, live=0.2)
    return save_bundle(folder, hybrid, bundle.catalogue, PlackettLuce(0.1, depth=10), provenance, golden)


@pytest.fixture
def hearing(settings: Settings, feature_store: FeatureStore, bundles, run_endpoint, eventually) -> Iterator:
    """An endpoint with that model."""
    hearing_bundle(bundles["first"], settings.bundles_folder / "1")
    with run_endpoint(settings, lambda: feature_store) as ready:
        ready.promote("1")
        eventually(lambda: ready.model_version() == "1")
        yield ready


@pytest.mark.parametrize("history", [["a-0", "a-1"], []])
def test_a_new_hit_rises_in_another_users_slate_within_a_second(
    hearing, clicks, eventually: Callable, history: list[str]
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
    settings: Settings, feature_store: FeatureStore, hearing, run_endpoint, eventually
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
