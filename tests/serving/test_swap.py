"""The model changes without a restart, without a failed request, and never for the worse."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from attune.promotions import bundle_name
from models.bundle import Bundle
from models.registry import Registry
from serving.app import REGISTRY_PATIENCE


def break_file(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def test_a_promotion_is_followed_and_described(bare, install, eventually) -> None:
    before = bare.client.get("/v1/model").json()
    assert (before["served_by"], before["version"], before["config"]) == ("popularity", None, None)
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    install(bare.settings, "second", "2")
    bare.promote("2")
    eventually(lambda: bare.model_version() == "2")
    now = bare.client.get("/v1/model").json()
    assert (now["served_by"], now["previous"], now["items"], now["endpoint"]) == ("champion", "1", 24, "default")
    assert now["config"]["policy"]["name"] == "plackett-luce"
    assert bare.metric("attune_champion_swaps_total") == 2
    assert bare.metric("attune_model_version", version="2", served_by="champion") == 1
    assert 'version="1"' not in bare.client.get("/metrics").text


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json", "manifest.json"])
def test_a_bad_bundle_leaves_the_old_one(bare, install, eventually, name: str) -> None:
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    break_file(install(bare.settings, "second", "2"), name)
    bare.promote("2")
    eventually(lambda: bare.metric("attune_champion_refused_total") >= 1)
    assert bare.metric("attune_champion_stale") == 1
    assert bare.recommend("anyone")["model_version"] == "1"
    install(bare.settings, "second", "3")
    bare.promote("3")
    eventually(lambda: bare.model_version() == "3")
    assert bare.metric("attune_champion_stale") == 0


def poisoned(knn):
    """What stands next to the last item is no number: whoever used that item gets no scores."""
    table = knn.similarity_NN.tolil()
    table[table.shape[0] - 1, 0] = np.nan
    return replace(knn, similarity_NN=sp.csr_matrix(table))


def test_a_bundle_that_fails_on_a_recorded_request_is_refused(bare, make_bundle, install, eventually) -> None:
    install(bare.settings, "first", "1")
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    make_bundle(bare.settings.bundles_folder / "2", 2, (0.5, 0.4, 0.1), "late", poisoned)
    make_bundle(bare.settings.bundles_folder / "3", 2, (0.5, 0.4, 0.1), "late")
    bare.event("victim", "a-1")
    bare.event("victim", "late-3")
    assert bare.recommend("victim", k=3)["model_version"] == "1"
    for number in range(3):
        bare.recommend(f"other-{number}")
    bare.promote("2")
    eventually(lambda: bare.metric("attune_champion_refused_total") >= 2)
    assert bare.metric("attune_champion_stale") == 1
    slate = bare.recommend("victim", k=3)
    assert (slate["model_version"], slate["served_by"], slate["degraded"]) == ("1", "champion", [])
    assert bare.feedback(slate, slate["items"][0]["item_id"]).status_code == 200
    bare.promote("3")
    eventually(lambda: bare.model_version() == "3")
    assert bare.recommend("victim", k=3)["model_version"] == "3"
    assert bare.metric("attune_champion_stale") == 0


def test_the_first_request_after_a_swap_finds_its_vector(bare, install, eventually) -> None:
    for version, name in (("1", "first"), ("2", "second")):
        install(bare.settings, name, version)
    bare.promote("1")
    eventually(lambda: bare.model_version() == "1")
    people = [f"regular-{number}" for number in range(5)]
    for user_id in people:
        bare.event(user_id, "b-2")
        bare.recommend(user_id, where={"genres": "a"})
    bare.promote("2")
    eventually(lambda: bare.model_version() == "2")
    champion = bare.components.watcher.champion
    assert {key[0] for key in champion.vectors} == set(people)
    for user_id in people:
        assert bare.recommend(user_id)["model_version"] == "2"
    assert len(champion.vectors) == len(people), "the network was asked for nobody again"


def test_only_the_bundle_that_was_promoted_answers(bare, bundles, install, eventually) -> None:
    digest = Bundle.load(bundles["second"]).digest
    install(bare.settings, "first", bundle_name("1", digest))
    bare.promote("1", digest)
    eventually(lambda: bare.metric("attune_champion_refused_total") >= 1)
    assert bare.recommend("anyone")["served_by"] == "popularity"
    shutil.rmtree(bare.settings.bundles_folder)
    install(bare.settings, "second", bundle_name("1", digest))
    eventually(lambda: bare.model_version() == "1")


def test_a_version_that_is_no_name_is_refused(bare, eventually) -> None:
    bare.promote("../1")
    eventually(lambda: bare.metric("attune_champion_refused_total") >= 1)
    assert bare.recommend("anyone")["served_by"] == "popularity"


def test_a_bundle_comes_from_the_registry_when_it_is_not_on_disk(
    settings, feature_store, bundles, run_endpoint, eventually
) -> None:
    class Local:
        """A registry that holds two good bundles."""

        def __init__(self) -> None:
            self.asked: list[str] = []

        def download(self, version: str, folder: Path, bundle_digest: str | None = None) -> Path:
            self.asked.append(version)
            return bundles["first"]

    registry = Local()
    with run_endpoint(settings, lambda: feature_store, registry) as ready:
        ready.promote("7")
        eventually(lambda: ready.model_version() == "7")
        broken = settings.bundles_folder / "8"
        broken.mkdir(parents=True)
        ready.promote("8")
        eventually(lambda: ready.model_version() == "8")
    assert registry.asked == ["7", "8"]


def test_with_the_registry_down_the_last_champion_on_disk_answers(
    settings, feature_store, install, run_endpoint, eventually, monkeypatch
) -> None:
    for name, value in REGISTRY_PATIENCE.items():
        monkeypatch.setenv(name, value)
    install(settings, "first", "1")
    install(settings, "second", "2")
    with run_endpoint(settings, lambda: feature_store, Registry("http://127.0.0.1:9")) as ready:
        for version in ("2", "1"):
            ready.promote(version)
            eventually(lambda version=version: ready.model_version() == version)
        ready.promote("9")
        eventually(lambda: ready.metric("attune_champion_refused_total") >= 1)
        assert ready.model_version() == "1"
    with run_endpoint(settings, lambda: feature_store, Registry("http://127.0.0.1:9")) as ready:
        eventually(lambda: ready.model_version() == "1")
        assert ready.recommend("anyone")["model_version"] == "1"
        assert ready.metric("attune_champion_stale") == 1
